"""The pictures of docs/verdicts.md, from what the simulation wrote.

`python -m benchmarks.verdicts --save OUTCOMES` writes it, `python -m benchmarks.judging.plots OUTCOMES docs/images`
draws it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import exp
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.judging.cells import RATES, Outcome
from benchmarks.judging.shipped import Watched, answered
from benchmarks.judging.svg import Axis, Chart, Point, bars
from benchmarks.judging.worlds import FLAT, Independent, constant, share_at
from nself_deploy.core.analysis import Analysis

_RULES = {
    "sick": ("nself-deploy", "#0b6e4f"),
    "Argo, 60 s, failureLimit 0": ("Argo, limit 0", "#c77d1a"),
    "Argo, 60 s, failureLimit 3": ("Argo, limit 3", "#b5442e"),
    "Kayenta, 60 s": ("Kayenta", "#5b5ea6"),
    "Flagger, 60 s, threshold 5": ("Flagger", "#7a7a7a"),
}
_ERRORS = {"1% errors": 0.01, "2% errors": 0.02, "5% errors": 0.05, "20% errors": 0.2, "100% errors": 1.0}
_COLOURS = ("#b8cfc6", "#7fb3a0", "#3f8f75", "#0b6e4f", "#053d2b")
_SECONDS = {1.0: "1 s", 10.0: "10 s", 60.0: "1 min", 300.0: "5 min"}
_TRAFFIC = Axis("requests per second", 2.0, 1000.0, {rate: f"{rate:g}" for rate in RATES}, logarithmic=True)
_AT = 50.0
_TYPICAL = ((0.02, 29, "#c77d1a"), (0.05, 23, "#b5442e"), (0.2, 20, "#7a1f12"))
"""Sick candidates: error rate, a seed with which one is found after about the median time, colour."""


def found(outcomes: Sequence[Outcome]) -> str:
    """How long a sick candidate is served, by its error rate."""
    rates = Axis("error rate of the candidate", 0.01, 1.0, {r: f"{r:.0%}" for r in _ERRORS.values()}, logarithmic=True)
    chart = Chart(
        "Time until a sick candidate is stopped (median, 50 requests/s)",
        rates,
        Axis("time", 0.5, 600.0, _SECONDS, logarithmic=True),
    )
    for kind, (name, colour) in _RULES.items():
        at = {_ERRORS[o.world]: o.median for o in outcomes if o.kind == kind and o.per_s == _AT and o.world in _ERRORS}
        chart.line(_points(at), colour, name)
    return chart.text


def traffic(outcomes: Sequence[Outcome]) -> str:
    """How long, by the traffic."""
    chart = Chart(
        "Time until nself-deploy stops a sick candidate (median), by traffic",
        _TRAFFIC,
        Axis("time", 0.05, 300.0, _SECONDS, logarithmic=True),
    )
    for world, colour in zip(_ERRORS, _COLOURS, strict=True):
        at = {o.per_s: o.median for o in outcomes if o.kind == "sick" and o.world == world}
        chart.line(_points(at), colour, world)
    return chart.text


def users(outcomes: Sequence[Outcome]) -> str:
    """How many users meet an error until then."""
    ticks = {float(n): f"{n:,}" for n in (1, 10, 100, 1000, 10000)}
    chart = Chart(
        "Users that meet an error of a candidate that fails 20 % of its requests (mean)",
        _TRAFFIC,
        Axis("users", 1.0, 10000.0, ticks, logarithmic=True),
    )
    for kind, (name, colour) in _RULES.items():
        chart.line(
            _points({o.per_s: o.users for o in outcomes if o.kind == kind and o.world == "20% errors"}), colour, name
        )
    return chart.text


def endings(outcomes: Sequence[Outcome]) -> str:
    """What is known after five minutes."""
    worlds = {
        "healthy, 0.1 %": "healthy: both slots fail 0.1 % of the requests",
        "5% errors": "sick: the candidate fails 5 %",
        "both 3 %": "both slots fail 3 %",
    }
    groups = []
    for world, title in worlds.items():
        rows = sorted((o.per_s, o) for o in outcomes if o.world == world and o.kind in ("healthy", "sick"))
        groups.append((title, [(f"{rate:g}/s", _parts(o)) for rate, o in rows]))
    legend = {"pass": "#0b6e4f", "inconclusive": "#9a9a9a", "hold": "#c77d1a", "fail": "#b5442e"}
    return bars("Verdicts after five minutes, by traffic", groups, legend)


def evidence() -> str:
    """How evidence grows: healthy candidates and sick ones, judged by the shipped judge."""
    settings = Analysis()
    needed = 1.0 / settings.error_alpha(1, latency=True)[0]
    ticks = {0.1: "0.1", 1.0: "1", 100.0: "100", 10.0: "10", 1000.0: "1,000", 10000.0: "10,000"}
    chart = Chart(
        "Evidence against a candidate, second by second (50 requests/s, 10 % of the clients)",
        Axis("seconds", 0.0, 120.0, {float(s): str(s) for s in range(0, 121, 20)}),
        Axis("evidence", 0.05, 20000.0, ticks, logarithmic=True),
    )
    for number in range(10):
        chart.line(_path(0.001, number), "#b5b5b5", "10 healthy ones" if number == 0 else "", dots=False, width=1.2)
    for rate, seed, colour in _TYPICAL:
        chart.line(_path(rate, seed), colour, f"{rate:.0%} errors", dots=False, lift=24 if rate > 0.1 else 8)
    chart.across(needed, f"rolled back at {needed:,.0f}")
    return chart.text


def _path(rate: float, seed: int) -> list[Point]:
    rng, settings = np.random.default_rng(seed), Analysis()
    one = Watched(0, settings, seed)
    world, path = Independent(_AT, constant(rate), constant(0.001)), [(0.0, 1.0)]
    for second in range(1, 121):
        share = share_at(FLAT, second)
        made = world.draw(rng, second, 1.0, share, 1)
        one.judge.advance(float(second))
        answered(one.judge, share, [int(side[0]) for side in made.good])
        one.errors(float(second), share, [0, 0, 0, 0, *(int(side[0]) for side in made.new)])
        path.append((float(second), exp(one.judge.overall.comparison.mixture.log_value)))
        if one.judge.decision is not None:
            break
    return path


def _parts(outcome: Outcome) -> list[float]:
    ended = (outcome.passed, outcome.held, outcome.failed)
    return [outcome.passed, 1.0 - sum(ended), outcome.held, outcome.failed]


def _points(at: dict[float, float | None]) -> list[Point]:
    return [(x, y) for x, y in sorted(at.items()) if y is not None]


def main(source: str, target: str) -> None:
    """Draw all of them."""
    outcomes = msgspec.json.decode(Path(source).read_bytes(), type=list[Outcome])
    pictures = {
        "verdict-evidence": evidence(),
        "verdict-found": found(outcomes),
        "verdict-traffic": traffic(outcomes),
        "verdict-users": users(outcomes),
        "verdict-endings": endings(outcomes),
    }
    Path(target).mkdir(parents=True, exist_ok=True)
    for name, text in pictures.items():
        (Path(target) / f"{name}.svg").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:3])
