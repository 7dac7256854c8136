"""What `doctor` judges by: the journal's word, the engine's, the router's and the disk's, side by side. Plain data."""

from __future__ import annotations

import msgspec

from nself_deploy.core.addresses import AddressKey
from nself_deploy.core.machine import Run
from nself_deploy.core.model import Activate, Container, Release, Slot, SlotNetwork, Split
from nself_deploy.core.slot_records import SlotRecord
from nself_deploy.core.state import BlueGreenState, RollbackState, StrategyState

SLOTS = (Slot.BLUE, Slot.GREEN)


class Trouble(msgspec.Struct, frozen=True):
    """Why something can't be read or asked."""

    what: str
    remedy: str = ""
    where: str = ""


class RouterFacts(msgspec.Struct, frozen=True):
    """The router."""

    service: str = ""
    """Its Compose service, empty for an nginx of the machine."""
    networks: tuple[str, ...] = ()
    """Compose networks on which it meets routed services; none for an nginx of the machine."""
    trouble: Trouble | None = None
    """Why nothing is known about it."""
    running: bool = False
    mounted: bool = True
    tree: str = ""
    loaded_tree: str = ""
    recording: bool = False
    refused: Trouble | None = None
    """What `nginx -t` says against its files."""
    attached: tuple[str, ...] = ()
    """The engine's names of the networks that its container is on."""


class StateFacts(msgspec.Struct, frozen=True):
    """The JSON files for other programs; None for one that can't be read."""

    unreadable: tuple[Trouble, ...] = ()
    deploy: StrategyState | None = None
    blue_green: BlueGreenState | None = None
    rollback: dict[str, RollbackState] = {}
    """Of the last deploy's target, by service."""


class DiskFacts(msgspec.Struct, frozen=True):
    """What lies below `.nself` and beside it; paths are relative to the project."""

    temp_files: tuple[str, ...] = ()
    """Of writers that died."""
    release_dirs: dict[str, bool] = {}
    """Release id -> whether nothing is in its directory but what we write."""
    slot_files: tuple[tuple[str, Slot], ...] = ()
    """Compiled Compose files that are there."""
    traceback: str = ""
    override: str = ""
    """The generated override where it is missing or differs, empty when it is right (or not known)."""
    override_missing: bool = False


class LockFacts(msgspec.Struct, frozen=True):
    """One lock: the file here, or an object on the engine."""

    where: str
    owner: str = ""
    """Who took it, for what and when, in words; empty when nobody did."""
    held: bool = False
    """Whether its owner lives. An owner that doesn't has left it behind."""


class Facts(msgspec.Struct, frozen=True):
    """One look at everything."""

    project: str
    now: str
    apps: dict[str, Activate] = {}
    """The project's app services."""
    standby_s: float = 600.0
    # The journal.
    journal: Trouble | None = None
    """Why it can't be read; all that follows is empty then."""
    slots: dict[Slot, SlotRecord] = {}
    releases: dict[str, Release] = {}
    """Those of the slots, the containers and the directories that are on record."""
    unfinished: Run | None = None
    last: Run | None = None
    """The newest run that has ended."""
    addresses: dict[AddressKey, int] = {}
    locks: tuple[LockFacts, ...] = ()
    # Traffic.
    split: Split | None = None
    link: Trouble | None = None
    """Why the link can't be understood."""
    router: RouterFacts = RouterFacts()
    # The engine.
    engine: Trouble | None = None
    """Why it can't be asked; all that follows is empty then."""
    containers: tuple[Container, ...] = ()
    """In the slots' Compose projects, or with our labels."""
    plain: tuple[Container, ...] = ()
    """In the project's own Compose project."""
    networks: tuple[SlotNetwork, ...] = ()
    foreign_networks: tuple[str, ...] = ()
    """Names of slot networks that somebody else's networks have."""
    members: dict[str, dict[str, str]] = {}
    """Slot network -> container -> address."""
    # The disk.
    states: StateFacts = StateFacts()
    disk: DiskFacts = DiskFacts()

    @property
    def holder(self) -> LockFacts | None:
        """The lock that somebody holds now."""
        return next((lock for lock in self.locks if lock.held), None)

    @property
    def live(self) -> Slot | None:
        """The slot (blue, green) that gets the requests, by the link."""
        if self.split is None or self.link is not None:
            return None
        slot = self.split.candidate if self.split.percent == 100 else self.split.base
        return slot if slot in SLOTS else None

    @property
    def recorded_live(self) -> tuple[Slot, ...]:
        """Slots (blue, green) that are live by the records."""
        return tuple(s for s in SLOTS if s in self.slots and self.slots[s].role == "live")

    def serves(self, slot: Slot) -> bool:
        """Whether requests may go to the slot. Without a link nginx sends them to blue."""
        return slot is Slot.BLUE if self.split is None else self.split.percent_of(slot) > 0

    def release_in(self, slot: Slot) -> Release | None:
        """The release that is recorded for the slot."""
        record = self.slots.get(slot)
        return self.releases.get(record.release) if record else None
