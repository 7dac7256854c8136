"""Which release and variant of the shop this process is; both are baked into the image."""

import os
import socket
from dataclasses import dataclass
from enum import StrEnum


class Variant(StrEnum):
    """How a release behaves. Everything but GOOD is broken on purpose."""

    GOOD = "good"
    UNHEALTHY = "unhealthy"  # /healthz answers 503 for ever
    ERRORS = "errors"  # healthy, but everything else answers 500
    FLAKY = "flaky"  # healthy, but every fifth answer to anything else than / is 500
    BROKEN = "broken"  # the same, but every answer
    RARE = "rare"  # the same, but every twentieth answer
    LATE = "late"  # as flaky, but only from 30 seconds after the first request to anything else than /
    LATE_RARE = "late-rare"  # as rare, but only from 10 seconds after the first request to anything else than /
    POSTS = "posts"  # healthy, but every POST is answered with 500
    HANG = "hang"  # healthy, but answers nothing else than /
    SLOW = "slow"  # takes twice as long for each answer
    CRASH = "crash"  # exits with status 1 after five seconds
    RESTLESS = "restless"  # exits with status 1, 20 seconds after the first request to anything else than /
    SLOW_START = "slow-start"  # listens only after eight seconds, then is fine
    STUBBORN = "stubborn"  # goes on for a minute after SIGTERM
    NOLISTEN = "nolisten"  # runs, but never listens


@dataclass(frozen=True)
class Release:
    """What this process is: release name, behaviour, container's host name."""

    name: str
    variant: Variant
    instance: str

    def as_json(self) -> dict[str, str]:
        """The two fields that every JSON answer carries."""
        return {"release": self.name, "instance": self.instance}


def this_release() -> Release:
    """Read the release from the environment; ValueError for a variant that does not exist."""
    return Release(
        name=os.environ.get("SHOP_RELEASE", "1"),
        variant=Variant(os.environ.get("SHOP_VARIANT", "good")),
        instance=socket.gethostname(),
    )
