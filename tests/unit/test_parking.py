"""A run that waits for a person: written down as such, told, and decided about by that person alone."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nself_deploy.app import recovery
from nself_deploy.app.recovery import parked_error, recover
from nself_deploy.app.runner import Runner
from nself_deploy.app.world import World, nothing
from nself_deploy.core import effects as do
from nself_deploy.core import machine
from nself_deploy.core.machine import Outcome, Phase, Run, new_run
from nself_deploy.core.model import Slot, Split
from nself_deploy.core.recovery import Standing, Wish
from nself_deploy.errors import Parked
from tests.unit.test_machine_canary import a_plan


class Written:
    """A journal in memory, with the router's link beside it."""

    def __init__(self) -> None:
        self.now: Run = new_run("r", a_plan(bake_s=0.0), "t")
        self.kinds: list[str] = []
        self.words: dict[str, str] = {}
        self.split = Split.all_to(Slot.BLUE)
        self.judged: list[str] = []
        self.back = False
        self.parks = True

    def record(self, run: Run, kind: str, _step: str, detail: str = "") -> int:
        self.now = run
        self.kinds.append(f"{kind} {run.phase}")
        return len(self.kinds)

    async def perform(self, effect: do.Effect, _run: Run) -> str:
        if isinstance(effect, do.MoveTraffic):
            self.split = effect.split
        if isinstance(effect, do.Judge) and self.parks:
            error = Parked("inconclusive at 10 %: too few requests", "resume or abort", evidence=("0 of 330",))
            error.verdict, error.back = "inconclusive", self.back
            raise error
        return "done"

    @property
    def world(self) -> World:
        async def sleep(_seconds: float) -> None:
            await asyncio.sleep(0)

        store = SimpleNamespace(
            record=self.record,
            ended=lambda _: self.now.ended,
            unfinished=lambda: None if self.now.ended else self.now,
            meta=lambda key: self.words.get(key, ""),
            set_meta=self.words.__setitem__,
        )
        return cast(
            "World",
            SimpleNamespace(
                store=store,
                clock=SimpleNamespace(sleep=sleep, now=lambda: "2026-11-22T00:01:00Z"),
                still_ours=nothing,
                watcher=lambda line: None,
                progress=lambda text: None,
                user="ann",
            ),
        )

    async def run(self, event: machine.Event) -> Run:
        return await Runner(self.world, self.perform, asyncio.Event()).run(self.now, event)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Written:
    made = Written()

    async def standing(_world: World, _run: Run) -> Standing:
        return Standing(made.split, candidate_healthy=True)

    monkeypatch.setattr(recovery, "standing", standing)
    monkeypatch.setattr(recovery, "Executor", lambda _world: SimpleNamespace(perform=made.perform))
    return made


async def test_it_is_written_down_and_ends_the_loop(written: Written) -> None:
    run = await written.run(machine.Begin())

    assert run.phase is Phase.PARKED and written.kinds[-1] == "outcome parked"
    assert run.parking is not None and run.parking.verdict == "inconclusive"
    assert written.split == Split(Slot.BLUE, Slot.GREEN, 10, shielded=True)
    error = parked_error(run)
    assert "is parked: inconclusive at 10 %" in error.what and error.evidence == ("0 of 330",)


async def test_users_are_back_before_it_waits_without_them(written: Written) -> None:
    written.back = True
    run = await written.run(machine.Begin())

    assert run.phase is Phase.PARKED and written.split == Split.all_to(Slot.BLUE)


@pytest.mark.parametrize("back", [False, True])
async def test_the_next_deploy_leaves_it_alone(written: Written, back: bool) -> None:
    written.back = back
    await written.run(machine.Begin())
    before = list(written.kinds)
    with pytest.raises(Parked, match="is parked"):
        await recover(written.world, asyncio.Event(), Wish.ONWARD)

    assert written.kinds == before


async def test_users_are_taken_back_by_whoever_finds_that_this_was_cut_short(written: Written) -> None:
    await written.run(machine.Begin())
    parking = machine.Parking("both fail", "hold", back=True)
    forward = machine.advance(written.now, machine.Resumed(finish=True))[0]
    while (step := forward.current()) is not None and step.key != "judge:10":
        forward = machine.advance(forward, machine.Done())[0]
    written.now = machine.advance(forward, machine.Park(parking))[0]
    assert written.now.phase is Phase.PARKING
    with pytest.raises(Parked):
        await recover(written.world, asyncio.Event(), Wish.ONWARD)

    assert written.now.phase is Phase.PARKED and written.split == Split.all_to(Slot.BLUE)


async def test_a_person_resumes_it_or_it_waits_again(written: Written) -> None:
    await written.run(machine.Begin())
    waits = await recover(written.world, asyncio.Event(), Wish.RESUME)
    assert waits is not None and waits.run.waits and waits.run.parking is not None
    written.parks = False
    found = await recover(written.world, asyncio.Event(), Wish.RESUME)

    assert found is not None and found.run.outcome is Outcome.DONE
    assert written.split == Split.all_to(Slot.GREEN)


async def test_a_person_aborts_it(written: Written) -> None:
    await written.run(machine.Begin())
    found: Any = await recover(written.world, asyncio.Event(), Wish.ABORT)

    assert found.run.outcome is Outcome.INTERRUPTED and found.run.rolled_back
    assert written.split == Split.all_to(Slot.BLUE)
