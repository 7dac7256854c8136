"""How much traffic there was lately, from the lines of the router's access log."""

from __future__ import annotations

from nself_deploy.core.log_line import first_status, lines_of
from nself_deploy.core.traffic import Traffic

WINDOW_S = 600.0
"""So much of the end of the log is looked at."""
PAUSE_S = 120.0
"""After so long without a request, the log was not kept in the meantime."""
LEAST_REQUESTS, LEAST_S = 20, 5.0
LATELY_S = 86400.0
"""What was seen longer ago says nothing of now."""
_SAME_S = 10
_FAILED = 500


def traffic_of(log: bytes, now: float) -> Traffic | None:
    """What the end of the access log tells; None when that is too little, or too old. `now` is in seconds since 1970.

    Requests that nobody answered because their client had left are counted as well answered.
    """
    lines = sorted(((x.time, x.client, _failed(x.upstream_status)) for x in lines_of(log) if x.route), reverse=True)
    if not lines or not now - LATELY_S <= lines[0][0] <= now + _SAME_S:
        return None
    kept, until = 0, lines[0][0]
    for kept, (at, _, _) in enumerate(lines, 1):
        following = lines[kept][0] if kept < len(lines) else 0.0
        if until - following > WINDOW_S or at - following > PAUSE_S:
            break
    lines = lines[:kept]
    seconds = until - lines[-1][0]
    if kept < LEAST_REQUESTS or seconds < LEAST_S:
        return None
    trials = len({(client, at // _SAME_S) for at, client, _ in lines})
    return Traffic(
        per_s=kept / seconds,
        failed=sum(failed for _, _, failed in lines) / kept,
        trials_per_s=trials / seconds,
        clients=len({client for _, client, _ in lines}),
        seconds=seconds,
        until=until,
    )


def _failed(statuses: str) -> bool:
    return first_status(statuses) >= _FAILED
