"""The judge after the candidate has all the traffic: nothing to compare with, only the objective.

For the bake of a canary and of a blue-green deployment, while the previous release is kept warm.
"""

from __future__ import annotations

from math import log

import msgspec

from nself_deploy.core.absolute import AbsoluteTest
from nself_deploy.core.acceptance import MIN_CLIENTS, MIN_REQUESTS, Trials
from nself_deploy.core.analysis import MOST
from nself_deploy.core.clients import Clients
from nself_deploy.core.evidence import Decision, Incident, Request, Verdict

_BURST_S = 10
_LATELY = 2.0


class Bake(msgspec.Struct):
    """All that is known about a release since it serves everybody."""

    absolute: AbsoluteTest
    bake_s: float
    alpha: float
    beta: float
    min_errors: int
    trials: Trials = msgspec.field(default_factory=Trials)
    muted: Clients = msgspec.field(default_factory=Clients)
    now: float = 0.0
    requests: int = 0
    failed: int = 0
    decision: Decision | None = None

    @classmethod
    def begin(
        cls, objective: float, lately: float | None, bake_s: float, alpha: float, beta: float, min_errors: int
    ) -> Bake:
        """A bake of `bake_s` seconds.

        `lately` is the error rate of the last 24 hours (None: unknown): twice as much is allowed even if that is worse
        than the objective. `alpha` is the probability that a release is taken back that keeps to that.
        """
        allowed = min(MOST, max(objective, _LATELY * (lately or 0.0)))
        return cls(AbsoluteTest(allowed, bake_s), bake_s, alpha, beta, min_errors)

    def request(self, request: Request) -> None:
        """A request that was answered."""
        self.advance(request.at)
        if self.decision is not None or not request.candidate:
            return
        self.requests += 1
        self.failed += request.failed
        self.trials.add(request.client, failed=request.failed)
        if not (self.muted.first(request.client) if request.failed else request.client not in self.muted):
            return
        self.absolute.add(int(self.now), failed=request.failed)
        certain = request.failed and self.absolute.log_value >= -log(self.alpha)
        if certain and self.absolute.failed >= self.min_errors:
            limit = f"{self.absolute.objective:.2%}"
            self.decision = Decision(Verdict.FAIL, self.now, f"more than {limit} of the requests fail")

    def incident_seen(self, incident: Incident) -> None:
        """A container broke down."""
        self.advance(incident.at)
        if self.decision is None and incident.candidate:
            self.decision = Decision(Verdict.FAIL, self.now, incident.says)

    def advance(self, at: float) -> None:
        """It is this time now (seconds since the release serves everybody)."""
        if at > self.now:
            if int(at) // _BURST_S > int(self.now) // _BURST_S:
                self.trials.renew()
                self.muted = Clients()
            self.now = at

    @property
    def verdict(self) -> Verdict:
        """`pass` only when it is over and the objective is proved to be kept."""
        if self.decision is not None:
            return self.decision.verdict
        enough = self.trials.requests >= MIN_REQUESTS and len(self.trials.clients) >= MIN_CLIENTS
        proved = self.trials.log_proof_alone(self.absolute.objective) >= -log(self.beta)
        return Verdict.PASS if self.now >= self.bake_s and enough and proved else Verdict.INCONCLUSIVE
