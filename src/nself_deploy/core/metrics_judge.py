"""The judge of user-defined metrics: readings one by one, and what they say about the candidate at any moment.

It keeps no clock: every reading brings its time, in seconds since the candidate got its first share of the traffic.
Encoded as JSON and decoded again, it goes on exactly where it was. What could not be measured never counts as good.
"""

from __future__ import annotations

from operator import itemgetter

import msgspec

from nself_deploy.core.evidence import Decision, MetricEvidence, Verdict
from nself_deploy.core.metrics import Metric, Missing, Outcome, Reading

_FRESH_S = 10.0
"""How late the second of two measurements may come before the first one says nothing about now."""
_WORST_FIRST = (Verdict.FAIL, Verdict.INVALID, Verdict.HOLD, Verdict.INCONCLUSIVE, Verdict.PASS)


def worst(*verdicts: Verdict) -> Verdict:
    """What several sources say together: a promotion needs a `pass` of each. Without any, nothing is known."""
    return next((verdict for verdict in _WORST_FIRST if verdict in verdicts), Verdict.INCONCLUSIVE)


class Tally(msgspec.Struct):
    """What one metric has shown."""

    due: float
    """When it is asked for next."""
    good: int = 0
    bad: int = 0
    between: int = 0
    """Values that were neither."""
    no_data: int = 0
    errors: int = 0
    bad_in_a_row: int = 0
    """Without a better value in between; having no value is not better."""
    gaps_in_a_row: int = 0
    last: Reading | None = None
    last_at: float | None = None
    last_good: bool = False


class MetricsJudge(msgspec.Struct):
    """All that is known about a candidate from metrics."""

    metrics: tuple[Metric, ...]
    tallies: tuple[Tally, ...]
    now: float = 0.0
    decision: Decision | None = None
    decided_by: str = ""
    """The metric that decided."""

    @classmethod
    def begin(cls, metrics: tuple[Metric, ...]) -> MetricsJudge:
        """A judge for a deployment that begins.

        Raises:
            ValueError: there is nothing to judge by.
        """
        if not metrics:
            raise ValueError("without a metric there is nothing to judge by")
        return cls(metrics, tuple(Tally(due=metric.window_s) for metric in metrics))

    def due(self, at: float) -> tuple[Metric, ...]:
        """What is to be asked for now, what waits longest first."""
        if self.decision is not None:
            return ()
        found = [(tally.due, m) for m, tally in zip(self.metrics, self.tallies, strict=True) if tally.due <= at]
        return tuple(metric for _, metric in sorted(found, key=itemgetter(0)))

    def advance(self, at: float) -> None:
        """It is this time now."""
        self.now = max(self.now, at)

    def measured(self, name: str, at: float, reading: Reading) -> None:
        """A metric was asked for. What comes after a decision, or after an interruption of any length, is no harm.

        Raises:
            ValueError: there is no such metric.
        """
        self.advance(at)
        for metric, tally in zip(self.metrics, self.tallies, strict=True):
            if metric.name == name:
                if self.decision is None:
                    tally.due = self.now + metric.interval_s
                    self._take(metric, tally, _checked(reading))
                return
        raise ValueError(f"there is no metric {name!r}")

    def _take(self, metric: Metric, tally: Tally, reading: Reading) -> None:
        tally.last, tally.last_at = reading, self.now
        tally.last_good = False
        gap = False
        if reading.value is not None:
            self._value(metric, tally, reading.value)
        elif reading.outcome is Outcome.NO_DATA:
            tally.no_data += 1
            gap = metric.missing is Missing.INVALID
            tally.bad_in_a_row += metric.missing is Missing.FAIL
            tally.bad += metric.missing is Missing.FAIL
        else:
            tally.errors += 1
            gap = True
        tally.gaps_in_a_row = tally.gaps_in_a_row + 1 if gap else 0
        self._decide(metric, tally)

    @staticmethod
    def _value(metric: Metric, tally: Tally, value: float) -> None:
        good = metric.good(value)
        if good is False:
            tally.bad += 1
            tally.bad_in_a_row += 1
            return
        tally.bad_in_a_row = 0
        tally.last_good = bool(good)
        tally.good += bool(good)
        tally.between += good is None

    def _decide(self, metric: Metric, tally: Tally) -> None:
        row, total = metric.failures_in_a_row, metric.failures
        said = _said(tally.last)
        verdict = Verdict.FAIL
        if row and tally.bad_in_a_row >= row:
            words = f"was bad {_times(tally.bad_in_a_row)} in a row: {said} at last, and {metric.wanted} is wanted"
        elif total and tally.bad >= total:
            words = f"was bad {_times(tally.bad)}: {said} at last, and {metric.wanted} is wanted"
        elif tally.gaps_in_a_row >= metric.gaps_in_a_row:
            verdict = Verdict.INVALID
            words = f"could not be measured {_times(tally.gaps_in_a_row)} in a row: {said}"
        else:
            return
        self.decision = Decision(verdict, self.now, f"the metric {metric.name} {words}")
        self.decided_by = metric.name

    @property
    def verdict(self) -> Verdict:
        """`pass` only when each metric is good now, and was so often enough."""
        if self.decision is not None:
            return self.decision.verdict
        shown = all(self.shown(metric, tally) for metric, tally in zip(self.metrics, self.tallies, strict=True))
        return Verdict.PASS if shown else Verdict.INCONCLUSIVE

    @property
    def blind(self) -> bool:
        """Whether one of them could not be measured at last."""
        return any(tally.gaps_in_a_row for tally in self.tallies)

    def shown(self, metric: Metric, tally: Tally) -> bool:
        """Whether a metric is shown to be good: often enough, and by the last measurement, which is recent."""
        return tally.good >= metric.successes and tally.last_good and not self.stale(metric, tally)

    def stale(self, metric: Metric, tally: Tally) -> bool:
        """Whether the last measurement is too old to say something about now."""
        return tally.last_at is None or self.now - tally.last_at > 2 * metric.interval_s + _FRESH_S


def explain_metrics(judge: MetricsJudge, at: float) -> tuple[MetricEvidence, ...]:
    """What is known at this time, in the order of the configuration."""
    judge.advance(at)
    return tuple(_evidence(judge, metric, tally) for metric, tally in zip(judge.metrics, judge.tallies, strict=True))


def _evidence(judge: MetricsJudge, metric: Metric, tally: Tally) -> MetricEvidence:
    missing, left = _missing(judge, metric, tally)
    verdict = Verdict.INCONCLUSIVE if missing else Verdict.PASS
    decision = judge.decision
    if decision is not None and judge.decided_by == metric.name:
        verdict = decision.verdict
    wait = max(0.0, tally.due - judge.now) + (left - 1) * metric.interval_s if left else 0.0
    return MetricEvidence(
        name=metric.name,
        verdict=verdict,
        wanted=metric.wanted,
        good=tally.good,
        bad=tally.bad,
        between=tally.between,
        no_data=tally.no_data,
        errors=tally.errors,
        value=tally.last.value if tally.last else None,
        detail=tally.last.detail if tally.last else "",
        at=tally.last_at,
        missing=missing if decision is None else (),
        expected_s=wait if decision is None else None,
    )


def _missing(judge: MetricsJudge, metric: Metric, tally: Tally) -> tuple[tuple[str, ...], int]:
    """What a promotion still needs, in words, and the good measurements that it takes."""
    found = []
    if more := max(0, metric.successes - tally.good):
        found.append(f"{more} more good values of {metric.name}: {tally.good} of {metric.successes}")
    if tally.last is not None and not tally.last_good:
        found.append(f"a good value of {metric.name} at last: {_said(tally.last)}, and {metric.wanted} is wanted")
    elif tally.last is not None and judge.stale(metric, tally):
        found.append(f"a new value of {metric.name}: the last one is {judge.now - (tally.last_at or 0.0):.0f} s old")
    return tuple(found), max(more, 1) if found else 0


def _said(reading: Reading | None) -> str:
    if reading is None:
        return ""
    return f"{reading.value:.4g}" if reading.value is not None else reading.detail or str(reading.outcome)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _checked(reading: Reading) -> Reading:
    """A reading that claims to have a value is asked for it again: what is no finite number never counts."""
    if reading.outcome is not Outcome.VALUE:
        return Reading(reading.outcome, None, reading.detail)
    return Reading.error("there is no number") if reading.value is None else Reading.of(reading.value)
