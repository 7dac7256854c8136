"""A forecast as people read it."""

from __future__ import annotations

from nself_deploy.core.acceptance import MIN_CLIENTS
from nself_deploy.core.forecast import RATES, Forecast, Outlook, Share
from nself_deploy.core.times import plus_seconds

_HOUR, _MINUTE = 3600.0, 60.0


def title(found: Outlook) -> str:
    """What it rests on."""
    if not found.known:
        return "Forecast (the traffic is not known: the access log was not kept lately; some examples)"
    traffic = found.forecasts[0].traffic
    until = plus_seconds("1970-01-01T00:00:00Z", traffic.until)
    seen = f"as seen for {about(traffic.seconds)} until {until}"
    return f"Forecast (at {pace(traffic.per_s)} requests/s of which {traffic.failed:.2%} fail, {seen})"


def rows(found: Outlook) -> list[tuple[str, ...]]:
    """What it says, in columns: a row for each share, or for each example."""
    if found.known:
        return [_share(share) for share in found.forecasts[0].shares]
    head = ("requests/s", "all traffic after", *(f"{rate:.0%} errors found after" for rate in RATES))
    return [head, *(_example(forecast) for forecast in found.forecasts)]


def lines(found: Outlook) -> list[str]:
    """What it says beside that, in sentences."""
    if not found.known:
        return []
    forecast = found.forecasts[0]
    when = "; ".join(
        f"{d.error_rate:.0%}: {_found(d.seconds)}" + (f", {d.users:.0f} users hit" if d.seconds is not None else "")
        for d in forecast.detections
    )
    said = [_end(forecast), f"errors from the beginning are found after about ({when})"]
    clients = forecast.traffic.clients * max((share.percent for share in forecast.shares), default=0) / 100
    if clients < MIN_CLIENTS:
        said.append(
            f"about {clients:.0f} of the {forecast.traffic.clients} clients would be on the candidate: "
            f"a promotion needs {MIN_CLIENTS}"
        )
    return said


def about(seconds: float) -> str:
    """A time that is not known exactly."""
    if seconds < 2 * _MINUTE:
        return f"{max(seconds, 1.0):.0f} s"
    return f"{seconds / _MINUTE:.0f} min" if seconds < 2 * _HOUR else f"{seconds / _HOUR:.1f} h"


def pace(per_s: float) -> str:
    """Requests per second, with as many digits as say something."""
    return f"{per_s:.0f}" if per_s >= 10 else f"{per_s:.2g}"


def _share(share: Share) -> tuple[str, ...]:
    stay = "until it is parked" if share.seconds is None else f"for {about(share.seconds)}"
    if share.seconds is not None and share.seconds > share.hold_s + 1.0:
        stay += f" ({about(share.hold_s)} are asked, a proof takes longer)"
    if not share.requests:
        return f"{share.percent} %", "is not reached", "", ""
    seen = "too few to find even 100 % errors" if share.found is None else f"finds {_rate(share.found)} errors and more"
    return f"{share.percent} %", stay, f"about {share.requests:.0f} requests to the candidate", seen


def _rate(rate: float) -> str:
    return f"{rate:.0%}" if rate >= 0.1 else f"{rate:.1%}"


def _end(forecast: Forecast) -> str:
    if forecast.seconds is not None:
        return f"a candidate as good as the live slot has all of the traffic after about {about(forecast.seconds)}"
    after = about(forecast.parked_s or 0.0)
    if forecast.traffic.failed > forecast.objective:
        return (
            f"it will be parked after about {after}: the live slot itself fails more often than the "
            f"{forecast.objective:.2%} that are allowed (--error-threshold)"
        )
    return (
        f"it will be parked after about {after}, without a proof: give it more time (--soak), a larger share "
        "(--canary), or be ready to decide"
    )


def _example(forecast: Forecast) -> tuple[str, ...]:
    done = about(forecast.seconds) if forecast.seconds is not None else f"parked ({about(forecast.parked_s or 0.0)})"
    return pace(forecast.traffic.per_s), done, *(_found(d.seconds) for d in forecast.detections)


def _found(seconds: float | None) -> str:
    return "never" if seconds is None else about(seconds)
