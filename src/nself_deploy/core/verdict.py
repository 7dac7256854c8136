"""The judge of a canary: requests one by one, and what they say about the candidate at any moment.

It keeps no clock: every event brings its time, and so does every question. Whoever asks, and however often, changes
nothing. Encoded as JSON and decoded again, it goes on exactly where it was, and what was spent of alpha stays spent.
"""

from __future__ import annotations

from math import log

import msgspec

from nself_deploy.core.absolute import AbsoluteTest
from nself_deploy.core.acceptance import MIN_CLIENTS, MIN_REQUESTS, Trials, needed_rate
from nself_deploy.core.analysis import Analysis, Unit
from nself_deploy.core.clients import Clients
from nself_deploy.core.comparison import Comparison, smaller_ratios
from nself_deploy.core.evidence import Decision, Incident, Request, Trouble, Verdict
from nself_deploy.core.latency import Latency
from nself_deploy.core.mixture import Mixture
from nself_deploy.core.sample_ratio import SampleRatio
from nself_deploy.core.windows import Counts

SPLIT_ALPHA = 0.001
"""The probability that a good split is called wrong."""
_LOG_SPLIT_NEEDED = -log(SPLIT_ALPHA)
_BURST_S = 10
_INCIDENT_GRACE_S = 5.0
_INCIDENT_MEMORY_S = 60.0
_LACK_GRACE_S, _SILENCE_S = 5.0, 15.0
"""A candidate that lacks clients is given so long: they may wait for it; and so long from when they are known to."""
_QUIET_S = 128
"""After so many seconds without an event, nothing is left that time alone would change second by second."""


class Stratum(msgspec.Struct):
    """Errors of all routes together, or of one. `counts`: requests of candidate and live slot, then failed ones."""

    comparison: Comparison
    log_needed: float
    counts: Counts = msgspec.field(default_factory=lambda: Counts.of(4))

    def matters(self, min_effect: float, min_ratio: float) -> bool:
        """Whether the difference is large enough, since the beginning or of late."""
        for requests, live_requests, failed, live_failed in (self.counts.total, self.counts.recent):
            rate, live = failed / max(1, requests), live_failed / max(1, live_requests)
            if failed and rate - live >= min_effect and rate >= min_ratio * live:
                return True
        return False


class Judge(msgspec.Struct):
    """All that is known about a deployment's candidate."""

    settings: Analysis
    random_split: bool
    overall: Stratum
    routes: dict[str, Stratum]
    latency: Latency | None
    absolute: AbsoluteTest
    trials: Trials
    split: SampleRatio = msgspec.field(default_factory=SampleRatio)
    muted: Clients = msgspec.field(default_factory=Clients)
    """Clients that failed within the present ten seconds."""
    requests: list[int] = msgspec.field(default_factory=lambda: [0, 0, 0, 0])
    """All of them: candidate's and live slot's, then failed ones."""
    now: float = 0.0
    share: float = 0.0
    crossed_at: float | None = None
    """Since when the objective is missed for certain."""
    crossed_failed: int = 0
    incident: Incident | None = None
    live_incident_at: float | None = None
    lacking_at: float | None = None
    """Since when the candidate has far too few clients."""
    silent_at: float | None = None
    """Since when requests are known to wait for it, without a good answer."""
    decision: Decision | None = None

    @classmethod
    def begin(
        cls,
        settings: Analysis,
        routes: tuple[str, ...] = (),
        cuts: tuple[float, ...] = (),
        *,
        random_split: bool = True,
    ) -> Judge:
        """A judge for a deployment that begins.

        `cuts` are the live slot's cut points of times (`latency.cut_points`); none: they are found later, if times are
        to be compared at all. That has its part of alpha from the beginning.
        """
        by_client, keys = settings.unit is Unit.CLIENT, settings.latency
        together, each = settings.error_alpha(len(routes), latency=bool(cuts or keys.cuts))

        def stratum(alpha: float, accept: Mixture | None = None) -> Stratum:
            most = settings.max_ratio
            test = Comparison(settings.soak_s, random_split, by_client=by_client, most=most, accept=accept)
            return Stratum(test, -log(alpha))

        latency = None
        if cuts or keys.cuts:
            begin, at = (Latency.of, cuts) if cuts else (Latency.later, keys.cuts)
            latency = begin(at, keys.tolerance, settings.soak_s, random=random_split, by_client=by_client)
        return cls(
            settings=settings,
            random_split=random_split,
            overall=stratum(together, Mixture.at_once(len(smaller_ratios(settings.max_ratio)))),
            routes={route: stratum(each) for route in routes} if each else {},
            latency=latency,
            absolute=AbsoluteTest(settings.slo_error_rate, settings.soak_s),
            trials=Trials(),
        )

    # What happens.

    def request(self, request: Request) -> None:
        """A request that was answered. One that comes late is taken as if it were answered now."""
        self.advance(request.at)
        if self.decision is not None:
            return
        self.share = request.share
        side = 0 if request.candidate else 1
        self.requests[side] += 1
        self.requests[2 + side] += request.failed
        self._split(request)
        if request.candidate and not request.failed:
            self.silent_at = None
        if request.candidate:
            self.trials.add(request.client, failed=request.failed)
        self._latency(request)
        strata = [self.overall]
        if request.route in self.routes:
            strata.append(self.routes[request.route])
        if not self.random_split:
            for stratum in strata:
                stratum.comparison.request(request.client, candidate=request.candidate)
        if request.failed:
            self._failed(request, strata)
        elif not self.muted or request.client not in self.muted:
            self._counted(request, strata)

    def incident_seen(self, incident: Incident) -> None:
        """A container broke down. If one of the live slot does so too, that is no fault of the candidate."""
        self.advance(incident.at)
        if not incident.candidate:
            self.live_incident_at = self.now
        elif incident.trouble is Trouble.SILENT:
            self.silent_at = self.now if self.silent_at is None else self.silent_at
        elif self.decision is None and incident.trouble in (Trouble.OUT_OF_MEMORY, Trouble.HANGING):
            self._decide(Verdict.FAIL, self.now, incident.says)
        elif self.incident is None:
            self.incident = msgspec.structs.replace(incident, at=self.now)

    def fault(self, at: float, reason: str) -> None:
        """The measurement itself is broken: an unreadable log, a clock that jumped, a slot without requests."""
        self.advance(at)
        self._decide(Verdict.INVALID, self.now, reason)

    def advance(self, at: float) -> None:
        """It is this time now. Earlier times than before are taken as the same."""
        if at <= self.now or self.decision is not None:
            return
        second, last = int(self.now), int(at)
        while second < last and self.decision is None:
            second = second + 1 if second < int(self.now) + _QUIET_S else last
            self._second(second)
        if self.decision is None:
            self._deadlines(at)
        self.now = at

    # What follows from it.

    def _second(self, second: int) -> None:
        """A whole second has come."""
        self._deadlines(float(second))
        if self.decision is not None:
            return
        if second // _BURST_S > int(self.now) // _BURST_S:
            self.trials.renew()
            self.muted = Clients()
        for name, stratum in (("", self.overall), *self.routes.items()):
            stratum.counts.advance(second)
            if stratum.comparison.advance(second, self.share):
                self._check_errors(name, stratum, float(second))
        if self.latency is not None and self.latency.advance(second, self.share):
            self._check_latency(float(second))

    def _deadlines(self, at: float) -> None:
        """What waited for a time that has come."""
        if self.incident is not None and at >= self.incident.at + _INCIDENT_GRACE_S:
            self._judge_incident(self.incident, self.incident.at + _INCIDENT_GRACE_S)
        if self.lacking_at is not None:
            waits = 0.0 if self.silent_at is None else self.silent_at + _SILENCE_S
            if at >= max(self.lacking_at + _LACK_GRACE_S, waits):
                self._decide(Verdict.INVALID, self.now, self._split_reason(self.share))
        if self.crossed_at is not None:
            grace = self.settings.hold.grace
            enough = self.absolute.failed - self.crossed_failed >= grace.errors
            deadline = self.crossed_at + (grace.min_s if enough else grace.max_s)
            if at >= deadline:
                self._decide(Verdict.HOLD, max(deadline, self.now), self._hold_reason())

    def _judge_incident(self, incident: Incident, at: float) -> None:
        live = self.live_incident_at
        if live is not None and live >= incident.at - _INCIDENT_MEMORY_S:
            self._decide(Verdict.HOLD, at, f"{incident.says}, and so did one of the live slot")
        else:
            self._decide(Verdict.FAIL, at, incident.says)

    def _split(self, request: Request) -> None:
        if not self.random_split:
            return
        self.split.add(request.client, request.share, candidate=request.candidate)
        split = self.split
        if split.log_value < _LOG_SPLIT_NEEDED:
            self.lacking_at = None
            return
        given = request.share * (split.candidate + split.live)
        if split.candidate < given / 4 or (split.candidate < given and self.silent_at is not None):
            self.lacking_at = self.now if self.lacking_at is None else self.lacking_at  # perhaps they wait for it
        elif self.lacking_at is None:
            self._decide(Verdict.INVALID, self.now, self._split_reason(request.share))

    @staticmethod
    def _split_reason(share: float) -> str:
        return f"the candidate did not get the {share:.0%} of the clients that it was given"

    def _latency(self, request: Request) -> None:
        latency = self.latency
        if latency is None:
            return
        if not latency.cuts:
            latency.gather(request)
            return
        if request.seconds is None or request.failed:
            return
        if self.now >= self.settings.latency.warmup_s:
            if latency.advance(self.now, request.share):
                self._check_latency(self.now)
            latency.add(self.now, request.client, request.share, request.seconds, candidate=request.candidate)

    def _counted(self, request: Request, strata: list[Stratum]) -> None:
        """A request that counts for rates: its client has not failed within these ten seconds."""
        side = 0 if request.candidate else 1
        for stratum in strata:
            if request.failed:
                stratum.counts.add_both(side, 2 + side)
            else:
                stratum.counts.add(side)
        if request.candidate:
            self.absolute.add(int(self.now), failed=request.failed)

    def _failed(self, request: Request, strata: list[Stratum]) -> None:
        if self.settings.unit is Unit.REQUEST or self.muted.first(request.client):
            self._counted(request, strata)
        for stratum in strata:
            stratum.comparison.event(self.now, request.client, request.share, candidate=request.candidate)
        if not request.candidate:
            return
        if self.random_split:
            for stratum in strata:
                self._check_errors("" if stratum is self.overall else request.route, stratum, self.now)
        if self.decision is None:
            self._check_objective()

    def _check_errors(self, route: str, stratum: Stratum, at: float) -> None:
        test, settings = stratum.comparison, self.settings
        if (
            test.candidate >= settings.min_errors
            and test.mixture.log_value >= stratum.log_needed
            and stratum.matters(settings.min_effect, settings.min_ratio)
        ):
            where = f" on the route {route}" if route else ""
            reason = f"more requests fail on the candidate than on the live slot{where}"
            self._decide(Verdict.FAIL, at, reason)

    def _check_latency(self, at: float) -> None:
        assert self.latency is not None
        if self.latency.log_value >= self.log_latency_needed and self.latency.slower:
            self._decide(Verdict.FAIL, at, "the candidate answers later than the live slot")

    def _check_objective(self) -> None:
        absolute = self.absolute
        if self.crossed_at is None:
            certain = absolute.log_value >= -log(self.settings.hold.alpha)
            if certain and absolute.failed >= self.settings.min_errors:
                self.crossed_at, self.crossed_failed = self.now, absolute.failed
        self._deadlines(self.now)

    def _hold_reason(self) -> str:
        requests, failed = self.overall.counts.total[1], self.overall.counts.total[3]
        if failed > self.settings.slo_error_rate * requests:
            return "both slots fail more often than the objective allows"
        return "the candidate fails more often than the objective allows; it is not certain that the live slot does not"

    def _decide(self, verdict: Verdict, at: float, reason: str) -> None:
        """The first decision stands."""
        if self.decision is None:
            self.decision = Decision(verdict, at, reason)

    # What can be said.

    @property
    def log_latency_needed(self) -> float:
        """The evidence that a verdict about times needs (logarithm)."""
        return -log(self.settings.latency_alpha)

    @property
    def log_accept(self) -> float:
        """The reverse comparison: evidence that the candidate is not `max_ratio` times worse (logarithm)."""
        accept = self.overall.comparison.accept
        assert accept is not None
        return accept.log_value

    def log_proof(self, limit: float) -> float:
        """The evidence that the candidate can be accepted, with this error rate as the limit (logarithm)."""
        return self.trials.log_proof(limit, self.log_accept)

    @property
    def accepted(self) -> bool:
        """Whether it is shown that the candidate is good enough for all clients."""
        requests, failed = self.requests[0], self.requests[2]
        return (
            self.decision is None
            and self.crossed_at is None
            and self.incident is None
            and self.trials.requests >= MIN_REQUESTS
            and len(self.trials.clients) >= MIN_CLIENTS
            and failed <= self.settings.slo_error_rate * requests
            and self.log_proof(self.settings.slo_error_rate) >= -log(self.settings.beta)
        )

    def may_grow(self, percent: int) -> bool:
        """Whether the candidate is proved good enough to be given this share of the clients next (less than 100)."""
        limit = needed_rate(percent, self.settings.slo_error_rate)
        calm = self.decision is None and self.crossed_at is None and self.incident is None
        return calm and self.trials.log_proof_alone(limit) >= -log(self.settings.beta)

    @property
    def verdict(self) -> Verdict:
        """The verdict at the time that it was last told."""
        if self.decision is not None:
            return self.decision.verdict
        return Verdict.PASS if self.now >= self.settings.soak_s and self.accepted else Verdict.INCONCLUSIVE
