"""A canary that is parked, and what must hold when a command that moves it on, or takes it back, is killed."""

from __future__ import annotations

from collections import Counter
from contextlib import closing

from nself_deploy.adapters.journal import Journal
from nself_deploy.core.audit import PROMOTION
from nself_deploy.core.machine import Outcome, Run
from tests.crash.checks import Records
from tests.crash.service_back import SAME
from tests.crash.site import Site

WAYS = (SAME, "resume", "abort")
PAUSED = ("--strategy", "canary", "--steps", "20:1s:pause,100", "--bake", "1s")


def parked(site: Site, *words: str) -> None:
    """A canary of the next release waits for a person."""
    if not Records.of(site.stack).unfinished:
        done = site.stack.nself(*words, *PAUSED, check=False, RELEASE=site.next_release())
        assert done.status == 7, done.text


class OneDecision:
    """The promises, from before a kill until it was put right."""

    def __init__(self, site: Site) -> None:
        """A canary is parked."""
        self._site = site
        (self._run,) = Records.of(site.stack).unfinished

    def killed(self, where: str) -> list[str]:
        """What does not hold right after the kill."""
        return [] if self._promotions() <= 1 else ["the promotion is there twice"]

    def healed(self, way: str) -> list[str]:
        """What does not hold when it was put right in this way."""
        wrong = []
        if Records.of(self._site.stack).unfinished:  # the kill was behind the decision: it is only to be finished
            done = self._site.stack.nself("resume", check=False)
            wrong += [f"resume: {done.text}"] if done.status else []
        with closing(Journal.open(self._site.stack.root, create=False)) as journal:
            run, findings = journal.run(self._run.id), journal.audit.verify().findings
        wrong += [f"audit verify: {findings}"] if findings else []
        return [*wrong, *self._ended(run, way)]

    def _ended(self, run: Run | None, way: str) -> list[str]:
        """How it ended, and with how many promotions."""
        count, outcome = self._promotions(), run.outcome if run is not None else None
        few = 1 if way == SAME and outcome is Outcome.DONE and self._promoting else 0
        wrong = [] if few <= count <= self._promoting else [f"{count} promotions"]
        right = (Outcome.DONE, Outcome.INTERRUPTED)
        return wrong + ([] if outcome in right else [f"the canary ended as {outcome}"])

    _promoting = 0

    def _promotions(self) -> int:
        events = Records.of(self._site.stack).events
        return Counter(e.event_type for e in events if e.metadata.get("run") == self._run.id)[PROMOTION]


class OnePromotion(OneDecision):
    """The same, when it is promoted."""

    _promoting = 1
