"""The lock on the engine over time: heartbeats, watched silence, hands that remove it, machines that sleep."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from nself_deploy.adapters.docker_lock import DockerLock
from nself_deploy.core.lock_rules import Found, Generation, LockOwner
from nself_deploy.core.state import format_time
from nself_deploy.errors import EngineError, Locked

START = datetime(2026, 11, 26, 12, tzinfo=UTC)


class Engine:
    """Volumes and a clock of its own."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.ahead = 0.0
        """How far its clock is ahead."""
        self.locks: dict[int, tuple[str, LockOwner, str]] = {}
        self.beats: dict[tuple[int, int], tuple[str, str]] = {}
        self.away = False
        self.taken_names: set[int] = set()

    async def found(self) -> Found:
        self._ask()
        generations = tuple(
            Generation(n, token, owner, at, self._beats_of(n, token)) for n, (token, owner, at) in self.locks.items()
        )
        known = {(n, count) for g in generations for n, count in [(g.number, c) for c, _ in g.beats]}
        return Found(generations, tuple(sorted(set(self.beats) - known)))

    async def create(self, number: int, token: str, owner: LockOwner) -> None:
        self._ask()
        if number not in self.taken_names:
            self.locks.setdefault(number, (token, owner, self._time()))

    async def beat(self, number: int, token: str, count: int) -> None:
        self._ask()
        self.beats.setdefault((number, count), (token, self._time()))

    async def remove(self, number: int, beat: int = 0) -> bool:
        self._ask()
        if beat:
            return self.beats.pop((number, beat), None) is not None
        return self.locks.pop(number, None) is not None

    async def now(self) -> str:
        self._ask()
        return self._time()

    def _beats_of(self, number: int, token: str) -> tuple[tuple[int, str], ...]:
        return tuple((c, at) for (n, c), (whose, at) in sorted(self.beats.items()) if (n, whose) == (number, token))

    def _ask(self) -> None:
        if self.away:
            raise EngineError("the engine is away.")

    def _time(self) -> str:
        return format_time(START + timedelta(seconds=self.seconds + self.ahead))


class Machine:
    """One of several that use the engine."""

    def __init__(self, engine: Engine, name: str, boot: str = "1") -> None:
        self.engine, self.name, self.boot = engine, name, boot
        self.slept = 0.0
        self.alive = True

    def owner(self, purpose: str) -> LockOwner:
        return LockOwner("user", self.name, 1, f"{self.name}-{self.boot}", purpose, "now", self.name, "space", "1")

    def is_there(self, pid: int, started: str) -> bool:
        return self.alive

    def monotonic(self) -> float:
        return self.engine.seconds

    def since_boot(self) -> float:
        return self.engine.seconds + self.slept


def lock(machine: Machine, while_waiting: Callable[[], Awaitable[None]] | None = None) -> DockerLock:
    async def sleep(seconds: float) -> None:
        machine.engine.seconds += seconds
        if while_waiting is not None:
            await while_waiting()

    return DockerLock(machine.engine, machine, "local", sleep=sleep)


@contextmanager
def refused(engine: Engine) -> Iterator[None]:
    """And nothing of who was refused stays behind."""
    before = dict(engine.locks), set(engine.beats)
    with pytest.raises(Locked, match="user on one"):
        yield
    assert (dict(engine.locks), set(engine.beats)) == before


async def test_a_heartbeat_replaces_the_one_before_and_goes_with_the_lock() -> None:
    engine = Engine()
    one = lock(Machine(engine, "one"))
    await one.acquire("deploy")
    assert not engine.beats
    for count in (1, 2, 3):
        await one.beat()
        assert set(engine.beats) == {(1, count)}
    assert await one.owner() == Machine(engine, "one").owner("deploy")
    await one.release()
    assert not engine.locks and not engine.beats
    await one.beat()
    await one.release()
    assert not engine.beats and await one.owner() is None


async def test_another_machine_is_refused_while_it_beats_and_gets_it_after_the_silence() -> None:
    engine = Engine()
    one, two = lock(Machine(engine, "one")), lock(Machine(engine, "two"))
    await one.acquire("deploy")
    for _ in range(20):
        engine.seconds += 10
        await one.beat()
        with refused(engine):
            await two.acquire("deploy")
    engine.seconds += 89
    with refused(engine):
        await two.acquire("deploy")
    engine.seconds += 1
    await two.acquire("deploy")

    assert two.taken_over == ((Machine(engine, "one").owner("deploy"), "no heartbeat for 90 s"),)
    assert [token for token, *_ in engine.locks.values()] != [] and not engine.beats
    with pytest.raises(Locked, match="was removed while this command ran, and user on two"):
        await one.beat()


async def test_a_clock_that_jumps_kills_nobody_who_beats() -> None:
    engine = Engine()
    one = lock(Machine(engine, "one"))
    await one.acquire("deploy")
    await one.beat()
    engine.ahead = 3600

    async def beats() -> None:
        if engine.seconds > 9:
            await one.beat()

    with pytest.raises(Locked, match="user on one"):
        await lock(Machine(engine, "two"), beats).acquire("deploy")
    await one.beat()


async def test_a_clock_that_goes_back_delays_a_take_over_by_its_time_at_most() -> None:
    engine = Engine()
    await lock(Machine(engine, "one")).acquire("deploy")
    engine.ahead = -3600
    two = lock(Machine(engine, "two"))
    with refused(engine):
        await two.acquire("deploy")
    engine.seconds += 90
    await two.acquire("deploy")


async def test_after_a_restart_a_shorter_silence_is_enough_and_life_still_counts() -> None:
    engine = Engine()
    one = lock(Machine(engine, "one", boot="1"))
    await one.acquire("deploy")
    clone = lock(Machine(engine, "one", boot="2"))  # of the machine, with its id
    engine.seconds += 25
    await one.beat()
    engine.seconds += 25
    with refused(engine):
        await clone.acquire("deploy")
    engine.seconds += 5
    await clone.acquire("deploy")

    assert clone.taken_over[0][1] == "its machine was started anew"


async def test_a_dead_process_in_sight_is_taken_over_at_once_and_a_hanging_one_never() -> None:
    engine, machine = Engine(), Machine(Engine(), "one")
    machine.engine = engine
    await lock(machine).acquire("deploy")
    engine.seconds += 1e6
    with refused(engine):
        await lock(machine).acquire("rollback")
    machine.alive = False
    before = engine.seconds
    two = lock(machine)
    await two.acquire("rollback")

    assert engine.seconds == before and two.taken_over[0][1] == "its process is gone"
    assert list(engine.locks) == [2]


async def test_one_who_gives_it_back_and_ends_while_another_one_looks_is_not_taken_over() -> None:
    class Ending(Machine):
        def is_there(self, pid: int, started: str) -> bool:
            if 2 in self.engine.locks:
                self.engine.locks.pop(1, None)  # given back after its last look, before it asks for the process
            return False

    engine = Engine()
    machine = Ending(engine, "one")
    await lock(machine).acquire("deploy")
    two = lock(machine)
    await two.acquire("rollback")

    assert two.taken_over == () and list(engine.locks) == [2]


async def test_what_a_hand_removed_is_made_again() -> None:
    engine = Engine()
    one = lock(Machine(engine, "one"))
    await one.acquire("deploy")
    await one.beat()
    engine.locks.clear()
    engine.beats.clear()
    await one.beat()
    with refused(engine):
        await lock(Machine(engine, "two")).acquire("deploy")
    engine.locks.clear()
    await one.release()
    assert not engine.beats


async def test_an_engine_that_is_away_does_not_lose_it() -> None:
    engine = Engine()
    one = lock(Machine(engine, "one"))
    await one.acquire("deploy")
    engine.locks.clear()
    engine.away = True
    with pytest.raises(EngineError):
        await one.beat()
    engine.away = False
    await one.beat()
    assert await one.owner() is not None


async def test_it_is_confirmed_after_a_sleep_of_the_machine_only() -> None:
    engine, machine = Engine(), Machine(Engine(), "one")
    machine.engine = engine
    one = lock(machine)
    await one.acquire("deploy")
    engine.seconds += 20
    await one.confirm()
    assert not engine.beats
    machine.slept = 300
    await one.confirm()
    assert list(engine.beats) == [(1, 1)]


async def test_who_slept_through_a_take_over_finds_it_out() -> None:
    engine, machine = Engine(), Machine(Engine(), "one")
    machine.engine = engine
    one, two = lock(machine), lock(Machine(engine, "two"))
    await one.acquire("deploy")
    engine.seconds += 200
    await two.acquire("deploy")
    with pytest.raises(Locked, match="user on two"):
        await one.confirm()
    await one.release()
    assert len(engine.locks) == 1


async def test_strays_are_taken_away_and_names_of_others_are_left_alone() -> None:
    engine = Engine()
    engine.beats = {(1, 1): ("gone", "then"), (4, 7): ("gone", "then")}
    engine.taken_names = {1, 2}
    one = lock(Machine(engine, "one"))
    await one.acquire("deploy")
    assert list(engine.locks) == [3] and not engine.beats


async def test_a_name_that_never_gets_free_is_said() -> None:
    engine = Engine()
    engine.taken_names = set(range(100))
    with pytest.raises(EngineError, match="can't be made"):
        await lock(Machine(engine, "one")).acquire("deploy")


async def test_an_unreadable_owner_lives_as_long_as_any_other() -> None:
    engine = Engine()
    one = lock(Machine(engine, "one"))
    await one.acquire("deploy")
    token, owner, at = engine.locks[1]
    engine.locks[1] = token, msgspec.structs.replace(owner, machine="", boot_id="", pid=0), at
    two = lock(Machine(engine, "two"))
    with pytest.raises(Locked, match="another process"):
        await two.acquire("deploy")
    engine.seconds += 90
    await two.acquire("deploy")
