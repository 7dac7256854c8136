"""What a run can do to the world: one type per effect, as plain data.

Every effect is safe to repeat: performed twice, the second time changes nothing. The journal holds the intent
(the effect itself) before it is performed.
"""

from __future__ import annotations

import msgspec

from nself_deploy.core.model import Slot, Split
from nself_deploy.core.pauses import Limit


class _Effect(msgspec.Struct, frozen=True, tag_field="do"):
    """Base: gives every effect a tag in JSON."""


class PrepareNetworks(_Effect, frozen=True, tag="prepare-networks"):
    """The slot networks exist, addresses are recorded, the router is attached to them."""

    release: str


class StartShared(_Effect, frozen=True, tag="start-shared"):
    """Shared services and the router run; those that run already are left alone."""

    services: tuple[str, ...]
    """In the order in which they start."""
    router: str = ""


class InstallRouter(_Effect, frozen=True, tag="install-router"):
    """nginx runs with the routes of the candidate's release; the split stays what it is (or becomes `initial`)."""

    release: str
    slot: Slot
    initial: Split


class RunJob(_Effect, frozen=True, tag="run-job"):
    """One job of the release has run to its end with status 0, once."""

    release: str
    slot: Slot
    service: str
    timeout_s: float


class StartSlot(_Effect, frozen=True, tag="start-slot"):
    """The release's containers were created in the slot and started (not those that wait for `on-live`)."""

    release: str
    slot: Slot
    timeout_s: float = 30.0
    """How long a service that another one waits for may take to be healthy."""


class ProveHealth(_Effect, frozen=True, tag="prove-health"):
    """Every container of the slot is healthy, and has been so for long enough to be believed."""

    release: str
    slot: Slot
    timeout_s: float
    min_uptime_s: float


class ProbeWarm(_Effect, frozen=True, tag="probe-warm"):
    """The standby answers through the router (no container engine is asked)."""

    release: str
    slot: Slot


class MoveTraffic(_Effect, frozen=True, tag="move-traffic"):
    """The split is in force and was confirmed through the router."""

    split: Split


class WatchLive(_Effect, frozen=True, tag="watch-live"):
    """The slot stayed healthy for a while with the traffic on."""

    release: str
    slot: Slot
    seconds: float


class Smoke(_Effect, frozen=True, tag="smoke"):
    """Requests straight at the candidate's containers were all answered well, before any user reached it."""

    release: str
    slot: Slot
    probes: int


class Judge(_Effect, frozen=True, tag="judge"):
    """The candidate was watched under its share, and may be given the next one. Goes on where it was cut short."""

    slot: Slot
    percent: int
    """Its share now."""
    hold_s: float
    """How long it keeps this share at least."""
    next_percent: int
    pause: Limit | None = None
    """A pause after that, as it was asked for; 0 seconds: without an end. None: there is none."""


class Bake(_Effect, frozen=True, tag="bake"):
    """The release served everybody for a while, without failing more than allowed. Goes on where it was cut short."""

    slot: Slot
    seconds: float


class HandOver(_Effect, frozen=True, tag="hand-over"):
    """Services that run only in the live slot were stopped in one and started in the other, in that order."""

    stop: Slot
    start: Slot
    stop_release: str
    start_release: str


class Drain(_Effect, frozen=True, tag="drain"):
    """Nothing is in flight to the slot any more, or the grace time is over and what lingered was closed properly."""

    slot: Slot
    grace_s: float
    keep: bool
    """Whether the slot stays warm afterwards; lingering connections are then closed by restarting their containers."""


class RemoveSlot(_Effect, frozen=True, tag="remove-slot"):
    """The slot's containers are stopped (with each service's own grace) and removed; networks and volumes stay."""

    slot: Slot


class RetirePlain(_Effect, frozen=True, tag="retire-plain"):
    """The app containers of a plain stack are gone, and plain Compose will not start them again."""

    services: tuple[str, ...]


class KeepWarm(_Effect, frozen=True, tag="keep-warm"):
    """The slot is the standby until `seconds` from now."""

    slot: Slot
    seconds: float


class Record(_Effect, frozen=True, tag="record"):
    """Slots, state files and history say how it ended. The last effect of every run."""

    live: Slot | None
    live_release: str
    standby: Slot | None = None
    standby_release: str = ""
    standby_s: float = 0.0


Preparing = PrepareNetworks | StartShared | InstallRouter | RunJob
"""What has to be there before a slot starts."""
Bringing = StartSlot | ProveHealth | ProbeWarm | MoveTraffic | WatchLive | HandOver
"""What brings a slot live."""
Judging = Smoke | Judge | Bake
"""What finds out how good a candidate is."""
Ending = Drain | RemoveSlot | RetirePlain | KeepWarm | Record
"""What ends an old slot, and the run."""
Effect = Preparing | Bringing | Judging | Ending
