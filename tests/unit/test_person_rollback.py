"""`nself deploy rollback` by a person: which environment it is for, and what the circuit breakers remember of it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from nself_deploy.adapters.journal import Journal
from nself_deploy.app import breaker
from nself_deploy.app.person_rollback import PersonTurns
from nself_deploy.cli import main as program
from nself_deploy.core.breaker import Allowed, Refusal, Refused
from nself_deploy.core.machine import Outcome, Phase, Run, new_run
from nself_deploy.core.moments import Moment
from nself_deploy.core.service_release import version_of
from nself_deploy.wiring.way_back import deployed_to
from tests.unit.serving_scene import DEPLOYED, a_deploy, a_way_back, deployed, version, written

BEGAN, ENDED, LATER = (Moment(f"2026-11-27T12:0{n}:00.000Z", "one", 60.0 * n) for n in range(3))
RELEASES = {name: version(name) for name in ("one", "two")}
PLAN = a_way_back("one", "two")
APPS = sorted(service.name for service in RELEASES["two"].apps())


def ended(outcome: Outcome) -> Run:
    return msgspec.structs.replace(new_run("r", PLAN, DEPLOYED), phase=Phase.ENDED, outcome=outcome)


def again(journal: Journal, service: str) -> Allowed | Refused:
    """A watcher wants the version that was left."""
    one, two = (version_of(RELEASES[name], service) for name in ("one", "two"))
    return breaker.ask(journal.guards, "prod", service, one, two, LATER)


def test_no_watcher_brings_back_what_a_person_left(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        turns = PersonTurns(journal.guards, RELEASES.get, "p1")
        turns.begin(PLAN, BEGAN)
        turns.begin(PLAN, BEGAN)
        turns.end(ended(Outcome.DONE), ENDED)
        lines = breaker.status(journal.guards, LATER)
        answers = [again(journal, service) for service in APPS]

    assert [(line.environment, line.service, line.rollbacks) for line in lines] == [("prod", name, 1) for name in APPS]
    assert [a.refusal for a in answers if isinstance(a, Refused)] == [Refusal.BACK_AND_FORTH] * len(APPS)


@pytest.mark.parametrize("run", [ended(Outcome.FAILED), None])
def test_a_rollback_that_failed_left_nothing_but_counts(tmp_path: Path, run: Run | None) -> None:
    with Journal.open(tmp_path) as journal:
        turns = PersonTurns(journal.guards, RELEASES.get, "p1")
        turns.begin(PLAN, BEGAN)
        turns.end(run, ENDED)
        lines = breaker.status(journal.guards, LATER)

        assert {line.rollbacks for line in lines} == {1}
        assert all(isinstance(again(journal, service), Allowed) for service in APPS)


def test_what_is_not_on_record_or_does_not_change_is_not_counted(tmp_path: Path) -> None:
    same = {"one": RELEASES["two"], "two": RELEASES["two"]}
    with Journal.open(tmp_path) as journal:
        for releases in ({}, same):
            turns = PersonTurns(journal.guards, releases.get, "p1")
            turns.begin(PLAN, BEGAN)
            turns.end(ended(Outcome.DONE), ENDED)

        assert breaker.status(journal.guards, LATER) == []


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
