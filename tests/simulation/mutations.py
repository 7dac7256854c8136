"""Deliberate faults in our own code: each is switched on by a test, and must be found by the invariants."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import msgspec

from nself_deploy.adapters.docker_lock import DockerLock
from nself_deploy.app import deploy as use_cases
from nself_deploy.app import executor, lifecycle, moving, planning, recording, standby, traffic
from nself_deploy.app.world import World
from nself_deploy.core import machine, plan
from nself_deploy.core.model import LABEL_PROJECT, Activate, Role, Slot, Split
from nself_deploy.core.slot_records import SlotRole
from tests.simulation import locks, process, router, seams, store

replace = msgspec.structs.replace

UNSYNCED = 4
"""Commits that a kill loses."""

Mutation = Callable[[], AbstractContextManager[Any]]


async def _no_drain(world: World, slot: Slot, grace_s: float, *, keep: bool) -> str:
    return "not waited for"


def stop_before_drained() -> AbstractContextManager[Any]:
    """The old slot is stopped without waiting for what is in flight."""
    return patch.object(executor.traffic, "drain", _no_drain)


async def _nothing_in_flight(world: World, slot: Slot) -> int:
    return 0


def drain_ignores_flights() -> AbstractContextManager[Any]:
    """Draining takes every answer of the counter for zero."""
    return patch.object(traffic, "_in_flight", _nothing_in_flight)


def _moved_first(steps: tuple[plan.Step, ...]) -> tuple[plan.Step, ...]:
    keys = [s.key for s in steps]
    if "health" not in keys:
        return steps
    health, move = keys.index("health"), keys.index("move")
    return (*steps[:health], steps[move], steps[health], *steps[move + 1 :])


def move_before_health() -> AbstractContextManager[Any]:
    """The planner moves traffic before health is proved."""
    real = planning.make_plan

    def made(*args: Any) -> plan.Plan:
        found = real(*args)
        return replace(found, steps=_moved_first(found.steps))

    return patch.object(use_cases, "make_plan", made)


async def _believed(*args: Any, **rest: Any) -> str:
    return "believed"


def no_proof() -> AbstractContextManager[Any]:
    """Health is taken for granted."""
    return patch.object(executor.proving, "prove_slot", _believed)


def no_watch() -> AbstractContextManager[Any]:
    """Nobody looks at the candidate with the traffic on."""
    return patch.object(executor.lifecycle, "watch_live", _believed)


def hasty_proof() -> AbstractContextManager[Any]:
    """Health is believed at the first look."""
    real = executor.proving.prove_slot

    async def prove(world: World, release: Any, slot: Slot, timeout_s: float, min_uptime_s: float, **rest: Any) -> str:
        return await real(world, release, slot, timeout_s, 0.0, **rest)

    return patch.object(executor.proving, "prove_slot", prove)


def _without(*kinds: str) -> AbstractContextManager[Any]:
    real = store.SimStore.record

    def record(self: store.SimStore, run: Any, what: str, step: str, detail: str = "", **rest: Any) -> int:
        return 0 if what in kinds and not run.ended else real(self, run, what, step, detail, **rest)

    return patch.object(store.SimStore, "record", record)


def forgotten_progress() -> AbstractContextManager[Any]:
    """Neither intents nor outcomes are written down, only how a run begins and ends."""
    return _without("intent", "outcome")


@contextlib.contextmanager
def unsynced_journal() -> Iterator[None]:
    """Commits are acknowledged, and reach the disk a while later: a kill loses the last ones."""
    held: dict[process.Process, list[Any]] = {}

    def saved(self: store.SimStore) -> Any:
        self._process.living()
        return held.get(self._process, [self._disk.saved])[-1]

    def commit(self: store.SimStore, what: str, new: Any) -> None:
        waiting = held.setdefault(self._process, [])
        waiting.append(new)
        synced = waiting.pop(0) if len(waiting) > UNSYNCED else self._disk.saved
        self._process.touch(f"commit: {what}", lambda: setattr(self._disk, "saved", synced))

    real = process.Process.end

    def end(self: process.Process) -> None:
        if self.alive and held.get(self):
            self.world.disk.saved = held[self][-1]
        real(self)

    with (
        patch.multiple(store.SimStore, _saved=property(saved), _commit=commit),
        patch.object(process.Process, "end", end),
    ):
        yield


@contextlib.asynccontextmanager
async def _not_held(world: World, *args: Any, **rest: Any) -> AsyncIterator[None]:
    async with _real_held(world, *args, **rest):
        pass
    yield


_real_held = locks.held


def lock_given_back_early() -> AbstractContextManager[Any]:
    """The lock is taken, and given back before the work."""
    return patch.object(locks, "held", _not_held)


async def _kept(self: Any) -> None:
    """Keep it."""


def lock_leaked() -> AbstractContextManager[Any]:
    """The lock on the engine is never given back."""
    return patch.object(DockerLock, "release", _kept)


def lock_not_exclusive() -> AbstractContextManager[Any]:
    """Who wants the lock doesn't look whether another live process has it."""

    async def judged(self: Any, found: Any, ours: str) -> list[Any]:
        return []

    return patch.object(DockerLock, "_judged", judged)


def reversed_colours() -> AbstractContextManager[Any]:
    """Traffic is moved to the other slot."""
    real = traffic.move

    async def move(world: World, split: Split) -> str:
        return await real(world, Split.all_to(split.base.other))

    return patch.object(executor.traffic, "move", move)


def job_repeated() -> AbstractContextManager[Any]:
    """A job that ended well is run again."""
    real = lifecycle.run_job

    async def run_job(world: World, release: Any, slot: Slot, service: str, timeout_s: float) -> str:
        meta = world.store.meta
        with patch.object(world.store, "meta", lambda key: "" if key.startswith("job-done") else meta(key)):
            return await real(world, release, slot, service, timeout_s)

    return patch.object(executor.lifecycle, "run_job", run_job)


def undo_in_order() -> AbstractContextManager[Any]:
    """Undo steps are walked in the order in which the steps were made."""
    return patch.object(machine, "reversed", lambda steps: steps, create=True)


def traffic_not_taken_back() -> AbstractContextManager[Any]:
    """A failure after the move leaves users on the candidate."""
    return patch.object(plan, "_take_back", lambda *args, **rest: ())


def failure_not_undone() -> AbstractContextManager[Any]:
    """A failed step ends the run at once."""

    def turn_back(run: machine.Run) -> tuple[machine.Run, tuple[Any, ...]]:
        return replace(run, phase=machine.Phase.ENDED), ()

    return patch.object(machine, "_turn_back", turn_back)


def recovery_skips_undo() -> AbstractContextManager[Any]:
    """An interrupted run is declared ended."""

    def resumed(run: machine.Run, event: Any) -> tuple[machine.Run, tuple[Any, ...]]:
        return replace(run, phase=machine.Phase.ENDED, outcome=machine.Outcome.FAILED), ()

    return patch.object(machine, "_resumed", resumed)


def resume_without_proof() -> AbstractContextManager[Any]:
    """A resumed run goes on where it was, and believes old proofs."""
    return patch.object(machine, "_back_to_proof", lambda run: run)


def live_slot_expires() -> AbstractContextManager[Any]:
    """The end of the standby removes the live slot."""
    real = standby.expired_standby

    def expired(*args: Any) -> Slot | None:
        slot = real(*args)
        return slot.other if slot else None

    return patch.object(standby, "expired_standby", expired)


def record_swapped() -> AbstractContextManager[Any]:
    """The record at the end names the wrong slot as live."""
    real = recording._slots

    def slots(effect: Any, now: str) -> dict[Slot, Any]:
        found = real(effect, now)
        live = [s for s, r in found.items() if r.role is SlotRole.LIVE]
        if not live or live[0] is Slot.PLAIN:
            return found
        return {**found, live[0]: found[live[0].other], live[0].other: found[live[0]]}

    return patch.object(recording, "_slots", slots)


@contextlib.contextmanager
def split_not_recorded() -> Iterator[None]:
    """The state file of the split is not kept true."""
    nothing = {"save_split": lambda *a: None}
    with patch.multiple(moving, **nothing), patch.multiple(traffic, **nothing), patch.multiple(recording, **nothing):
        yield


def _removes(more: Callable[[World, Any], bool]) -> AbstractContextManager[Any]:
    real = lifecycle.remove_slot

    async def remove_slot(world: World, slot: Slot) -> str:
        said = await real(world, slot)
        for project in (world.project.name, "other", "other-blue"):
            for container in await world.engine.containers(compose_project=project):
                if more(world, container):
                    await lifecycle._stop_and_remove(world, container)
        return said

    return patch.object(executor.lifecycle, "remove_slot", remove_slot)


def shared_removed() -> AbstractContextManager[Any]:
    """Removing a slot removes shared services too."""
    return _removes(lambda world, c: c.service == "cache")


def neighbour_removed() -> AbstractContextManager[Any]:
    """Removing a slot removes another project's slot."""
    return _removes(lambda world, c: c.labels.get(LABEL_PROJECT) == "other")


def started_before_stopped() -> AbstractContextManager[Any]:
    """A single service is started in the new slot before it is stopped in the old one."""
    real = lifecycle.hand_over

    async def hand_over(world: World, effect: Any, release_of: Any) -> str:
        release = release_of(effect.start_release) if effect.start_release else None
        services = [s for s in (release.apps() if release else ()) if s.activate is Activate.ON_LIVE]
        if release and services and effect.start is not Slot.PLAIN:
            await lifecycle._start(world, release, effect.start, services, 30.0)
        return await real(world, effect, release_of)

    return patch.object(executor.lifecycle, "hand_over", hand_over)


def refused_files_stay() -> AbstractContextManager[Any]:
    """Files that nginx refused stay where it reads them at its next start."""
    real = router.SimRouter._write

    def write(self: router.SimRouter, spec: Any, tree: str) -> None:
        if self._world.disk.tree_print not in self._world.refused:
            real(self, spec, tree)

    return patch.object(router.SimRouter, "_write", write)


def images_by_tag() -> AbstractContextManager[Any]:
    """A slot is compiled with whatever its image's name means now."""
    real = seams.remembered_slot

    def compiled(release: Any, *rest: Any) -> dict[str, Any]:
        model = real(release, *rest)
        services = {k: {**s, "image": "sha256:router"} for k, s in model["services"].items()}
        return {**model, "services": services}

    return patch.object(seams, "remembered_slot", compiled)


def shared_restarted() -> AbstractContextManager[Any]:
    """Preparing networks restarts the shared services."""
    real = lifecycle.prepare_networks

    async def prepare(world: World, release: Any) -> str:
        said = await real(world, release)
        names = {s.name for s in world.project.with_role(Role.SHARED)}
        for container in await lifecycle.plain_containers(world, names):
            await world.engine.stop(container.id, 10.0)
            await world.engine.start(container.id)
        return said

    return patch.object(executor.lifecycle, "prepare_networks", prepare)


MUTATIONS: dict[str, Mutation] = {
    made.__name__: made
    for made in (
        stop_before_drained,
        drain_ignores_flights,
        move_before_health,
        no_proof,
        no_watch,
        hasty_proof,
        forgotten_progress,
        unsynced_journal,
        lock_given_back_early,
        lock_leaked,
        lock_not_exclusive,
        reversed_colours,
        job_repeated,
        undo_in_order,
        traffic_not_taken_back,
        failure_not_undone,
        recovery_skips_undo,
        resume_without_proof,
        live_slot_expires,
        record_swapped,
        split_not_recorded,
        shared_removed,
        neighbour_removed,
        started_before_stopped,
        refused_files_stay,
        images_by_tag,
        shared_restarted,
    )
}
