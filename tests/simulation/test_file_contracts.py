"""The simulated disk and the real one keep the same promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from nself_deploy.adapters.journal import Journal
from nself_deploy.adapters.judge_record import RecordFiles
from nself_deploy.adapters.lock import FileLock
from nself_deploy.adapters.state_files import StateFiles
from nself_deploy.adapters.system import lock_owner
from nself_deploy.app.ports import JudgeRecords, Lock
from nself_deploy.app.stores import Files, States, Store
from nself_deploy.wiring import Files as RealFiles
from tests.simulation import contracts, shop
from tests.simulation.locks import SimLock
from tests.simulation.process import Process
from tests.simulation.shocks import shock
from tests.simulation.store import SimFiles, SimRecords, SimStates, SimStore
from tests.simulation.world import SimWorld


class RealDisk:
    """A directory."""

    def __init__(self, root: Path, opened: ExitStack) -> None:
        self._root, self._opened = root, opened
        (root / "compose.yaml").write_text("services: {}\n")

    def store(self) -> Store:
        return self._opened.enter_context(closing(Journal.open(self._root)))

    def states(self) -> States:
        return StateFiles(self._root)

    def files(self) -> Files:
        return RealFiles(self._root)

    def records(self) -> JudgeRecords:
        return RecordFiles(self._root)

    def lock(self) -> Lock:
        return FileLock(self._root, "local", lock_owner)


class SimDisk:
    """The same, simulated."""

    def __init__(self) -> None:
        self.world = SimWorld(0, shop.Shape())

    def close(self) -> None:
        self.world.loop.close()

    def _process(self) -> Process:
        return Process(self.world, "contract", (), shock)

    def store(self) -> Store:
        return SimStore(self._process(), lambda: contracts.NOW)

    def states(self) -> States:
        return SimStates(self._process())

    def files(self) -> Files:
        return SimFiles(self._process())

    def records(self) -> JudgeRecords:
        return SimRecords(self._process())

    def lock(self) -> Lock:
        return SimLock(self._process())


@pytest.fixture(params=["simulated", "real"])
def bed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[contracts.FileBed]:
    with ExitStack() as opened:
        yield RealDisk(tmp_path, opened) if request.param == "real" else opened.enter_context(closing(SimDisk()))


@pytest.mark.parametrize("promise", contracts.FILE_CONTRACTS, ids=lambda promise: promise.__name__)
def test_files_keep_the_promise(promise: Callable[[contracts.FileBed], None], bed: contracts.FileBed) -> None:
    promise(bed)


@pytest.fixture
def simulated() -> Iterator[SimDisk]:
    with closing(SimDisk()) as made:
        yield made


def test_a_full_simulated_disk_changes_nothing(simulated: SimDisk) -> None:
    contracts.a_full_disk_changes_nothing(simulated, lambda: setattr(simulated.world.disk, "full", 1))


def test_a_killed_holder_leaves_its_name_and_no_lock(simulated: SimDisk) -> None:
    process = Process(simulated.world, "victim", (), shock)
    SimLock(process).acquire("deploy")

    process.die()
    lock = simulated.lock()
    lock.acquire("rollback")

    assert lock.previous is not None and lock.previous.pid == process.pid
