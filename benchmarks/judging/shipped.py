"""The shipped judge, `nself_deploy.core.verdict.Judge`, for many deployments: one of its objects each.

Every error goes through `Judge.request`. Good requests are far too many for that in ten minutes: those of a slice are
put in together (`answered`), which tests/unit/test_verdict_shipped.py proves to be the same. The guard of the split,
which looks at every client, is left out here and simulated alone (`split.py`): it can prevent a verdict, never cause a
rollback.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from benchmarks.judging.vector import FAIL, HOLD, INCONCLUSIVE, PASS, WATCHING, Flags, Slice
from nself_deploy.core.acceptance import MIN_CLIENTS
from nself_deploy.core.analysis import Analysis
from nself_deploy.core.evidence import Request, Verdict
from nself_deploy.core.sample_ratio import SampleRatio
from nself_deploy.core.verdict import Judge

_CODES = {Verdict.FAIL: FAIL, Verdict.HOLD: HOLD, Verdict.PASS: PASS, Verdict.INCONCLUSIVE: INCONCLUSIVE}
_TRIES = 20


class Trusted(SampleRatio):
    """A guard of the split that sees nothing."""

    def add(self, client: int, share: float, *, candidate: bool) -> None:
        """As `SampleRatio` says, but nothing is noted."""


def begun(settings: Analysis) -> Judge:
    """A judge without the guard; it keeps a part of alpha for times."""
    judge = Judge.begin(settings)
    judge.split = Trusted()
    return judge


def answered(judge: Judge, share: float, good: Sequence[int]) -> None:
    """Good requests of new clients, to candidate and live slot, at the judge's present time."""
    if judge.decision is not None:
        return
    judge.share = share
    for side, count in enumerate(good):
        if count:
            judge.requests[side] += count
            judge.overall.counts.add(side, count)
    if good[0]:
        judge.trials.requests += good[0]
        judge.absolute.add(int(judge.now), failed=False)
        judge.absolute.good += good[0] - 1
        seen = judge.trials.clients
        seen.update(range(-len(seen), -min(MIN_CLIENTS, len(seen) + good[0]), -1))


class Watched:
    """One deployment."""

    def __init__(self, number: int, settings: Analysis, seed: int) -> None:
        self.number = number
        self.judge = begun(settings)
        self.random = random.Random(seed)
        self.failed: list[int] = []

    def errors(self, at: float, share: float, counts: list[int]) -> None:
        """Failed requests: old, muted and new ones, each of the candidate and of the live slot."""
        old, muted, new = counts[:2], counts[2:4], counts[4:]
        kinds = ((False, old), (True, new))
        sides = [(side, fresh) for fresh, both in kinds for side in (0, 1) for _ in range(both[side])]
        self.random.shuffle(sides)
        last = [0, 0]
        for side, fresh in sides:
            client = self._new() if fresh else self._known()
            last[side] = client
            self._failed(at, share, side, client)
        for side in (0, 1):
            for _ in range(muted[side]):
                self._failed(at, share, side, last[side])

    def _failed(self, at: float, share: float, side: int, client: int) -> None:
        if self.judge.decision is None:
            self.judge.request(Request(at, client, side == 0, True, share))

    def _new(self) -> int:
        client = self.random.getrandbits(32)
        self.failed.append(client)
        return client

    def _known(self) -> int:
        """A client that has failed, if possible not within these ten seconds."""
        client = 0
        for _ in range(_TRIES):
            client = self.random.choice(self.failed)
            if client not in self.judge.muted:
                break
        return client


class ShippedJudges:
    """`runs` deployments, with the interface of `VectorJudge`."""

    def __init__(self, runs: int, settings: Analysis, rng: np.random.Generator) -> None:
        seeds = rng.integers(0, 2**63, runs).tolist()
        self.watched = [Watched(number, settings, seed) for number, seed in enumerate(seeds)]
        self.waiting = np.zeros((runs, 2), dtype=np.int64)
        """Good requests of candidate and live slot that no judge has seen yet."""
        self.verdicts = np.full(runs, WATCHING)
        self.times = np.full(runs, np.nan)
        self.victims, self.asked = np.zeros((2, runs), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.watched)

    @property
    def decided(self) -> float:
        """The part of those still kept that is decided."""
        return sum(one.judge.decision is not None for one in self.watched) / max(1, len(self.watched))

    def step(self, at: float, share: float, made: Slice) -> None:
        """Everything that was answered in the slice that ends at this time: the good requests first.

        Good requests wait until there is an error, or a second is over: nothing depends on them before.
        """
        self.waiting += np.stack(made.good, axis=1)
        errors = np.stack([side for kind in (made.old, made.muted, made.new) for side in kind], axis=1)
        touched = errors.any(axis=1)
        index = range(len(touched)) if float(at).is_integer() else np.flatnonzero(touched).tolist()
        good, counts = self.waiting.tolist(), errors.tolist()
        for i in index:
            one = self.watched[i]
            one.judge.advance(at)
            answered(one.judge, share, good[i])
            if touched[i]:
                one.errors(at, share, counts[i])
        self.waiting[index] = 0

    def compact(self) -> Flags:
        """Leave out what is decided; which of the deployments are kept."""
        kept = np.array([one.judge.decision is None for one in self.watched], dtype=bool)
        for one in self.watched:
            if one.judge.decision is not None:
                self._note(one)
        self.watched = [one for one in self.watched if one.judge.decision is None]
        self.waiting = self.waiting[kept]
        return kept

    def end(self, at: float) -> None:
        """The soak is over."""
        for one in self.watched:
            one.judge.advance(at)
            self._note(one)
        self.watched = []

    def _note(self, one: Watched) -> None:
        judge, number = one.judge, one.number
        self.verdicts[number] = _CODES[judge.verdict]
        self.times[number] = judge.now if judge.decision is None else judge.decision.at
        self.victims[number] = judge.overall.comparison.candidate
        self.asked[number] = judge.trials.requests
