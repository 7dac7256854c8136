"""Never two at once, in whatever order the steps of those who want the lock on the engine happen."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nself_deploy.adapters.docker_lock import DockerLock
from nself_deploy.core.lock_rules import Found, Generation, Judgement, Life
from tests.unit.lock_model import Machine, Meeting, Volumes, pause, schedules


class LooksUpOnly(DockerLock):
    """Gives way to younger generations alone."""

    async def _judged(self, found: Found, ours: str) -> list[tuple[Generation, Judgement]]:
        mine = found.of(ours)
        judged = await super()._judged(found, ours)
        return [(g, how) for g, how in judged if not mine or g.number > mine.number or how.life is Life.DEAD]


class ClearsFirst(DockerLock):
    """Takes away what the dead left before it has the lock."""

    async def _settled(self) -> Found:
        for one in (await super()._settled()).generations:
            await self._volumes.remove(one.number)
        return Found()


@pytest.mark.parametrize("dead", [0, 1, 2])
def test_two_in_every_order(dead: int) -> None:
    seen = 0
    for order, met in schedules(lambda: Meeting(2, dead), switches=20):
        assert not met.engine.generations, order
        assert met.engine.taken >= 1, order
        seen += 1
    assert seen > 200


@pytest.mark.parametrize("dead", [0, 1])
def test_three_in_every_order_with_a_few_switches(dead: int) -> None:
    for order, met in schedules(lambda: Meeting(3, dead), switches=3):
        assert not met.engine.generations, order
        assert met.engine.taken >= 1, order


@settings(max_examples=500, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["step"] * 9 + ["kill"])), max_size=120),
    dead=st.integers(0, 2),
)
def test_five_in_any_order_some_of_them_killed(steps: list[tuple[int, str]], dead: int) -> None:
    met = Meeting(5, dead)
    for pid, what in steps:
        if what == "kill" and len(met.running) > 1:
            met.kill(pid)
        else:
            met.step(pid)
    met.finish()
    last = Meeting(1)
    last.engine.generations |= met.engine.generations
    last.finish()

    assert last.engine.taken == 1, "a lock of the dead is taken over"
    assert not last.engine.generations


@pytest.mark.parametrize("careless", [LooksUpOnly, ClearsFirst])
def test_a_careless_lock_is_found_out(careless: type[DockerLock]) -> None:
    def make(volumes: Volumes, machine: Machine) -> DockerLock:
        return careless(volumes, machine, "local", None, pause)

    with pytest.raises(AssertionError, match="hold it at once"):
        for _ in schedules(lambda: Meeting(3, 1, make), switches=3):
            pass
