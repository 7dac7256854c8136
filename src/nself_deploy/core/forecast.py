"""Before a canary: how long it will take and what it can see, at the traffic that there is. No simulation.

Evidence and proof are taken to grow at their mean pace. That gives about the median of what happens, mostly within two
fifths of it or a second (a slow proof at a live error rate may take longer): half of all canaries take longer. Clients
are taken to be independent, and only errors are foreseen, not times.
"""

from __future__ import annotations

from math import exp, log

import msgspec

from nself_deploy.core import effects as do
from nself_deploy.core.acceptance import MIN_CLIENTS, MIN_REQUESTS, log_mean, log_proof_below, needed_rate
from nself_deploy.core.analysis import Analysis, Mode
from nself_deploy.core.canary import LEAST_TIME
from nself_deploy.core.expectation import LEAST_RATE, Detection, nats_per_error
from nself_deploy.core.plan import Plan
from nself_deploy.core.traffic import Traffic

STAKE, PROOF_STAKE = 2.0, 0.0
"""What mixtures cost beside the threshold (nats)."""
RATES = (1.0, 0.2, 0.05, 0.02)
"""Error rates whose detection is foretold."""
EXAMPLES = (1.0, 10.0, 100.0)
"""Requests per second that are shown when the traffic is not known."""
USUAL_FAILED = 0.001
"""The live slot's error rate then."""
_STEPS, _EXACT_S = 40, 0.05


class Share(msgspec.Struct, frozen=True):
    """What is expected of one share of the traffic."""

    percent: int
    hold_s: float
    """How long it is kept at least."""
    seconds: float | None
    """How long it will be kept, if the candidate is as good as the live slot; None: until it is parked."""
    requests: float
    """To the candidate, in that time."""
    found: float | None
    """The smallest error rate that is found by its end, if it was there from the beginning; None: not even 100 %."""


class Forecast(msgspec.Struct, frozen=True):
    """What is expected of a canary."""

    traffic: Traffic
    objective: float
    """The error rate that is not acceptable in itself."""
    shares: tuple[Share, ...]
    seconds: float | None
    """Until a good candidate has all of the traffic; None: it will be parked."""
    parked_s: float | None
    """When, in that case."""
    detections: tuple[Detection, ...]
    """For candidates that fail from the beginning."""


class Outlook(msgspec.Struct, frozen=True):
    """The forecast at the traffic that was seen, or some at what there may be."""

    known: bool
    forecasts: tuple[Forecast, ...]


def outlook(plan: Plan) -> Outlook | None:
    """What is expected of the canary that is planned; None when nothing is judged."""
    judged = [step.effect for step in plan.steps if isinstance(step.effect, do.Judge)]
    if not judged or plan.analysis is None:
        return None
    if plan.traffic is not None:
        return Outlook(True, (forecast(judged, plan.analysis, plan.traffic),))
    examples = [Traffic.even(per_s, USUAL_FAILED) for per_s in EXAMPLES]
    return Outlook(False, tuple(forecast(judged, plan.analysis, traffic) for traffic in examples))


def forecast(judged: list[do.Judge], analysis: Analysis, traffic: Traffic) -> Forecast:
    """What is expected at this traffic of a canary with these shares."""
    stays, parked_s = _stays(judged, analysis, traffic)
    ends = [s if s is not None else parked_s or 0.0 for s in stays]
    schedule = [(effect.percent / 100, end) for effect, end in zip(judged, ends, strict=True) if end > 0.0]
    shares = []
    for number, (effect, stay, end) in enumerate(zip(judged, stays, ends, strict=True)):
        requests = traffic.per_s * effect.percent / 100 * end
        found = _smallest(schedule[: number + 1], analysis, traffic) if end > 0.0 else None
        shares.append(Share(effect.percent, effect.hold_s, stay, requests, found))
    total = sum(s for s in stays if s is not None)
    rates = tuple(_detected(schedule, analysis, traffic, rate, endless=True) for rate in RATES)
    return Forecast(
        traffic,
        analysis.slo_error_rate,
        tuple(shares),
        seconds=total if parked_s is None else None,
        parked_s=None if parked_s is None else total + parked_s,
        detections=rates,
    )


def _stays(judged: list[do.Judge], analysis: Analysis, traffic: Traffic) -> tuple[list[float | None], float | None]:
    """How long each share is kept by a candidate like the live slot; how long the one in which it is parked."""
    stays: list[float | None] = []
    known, began, deadline = _Proof(analysis, traffic), 0.0, analysis.max_soak_s
    for effect in judged:
        deadline = max(deadline, began + LEAST_TIME * effect.hold_s)
        share, most = effect.percent / 100, deadline - began
        stay = _until_proved(known, share, effect, most)
        stays.append(stay)
        if stay is None:
            return [*stays, *[None] * (len(judged) - len(stays))], most
        known, began = known.after(share, stay), began + stay
    return stays, None


def _until_proved(known: _Proof, share: float, effect: do.Judge, most: float) -> float | None:
    """Seconds until the share may be left, at most so many."""
    if known.analysis.mode is Mode.OBSERVE or known.after(share, effect.hold_s).shows(effect.next_percent):
        return effect.hold_s
    if not known.after(share, most).shows(effect.next_percent):
        return None
    low, high = effect.hold_s, most
    while high - low > _EXACT_S:
        middle = (low + high) / 2
        low, high = (low, middle) if known.after(share, middle).shows(effect.next_percent) else (middle, high)
    return high


class _Proof(msgspec.Struct, frozen=True):
    """What is shown by then of a candidate that fails as often as the live slot."""

    analysis: Analysis
    traffic: Traffic
    trials: float = 0.0
    log_relative: float = -PROOF_STAKE

    def after(self, share: float, seconds: float) -> _Proof:
        """The same after some time under a share."""
        traffic, most = self.traffic, self.analysis.max_ratio
        if not 0.0 < share < 1.0:
            return self
        nats = nats_per_error(most * share / (1.0 - share + most * share), 1.0 / most)
        return msgspec.structs.replace(
            self,
            trials=self.trials + traffic.trials_per_s * share * seconds,
            log_relative=self.log_relative + traffic.per_s * traffic.failed * nats * seconds,
        )

    def shows(self, percent: int) -> bool:
        """Whether the candidate may be given this share next."""
        settings, failed = self.analysis, self.traffic.failed
        objective, trials = settings.slo_error_rate, int(self.trials)
        alone = log_proof_below(needed_rate(percent, objective), trials, int(trials * failed + 1 / 3))
        if percent < 100:
            return alone >= -log(settings.beta)
        enough = trials >= max(MIN_REQUESTS, MIN_CLIENTS) and failed <= objective
        return enough and log_mean([alone, self.log_relative]) >= -log(settings.beta)


def _detected(
    schedule: list[tuple[float, float]], analysis: Analysis, traffic: Traffic, rate: float, *, endless: bool = False
) -> Detection:
    """When a candidate with this error rate is found, on its way through these shares and times.

    `endless`: the last share lasts until then.
    """
    live = max(traffic.failed, LEAST_RATE)
    nothing = Detection(rate, None, 0.0)
    if rate < live + analysis.min_effect or rate < analysis.min_ratio * live:
        return nothing
    needed = -log(analysis.error_alpha(1, latency=bool(analysis.latency.cuts))[0]) + STAKE
    evidence = errors = began = 0.0
    for number, (share, length) in enumerate(schedule):
        on_candidate = traffic.per_s * share * rate
        all_errors = on_candidate + traffic.per_s * (1.0 - share) * live
        pace = all_errors * nats_per_error(share, rate / live)
        if not pace:
            return nothing
        wait = max((needed - evidence) / pace, (analysis.min_errors - errors) / on_candidate)
        if wait <= length or (endless and number == len(schedule) - 1):
            return Detection(rate, began + wait, errors + on_candidate * wait)
        evidence, errors, began = evidence + pace * length, errors + on_candidate * length, began + length
    return nothing


def _smallest(schedule: list[tuple[float, float]], analysis: Analysis, traffic: Traffic) -> float | None:
    """The smallest error rate that is found within these shares and times."""
    low, high = max(traffic.failed, LEAST_RATE), 1.0
    if _detected(schedule, analysis, traffic, high).seconds is None:
        return None
    for _ in range(_STEPS):
        middle = exp((log(low) + log(high)) / 2)
        missed = _detected(schedule, analysis, traffic, middle).seconds is None
        low, high = (middle, high) if missed else (low, middle)
    return high
