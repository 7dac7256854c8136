"""What came of the simulation, as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from benchmarks.judging.cells import Outcome
from benchmarks.judging.goals import false_rollbacks

_OWN = {"sick": "ours", "late": "ours", "flat": "ours, 10 % all along", "slow": "ours"}
_APART = ("healthy", "starved", "no gate", "split")


def tables(outcomes: Sequence[Outcome]) -> str:
    """All of it."""
    return "\n".join(
        [
            "## Healthy candidates: false rollbacks",
            "",
            "| world | deployments | rolled back |",
            "|---|---|---|",
            *(f"| {world} | {runs} | {share:.3%} |" for world, (share, runs) in false_rollbacks(outcomes).items()),
            "",
            "## Healthy candidates: rolled back / held / promoted after five minutes, %",
            "",
            _grid((o for o in outcomes if o.kind in ("healthy", "starved")), _ended),
            "",
            "## The same without the gate of differences that matter",
            "",
            _grid((o for o in outcomes if o.kind == "no gate"), _ended),
            "",
            "## Sick candidates: seconds until they are stopped (median / p95), users that met an error, % stopped",
            "",
            "Shares 10 % for 60 s, 25 % for 120 s, 50 % for 120 s; the other rules at 10 %. Beside errors of 0.1 %.",
            "Seconds count from the onset; for times from the end of the warm-up of 30 s. A dash: more than the soak.",
            "",
            _grid((o for o in outcomes if o.kind not in _APART), _stopped),
            "",
            "## The guard of the split: seconds until it says that the split is wrong (median / p95), % found",
            "",
            _grid((o for o in outcomes if o.kind == "split"), _stopped),
            "",
        ]
    )


def brief(outcome: Outcome) -> str:
    """One cell in a line: shares that were rolled back, held, promoted; median and 95 % quantile in seconds."""
    shares = f"{outcome.failed:.4f} / {outcome.held:.4f} / {outcome.passed:.4f}"
    return f"{shares}; {_seconds(outcome.median)} / {_seconds(outcome.p95)} s"


def _grid(outcomes: Iterable[Outcome], cell: Callable[[Outcome], str]) -> str:
    rows: dict[tuple[str, str], dict[float, str]] = {}
    for o in sorted(outcomes, key=lambda o: (o.world, o.kind not in _OWN, o.kind)):
        rule = _OWN.get(o.kind, "" if o.kind in _APART else o.kind)
        rows.setdefault((o.world, rule), {})[o.per_s] = cell(o)
    rates = sorted({rate for row in rows.values() for rate in row})
    lines = [f"| world | rule | {' | '.join(f'{rate:g}/s' for rate in rates)} |", "|---" * (len(rates) + 2) + "|"]
    lines += [
        f"| {world} | {rule} | {' | '.join(row.get(rate, '') for rate in rates)} |"
        for (world, rule), row in rows.items()
    ]
    return "\n".join(lines)


def _ended(outcome: Outcome) -> str:
    if "times" in outcome.world:
        return f"{outcome.failed * 100:.2f}"
    return f"{outcome.failed * 100:.2f} / {outcome.held * 100:.1f} / {outcome.passed * 100:.1f}"


def _stopped(outcome: Outcome) -> str:
    stopped = outcome.failed + outcome.held
    users = "" if outcome.users is None else f"; {outcome.users:.1f} u"
    return f"{_seconds(outcome.median)} / {_seconds(outcome.p95)} s{users}; {stopped * 100:.1f} %"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}" if value < 10 else f"{value:.0f}"
