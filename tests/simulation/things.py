"""What the simulated world is made of: containers with a life of their own, networks, and how images behave."""

from __future__ import annotations

from typing import Any

import msgspec

from nself_deploy.core.model import Container, Slot

HEALTHCHECK_S = 0.15
"""How long after a change Docker's health knows of it."""
WATCHED_S = 3.0
"""Between two looks at a container that is being watched."""
BACKOFF_S = 0.4
"""From the end of a container to its next start."""


class Behaviour(msgspec.Struct, frozen=True):
    """What a container of an image does; times in seconds of its age, None for never."""

    boot_s: float = 0.25
    """Until it serves."""
    ends_s: float | None = None
    exit_code: int = 1
    hangs_s: float | None = None
    flap_s: float | None = None
    """It serves and doesn't serve in turns of this length."""
    dies_under_traffic_s: float | None = None
    hangs_under_traffic_s: float | None = None


GOOD = Behaviour()


class Thing:
    """One container, as it really is."""

    def __init__(self, name: str, number: int, project: str, service: str, **rest: Any) -> None:
        self.name = name
        self.id = f"{number:08x}"
        self.project = project
        self.service = service
        self.replica: int = rest.pop("replica", 1)
        self.slot: Slot = rest.pop("slot", Slot.PLAIN)
        self.release: str = rest.pop("release", "")
        self.image: str = rest.pop("image", "")
        self.labels: dict[str, str] = rest.pop("labels", {})
        self.addresses: dict[str, str] = rest.pop("addresses", {})
        self.restarts: bool = rest.pop("restarts", True)
        self.checked: bool = rest.pop("checked", True)
        """Whether it has a healthcheck."""
        self.config: Any = rest.pop("config", None)
        self.behaviour: Behaviour = rest.pop("behaviour", GOOD)
        assert not rest, rest
        self.state = "created"
        self.started = -1.0
        self.exit_code = 0
        self.restart_count = 0
        self.starter = ""
        """Who caused the present run: `us`, `world`."""
        self.stopper = ""
        self.traffic_since: float | None = None
        self.had_traffic = False
        self.first_ok: float | None = None
        """When somebody of ours first saw it healthy in this run, and when last."""
        self.last_ok = -1.0
        self.proved_before = False
        """Users were sent to it before."""
        self.by_hand = False
        """A person made it, and put our labels on it."""
        self.replaces = False
        """Its run takes the place of one that somebody else ended while users were on it."""
        self.well_when_stopped = False
        self.hung = False

    def start(self, now: float, who: str) -> None:
        """Run it."""
        self.hung = False
        self.state, self.started, self.starter = "running", now, who
        self.first_ok, self.last_ok, self.exit_code, self.stopper = None, -1.0, 0, ""

    def stop(self, who: str, now: float, code: int = 0) -> None:
        """End it for good (until somebody starts it)."""
        well = self.serves(now)
        if self.state in ("running", "restarting"):
            self.state, self.exit_code = "exited", code
            self.well_when_stopped, self.stopper = well, who

    def hang(self) -> None:
        """From now on it answers nothing, until it is started again."""
        self.hung = True

    def _end(self) -> float | None:
        """When this run ends by itself."""
        how, ends = self.behaviour, []
        if how.ends_s is not None:
            ends.append(self.started + how.ends_s)
        if how.dies_under_traffic_s is not None and self.traffic_since is not None:
            ends.append(max(self.started, self.traffic_since) + how.dies_under_traffic_s)
        return min(ends) if ends else None

    def live(self, now: float) -> None:
        """Let happen what happens by itself until now."""
        how = self.behaviour
        if how.ends_s is None and how.dies_under_traffic_s is None:
            return
        while self.state in ("running", "restarting"):
            if self.state == "restarting":
                if now < self.started + BACKOFF_S:
                    return
                self.restart_count += 1
                self.start(self.started + BACKOFF_S, "world")
            end = self._end()
            if end is None or now < end:
                return
            self.exit_code, self.stopper = how.exit_code, "world"
            if not self.restarts:
                self.state = "exited"
                return
            self.state, self.started = "restarting", end

    def serves(self, now: float) -> bool:
        """Whether it answers requests as it should."""
        self.live(now)
        return self.state == "running" and self._well(now)

    def _well(self, now: float) -> bool:
        how, age = self.behaviour, now - self.started
        if self.hung or age < how.boot_s or (how.hangs_s is not None and age >= how.hangs_s):
            return False
        hangs = how.hangs_under_traffic_s
        if hangs is not None and self.traffic_since is not None and now >= self.traffic_since + hangs:
            return False
        return how.flap_s is None or int((age - how.boot_s) / how.flap_s) % 2 == 0

    def health(self, now: float) -> str:
        """Docker's health."""
        if not self.checked or self.state != "running":
            return ""
        if now - self.started < self.behaviour.boot_s + HEALTHCHECK_S and now - self.started < 10:
            return "starting"
        return "healthy" if self._well(now - HEALTHCHECK_S) else "unhealthy"

    def seen(self, now: float, *, ok: bool) -> None:
        """Somebody of ours looked."""
        if ok:
            self.first_ok = now if self.first_ok is None or now - self.last_ok > WATCHED_S else self.first_ok
            self.last_ok = now
        else:
            self.first_ok = None

    def shown(self, now: float, stamp: str) -> Container:
        """As the engine reports it; what it was seen as is noted."""
        self.live(now)
        health = self.health(now)
        if self.checked:
            self.seen(now, ok=health == "healthy")
        elif self.state != "running":
            self.first_ok = None
        return Container(
            self.id,
            self.name,
            self.project,
            self.service,
            self.replica,
            self.slot,
            self.release,
            self.state,
            health,
            f"{stamp}+{self.started:.3f}" if self.started >= 0 else "",
            self.exit_code,
            False,
            self.restart_count,
            self.image,
            self.addresses if self.state == "running" else {},
            self.labels,
        )


class Net(msgspec.Struct):
    """One network of the engine."""

    name: str
    labels: dict[str, str]
    subnet: str
    ip_range: str
    internal: bool
