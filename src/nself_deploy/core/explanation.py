"""A verdict with all that it rests on: counts, rates, evidence, what is missing, and how long that may take."""

from __future__ import annotations

from math import log

from nself_deploy.core.acceptance import MIN_CLIENTS
from nself_deploy.core.evidence import Evidence, Side, Verdict
from nself_deploy.core.verdict import SPLIT_ALPHA, Judge

_LEAST = -1e6
"""Evidence that is less is shown as this: JSON knows no infinity."""


def explain(judge: Judge, at: float) -> Evidence:
    """What is known at this time."""
    judge.advance(at)
    settings, decision = judge.settings, judge.decision
    verdict, candidate, live = judge.verdict, _side(judge, 0), _side(judge, 1)
    missing, expected = _missing(judge)
    over = verdict is Verdict.PASS or judge.now >= settings.max_soak_s
    latency = judge.latency
    return Evidence(
        verdict=verdict,
        final=decision is not None or over,
        at=judge.now if decision is None else decision.at,
        reason=decision.reason if decision is not None else _reason(verdict, final=over),
        candidate=candidate,
        live=live,
        ratio=candidate.rate / live.rate if live.rate else None,
        log_errors=_finite(judge.overall.comparison.mixture.log_value),
        log_errors_needed=judge.overall.log_needed,
        matters=judge.overall.matters(settings.min_effect, settings.min_ratio),
        log_latency=None if latency is None or not latency.cuts else _finite(latency.log_value),
        log_latency_needed=judge.log_latency_needed,
        log_objective=_finite(judge.absolute.log_value),
        log_objective_needed=-log(settings.hold.alpha),
        log_proof=_finite(judge.log_proof(settings.slo_error_rate)),
        log_proof_needed=-log(settings.beta),
        log_split=_finite(judge.split.log_value),
        log_split_needed=-log(SPLIT_ALPHA),
        missing=missing if decision is None and verdict is not Verdict.PASS else (),
        expected_s=expected if decision is None else None,
        times_known=None if latency is None or latency.gathered is None else len(latency.gathered.seconds),
    )


def _finite(value: float) -> float:
    return max(value, _LEAST)


def _side(judge: Judge, side: int) -> Side:
    comparison, counts, split = judge.overall.comparison, judge.overall.counts.total, judge.split
    first_seen = split.total_live if side else split.total_candidate
    return Side(
        requests=judge.requests[side],
        failed=judge.requests[2 + side],
        clients=round(len(split.clients) * first_seen / max(1, split.total_live + split.total_candidate)),
        failed_clients=comparison.live if side else comparison.candidate,
        rate=counts[2 + side] / max(1, counts[side]),
    )


def _reason(verdict: Verdict, *, final: bool) -> str:
    if verdict is Verdict.PASS:
        return "the candidate is shown to be good enough"
    return "the soak ended before anything was shown" if final else "nothing is shown yet"


def _missing(judge: Judge) -> tuple[tuple[str, ...], float | None]:
    """What a promotion still needs, in words, and the seconds that it may take."""
    settings, trials = judge.settings, judge.trials
    found: list[str] = []
    left = settings.soak_s - judge.now
    if left > 0:
        found.append(f"{left:.0f} s of the soak")
    wait: float | None = max(0.0, left)
    if not judge.requests[0]:
        found.append(
            f"a request to the candidate: 0 of {trials.more_needed(settings.slo_error_rate, settings.beta, 0.0)}"
        )
        return tuple(found), None
    if judge.crossed_at is not None:
        found.append("an error rate that meets the objective: it was certainly missed")
        return tuple(found), None
    if judge.requests[2] > settings.slo_error_rate * judge.requests[0]:
        found.append(f"an error rate of {settings.slo_error_rate:.2%} at most: it is {_rate(judge):.2%}")
        wait = None
    if more := trials.more_needed(settings.slo_error_rate, settings.beta, judge.log_accept):
        found.append(f"{more} more good requests to the candidate (at most one per client and 10 s counts)")
    if lacking := MIN_CLIENTS - len(trials.clients):
        found.append(f"{lacking} more clients on the candidate")
    if wait is not None and (more or lacking):
        pace = trials.requests / judge.now if judge.now > 0 else 0.0
        wait = max(wait, max(more, lacking) / pace) if pace and more < 10**9 else None
    return tuple(found), wait


def _rate(judge: Judge) -> float:
    return judge.requests[2] / judge.requests[0]
