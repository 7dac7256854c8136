"""How a rollback of one service ended is on record under the lock, and nothing is written over one that runs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from nself_deploy import wiring
from nself_deploy.adapters.journal import Journal
from nself_deploy.adapters.lock import FileLock
from nself_deploy.adapters.system import is_gone, lock_owner
from nself_deploy.app import service_rollback as use_case
from nself_deploy.app.stores import Store
from nself_deploy.app.world import World
from nself_deploy.core.rollback import Request, RollbackUIState, ServiceRollback
from nself_deploy.wiring.service_rollback import By, Outcome, Told, _Rollback, execute, hear, read_state
from tests.unit.serving_scene import a_way_back, deployed, written

REQUEST = Request("web", "prod", "because")
LOADING = ServiceRollback(RollbackUIState.LOADING, "web", "prod", "one", at="2026-11-27T02:00:00.000Z")
FAILED = ServiceRollback(RollbackUIState.ERROR, "web", "prod", error="the engine is away")


def lock(root: Path) -> FileLock:
    return FileLock(root, "prod", lock_owner, is_gone)


async def test_it_is_written_before_the_lock_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = deployed(tmp_path)
    owners = list[object]()
    real = use_case.save_state

    def save(store: Store, state: ServiceRollback) -> None:
        owners.append(lock(tmp_path).owner())
        real(store, state)

    monkeypatch.setattr(use_case, "save_state", save)
    outcome = await execute(str(tmp_path), REQUEST, key, Told())

    assert outcome.state.ui_state is RollbackUIState.EMPTY
    assert owners and None not in owners
    assert lock(tmp_path).owner() is None
    known = read_state(str(tmp_path), REQUEST)
    assert known is not None and known.ui_state is RollbackUIState.EMPTY
    assert (known.error, known.audit_event_id) == (outcome.state.error, outcome.state.audit_event_id)


@pytest.mark.parametrize("runs", [True, False])
def test_one_that_failed_before_it_had_the_lock_is_not_written_over_one(tmp_path: Path, *, runs: bool) -> None:
    deployed(tmp_path)
    with Journal.open(tmp_path) as journal:
        use_case.save_state(journal, LOADING)
    held = lock(tmp_path)
    if runs:
        held.acquire("rollback of web (prod)")
    try:
        _Rollback(str(tmp_path), REQUEST, "", Told(), By(own=True)).keep(Outcome(FAILED))
        known = read_state(str(tmp_path), REQUEST)
    finally:
        held.release()

    assert known is not None
    assert msgspec.structs.replace(known, audit_event_id="") == (LOADING if runs else FAILED)
    with Journal.open(tmp_path, create=False) as journal:
        (event,) = (found for found in journal.events(10) if found.event_type == "rollback")
    assert (event.outcome, event.error) == ("failed", FAILED.error)


def one_back(root: Path) -> None:
    """A rollback of web was done by a process that was killed before it could say so."""
    with wiring.open_journal(root) as journal:
        written(journal, "r-back", a_way_back("one", "two"))
        late = msgspec.structs.replace(journal.history(1)[0], completed_at=wiring.clock().now())
        journal._execute("UPDATE runs SET document = ? WHERE run_id = 'r-back'", msgspec.json.encode(late).decode())


async def test_the_same_request_is_answered_once_with_what_nobody_was_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed(tmp_path)
    one_back(tmp_path)
    known = read_state(str(tmp_path), REQUEST)
    assert known is not None and (known.ui_state, known.heard) == (RollbackUIState.POPULATED, False)
    with wiring.open_journal(tmp_path) as journal:
        world = cast("World", SimpleNamespace(store=journal, clock=wiring.clock()))
        result = use_case.unheard(world, REQUEST)
        assert result is not None and result.run is not None and result.run.id == "r-back"
        assert use_case.unheard(world, Request("api", "prod")) is None
        monkeypatch.setattr(use_case, "UNHEARD_S", 0.0)
        assert use_case.unheard(world, REQUEST) is None  # too late: it is another one
        monkeypatch.undo()
        hear(Outcome(known, result, root=str(tmp_path)))
        assert use_case.unheard(world, REQUEST) is None


def test_nobody_reads_for_ever_that_it_loads(tmp_path: Path) -> None:
    deployed(tmp_path)
    with wiring.open_journal(tmp_path) as journal:
        use_case.save_state(journal, LOADING)
    known = read_state(str(tmp_path), REQUEST)
    assert known is not None and known.ui_state is RollbackUIState.ERROR and "nself deploy resume" in known.error
    one_back(tmp_path)  # whoever ends its run says how

    known = read_state(str(tmp_path), REQUEST)
    assert known is not None and known.ui_state is RollbackUIState.POPULATED
