"""What the router and containers answer when they are asked."""

from __future__ import annotations

import msgspec

from nself_deploy.core.model import Split


class ProbeAnswer(msgspec.Struct, frozen=True):
    """What one probe saw."""

    ok: bool
    status: int = 0
    """HTTP status, 0 when there was none."""
    detail: str = ""
    """In words: `GET http://10.1.2.3:8000/ answered 503 in 12 ms`, or the connection's error."""
    seconds: float = 0.0


class RouterState(msgspec.Struct, frozen=True):
    """The router as it is now."""

    running: bool
    version: tuple[int, ...] = ()
    container_id: str = ""
    mounted: bool = True
    """Whether it sees our directory itself (False: a container from before `init`, which gets copies)."""
    split: Split | None = None
    """What our link says; None before the first install."""
    tree: str = ""
    """Fingerprint of the files on disk, empty before the first install."""
    loaded_tree: str = ""
    """Fingerprint that the running nginx answers with, empty when it doesn't answer."""
    recording: bool = False
    """Whether the access log is kept."""
