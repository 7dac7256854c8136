"""What a process keeps on the simulated disk: journal, state files, its other files, and the lock of the kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec

from nself_deploy.core.audit import AuditEvent, Trigger, migrations_overridden, run_events
from nself_deploy.core.journal_records import Entry, EntryKind
from nself_deploy.core.machine import Run
from nself_deploy.core.model import Project, Release, Slot
from nself_deploy.core.slot_records import SlotRecord
from nself_deploy.core.state import BlueGreenState, RollbackState, StrategyState, format_time
from nself_deploy.errors import StateFileError
from tests.simulation import shop
from tests.simulation.disk import Saved
from tests.simulation.process import Process

replace = msgspec.structs.replace


class SimStore:
    """The `Store` port: a commit makes a new value on the disk, or it doesn't."""

    def __init__(self, process: Process, now: Callable[[], str]) -> None:
        self._process = process
        self._disk = process.world.disk
        self._now = now
        self._pending: Saved | None = None
        """What a transaction has made of it so far."""

    @property
    def _saved(self) -> Saved:
        self._process.living()
        return self._disk.saved if self._pending is None else self._pending

    def _commit(self, what: str, saved: Saved) -> None:
        if self._pending is not None:
            self._pending = saved
            return
        self._process.touch(f"commit: {what}", lambda: setattr(self._disk, "saved", saved))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        if self._pending is not None:
            yield
            return
        self._pending = self._saved
        try:
            yield
            saved = self._pending
        finally:
            self._pending = None
        self._commit("together", saved)

    def begin(self, run: Run, slots: Mapping[Slot, SlotRecord] | None = None) -> None:
        saved = self._saved
        if run.id in saved.runs:
            raise ValueError(f"run {run.id} has begun already")
        slots = {**saved.slots, **(slots or {})}
        event = migrations_overridden(run)
        self._commit(
            f"begin {run.id} {run.plan.kind} {run.plan.release} in {run.plan.candidate}",
            replace(
                saved,
                runs={**saved.runs, run.id: run},
                entries={**saved.entries, run.id: ()},
                slots=slots,
                events=saved.events if event is None else {**saved.events, event.id: event},
            ),
        )

    def record(
        self, run: Run, kind: str, step: str, detail: str = "", *, slots: Mapping[Slot, SlotRecord] | None = None
    ) -> int:
        saved = self._saved
        if run.id not in saved.runs:
            raise ValueError(f"run {run.id} never began")
        if kind not in ("intent", "outcome", "note"):
            raise ValueError(f"{kind!r} is no kind of entry")
        known = saved.entries[run.id]
        entries = (*known, Entry(len(known) + 1, self._now(), EntryKind(kind), step, "", detail))
        outcome = kind == "outcome"
        made = run_events(run, self._now(), Trigger.COMMAND, outcome=outcome, number=len(entries))
        self._commit(
            f"{kind} {step} {detail if kind != 'intent' else ''}",
            replace(
                saved,
                runs={**saved.runs, run.id: run},
                entries={**saved.entries, run.id: entries},
                slots={**saved.slots, **(slots or {})},
                events={**saved.events, **{event.id: event for event in made}},
            ),
        )
        if kind == "intent":
            self._process.begun(step)
        return len(entries)

    def unfinished(self) -> Run | None:
        return next((run for run in reversed(self._saved.runs.values()) if not run.ended), None)

    def run(self, run_id: str) -> Run | None:
        return self._saved.runs.get(run_id)

    def ended(self, run_id: str) -> bool:
        known = self.run(run_id)
        return known is not None and known.ended

    def history(self, limit: int = 20) -> list[Run]:
        return list(reversed(self._saved.runs.values()))[: max(limit, 0)]

    def entries(self, run_id: str) -> list[Entry]:
        return list(self._saved.entries.get(run_id, ()))

    def add_event(self, event: AuditEvent) -> AuditEvent:
        saved = self._saved
        known = saved.events.get(event.id) if event.id else None
        if known is not None:
            return known
        event = replace(event, id=event.id or f"{event.event_type}-{self._process.world.number()}")
        self._commit(f"audit {event.id}", replace(saved, events={**saved.events, event.id: event}))
        return event

    def events(self, limit: int = 20) -> list[AuditEvent]:
        return list(reversed(self._saved.events.values()))[: max(limit, 0)]

    def save_release(self, release: Release) -> None:
        known = self._saved.releases.get(release.id)
        if known == release:
            return
        if known is not None:
            raise ValueError(f"release {release.id} is on record with other content")
        saved = self._saved
        self._commit(f"release {release.id}", replace(saved, releases={**saved.releases, release.id: release}))

    def release(self, release_id: str) -> Release | None:
        return self._saved.releases.get(release_id)

    def release_by_fingerprint(self, fingerprint: str) -> Release | None:
        return next((r for r in reversed(self._saved.releases.values()) if r.fingerprint == fingerprint), None)

    def releases(self, limit: int = 100) -> list[Release]:
        return list(reversed(self._saved.releases.values()))[: max(limit, 0)]

    def forget_release(self, release_id: str) -> None:
        saved = self._saved
        releases = {name: r for name, r in saved.releases.items() if name != release_id}
        meta = {key: value for key, value in saved.meta.items() if not key.startswith(f"job-done:{release_id}:")}
        self._commit(f"forget release {release_id}", replace(saved, releases=releases, meta=meta))

    def slots(self) -> dict[Slot, SlotRecord]:
        return dict(sorted(self._saved.slots.items()))

    def set_slots(self, slots: Mapping[Slot, SlotRecord]) -> None:
        words = ", ".join(f"{slot}: {known.role} {known.release}" for slot, known in slots.items())
        self._commit(f"slots {words}", replace(self._saved, slots={**self._saved.slots, **slots}))

    def addresses(self) -> dict[tuple[str, str, int], int]:
        return dict(sorted(self._saved.addresses.items()))

    def save_addresses(self, addresses: Mapping[tuple[str, str, int], int]) -> None:
        if len({(key[0], host) for key, host in addresses.items()}) != len(addresses):
            raise ValueError("two services of one network have the same address")
        self._commit("addresses", replace(self._saved, addresses=dict(addresses)))

    def meta(self, key: str) -> str:
        return self._saved.meta.get(key, "")

    def set_meta(self, key: str, value: str) -> None:
        self._commit(f"{key} = {value}", replace(self._saved, meta={**self._saved.meta, key: value}))

    def close(self) -> None:
        """Nothing is open."""


class SimStates:
    """The `States` port."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._disk = process.world.disk

    def save_deploy(self, state: StrategyState) -> None:
        self._process.touch("deploy.json", lambda: setattr(self._disk, "deploy", replace(state, schema_version=1)))

    def load_deploy(self) -> StrategyState:
        self._process.living()
        return self._disk.deploy or StrategyState()

    def save_blue_green(self, state: BlueGreenState) -> None:
        self._process.touch("bluegreen/state.json", lambda: setattr(self._disk, "blue_green", state))

    def load_blue_green(self) -> BlueGreenState:
        self._process.living()
        return self._disk.blue_green or BlueGreenState()

    def save_rollback(self, environment: str, service: str, state: RollbackState) -> None:
        kept = self._disk.rollback
        self._process.touch(
            f"rollback-state/{environment}/{service}.json", lambda: kept.update({(environment, service): state})
        )

    def load_rollback(self, environment: str, service: str) -> RollbackState:
        self._process.living()
        return self._disk.rollback.get((environment, service)) or RollbackState()


class SimFiles:
    """The `Files` port."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._files = process.world.disk.files

    def slot_file(self, release_id: str, slot: Slot) -> str:
        return f"{shop.ROOT}/.nself/releases/{release_id}/compose.{slot.value}.yaml"

    def write_slot(self, release_id: str, slot: Slot, model: dict[str, Any]) -> str:
        path = self.slot_file(release_id, slot)
        if self._files.get(path) is not model:
            self._process.touch(f"compose.{slot.value}.yaml", lambda: self._files.update({path: model}))
        return path

    def forget_release(self, release_id: str) -> None:
        for slot in (Slot.BLUE, Slot.GREEN):
            path = self.slot_file(release_id, slot)
            if path in self._files:
                self._process.touch(f"remove {path}", lambda path=path: self._files.pop(path))  # type: ignore[misc]

    def write_override(self, model: dict[str, Any]) -> str:
        if self._files.get(shop.OVERRIDE) != model:
            self._process.touch("the override", lambda: self._files.update({shop.OVERRIDE: model}))
        return shop.OVERRIDE

    def override_files(self) -> tuple[str, ...]:
        return (shop.OVERRIDE,) if shop.OVERRIDE in self._files else ()

    def file_hashes(self, project: Project) -> dict[str, str]:
        return {}


class SimRecords:
    """The `JudgeRecords` port. A write that fails may have been half done."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._records = process.world.disk.records

    def write(self, run_id: str, at: int, data: bytes) -> int:
        before = self._records.get(run_id, b"")
        if len(before) < at:
            raise StateFileError(f"has {len(before)} bytes instead of {at}.", "Move it away.")

        def put() -> None:
            self._records[run_id] = before[:at] + data

        self._process.living()
        self._records[run_id] = before[:at] + data[: len(data) // 2]
        self._process.touch(f"record of {run_id}: {len(data)} bytes at {at}", put)
        return at + len(data)

    def read(self, run_id: str) -> bytes | None:
        self._process.living()
        return self._records.get(run_id)

    def runs(self) -> tuple[str, ...]:
        self._process.living()
        return tuple(sorted(self._records))

    def keep(self, newest: int) -> None:
        for run_id in self.runs()[: -newest or None]:
            self._process.touch(f"no record of {run_id} any more", lambda gone=run_id: self._records.pop(gone))


class SimClock:
    """The `Clock` port."""

    def __init__(self, process: Process, epoch: float) -> None:
        self._process = process
        self._epoch = epoch

    def now(self) -> str:
        world = self._process.world
        return format_time(datetime.fromtimestamp(self._epoch + world.now + world.wall_offset, UTC))

    def monotonic(self) -> float:
        return self._process.world.now

    async def sleep(self, seconds: float) -> None:
        await self._process.pause(seconds)
