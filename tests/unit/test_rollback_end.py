"""The end of a rollback: what the circuit breakers remember of it, and which environment a person's one is for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from nself_deploy.adapters.journal import Journal
from nself_deploy.app import breaker
from nself_deploy.app.rollback_end import settle
from nself_deploy.app.service_rollback import load_state
from nself_deploy.cli import main as program
from nself_deploy.core.breaker import Allowed, Refusal, Refused
from nself_deploy.core.machine import Outcome, Phase, new_run
from nself_deploy.core.moments import Moment
from nself_deploy.core.plan import Cause, Plan
from nself_deploy.core.rollback import RollbackUIState
from nself_deploy.core.service_release import version_of
from nself_deploy.wiring.way_back import deployed_to
from tests.unit.serving_scene import DEPLOYED, a_deploy, a_way_back, deployed, version, written

ENDED, LATER = (Moment(f"2026-11-27T12:0{n}:00.000Z", "one", 60.0 * n) for n in range(2))
RELEASES = {name: version(name) for name in ("one", "two")}
PLAN = msgspec.structs.replace(a_way_back("one", "two"), cause=Cause())
APPS = sorted(service.name for service in RELEASES["two"].apps())


def ends(journal: Journal, outcome: Outcome, plan: Plan = PLAN, name: str = "r") -> None:
    """A rollback ends in this way."""
    settle(journal, msgspec.structs.replace(new_run(name, plan, DEPLOYED), phase=Phase.ENDED, outcome=outcome), ENDED)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path) as journal:
        for release in RELEASES.values():
            journal.save_release(release)
        yield journal


def again(journal: Journal, service: str) -> Allowed | Refused:
    """A watcher wants the version that was left."""
    one, two = (version_of(RELEASES[name], service) for name in ("one", "two"))
    return breaker.ask(journal.guards, "prod", service, one, two, LATER)


def test_no_watcher_brings_back_what_a_person_left(journal: Journal) -> None:
    ends(journal, Outcome.DONE)
    lines = breaker.status(journal.guards, LATER)
    answers = [again(journal, service) for service in APPS]

    assert [(line.environment, line.service, line.rollbacks) for line in lines] == [("prod", name, 1) for name in APPS]
    assert [a.refusal for a in answers if isinstance(a, Refused)] == [Refusal.BACK_AND_FORTH] * len(APPS)


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.INTERRUPTED])
def test_a_rollback_that_failed_left_nothing_but_counts(journal: Journal, outcome: Outcome) -> None:
    ends(journal, outcome)
    lines = breaker.status(journal.guards, LATER)

    assert {line.rollbacks for line in lines} == {1}
    assert all(isinstance(again(journal, service), Allowed) for service in APPS)


def test_what_is_not_on_record_or_does_not_change_is_not_counted(journal: Journal) -> None:
    ends(journal, Outcome.DONE, a_way_back("gone", "two"))
    ends(journal, Outcome.DONE, a_way_back("two", "two"))

    assert breaker.status(journal.guards, LATER) == []


def test_one_of_a_service_counts_for_it_alone_and_once_however_often_it_is_tried(journal: Journal) -> None:
    plan = msgspec.structs.replace(PLAN, cause=Cause("web", "burns", "night", attempt="x1"))
    ends(journal, Outcome.FAILED, plan, "r1")
    ends(journal, Outcome.DONE, plan, "r2")
    known, state = journal.guards.breakers(), load_state(journal, "prod", "web")

    assert [(b.service, [(turn.id, turn.outcome) for turn in b.turns]) for b in known] == [("web", [("x1", "done")])]
    assert state is not None and state.ui_state is RollbackUIState.POPULATED
    assert (state.prior_version, state.audit_event_id) == ("one", "r2-rollback")


def test_a_breaker_that_can_not_be_read_hinders_no_end(journal: Journal) -> None:
    ends(journal, Outcome.DONE)
    journal._execute("UPDATE breakers SET record = '[]'")
    ends(journal, Outcome.FAILED, msgspec.structs.replace(PLAN, cause=Cause("web")))

    state = load_state(journal, "prod", "web")
    assert state is not None and state.ui_state is RollbackUIState.ERROR


def test_it_is_for_the_environment_of_the_last_deploy(tmp_path: Path) -> None:
    assert deployed_to(str(tmp_path)) is None
    (tmp_path / "compose.yaml").write_text("services: {web: {image: web}}\n")
    assert deployed_to(str(tmp_path)) is None
    with Journal.open(tmp_path) as journal:
        written(journal, "run-1", a_deploy("one", "", "prod"))
        written(journal, "run-2", a_deploy("two", "one", "staging"))
        written(journal, "run-3", a_way_back("one", "two", target="local"))

    assert deployed_to(str(tmp_path)) == "staging"
    (tmp_path / "below").mkdir()
    assert deployed_to(str(tmp_path / "below")) in (None, "staging")


def test_without_a_target_prod_needs_a_yes_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deployed(tmp_path)

    assert program.main(["deploy", "rollback", "-C", str(tmp_path)]) == 4
    assert "prod needs a yes." in capsys.readouterr().err
