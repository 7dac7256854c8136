"""How a rollback of one service ended is on record under the lock, and nothing is written over one that runs."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from nself_deploy.adapters.journal import Journal
from nself_deploy.adapters.lock import FileLock
from nself_deploy.adapters.system import is_gone, lock_owner
from nself_deploy.app import service_rollback as use_case
from nself_deploy.app.stores import Store
from nself_deploy.core.rollback import Request, RollbackUIState, ServiceRollback
from nself_deploy.wiring.service_rollback import By, Outcome, Told, _Rollback, execute, read_state
from tests.unit.serving_scene import deployed

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
