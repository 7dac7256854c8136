"""Objectives whose numbers Prometheus has: how they are written, and what is wrong with them.

The types of `slo[].prometheus` below `x-nself-deploy`.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from msgspec import Meta

from nself_deploy.core.durations import Duration
from nself_deploy.core.slo import Objective, Queries, ratio

PLACEHOLDERS = ("window", "project")
"""What a query may say in double braces; the window it must."""
MOST_NAME = 80
_LEAST_S = 60
_PER_SECOND = re.compile(r"\bi?rate\s*\(")
_SUM = "sum(increase(http_requests_total{{{}}}[{{{{window}}}}]))"


class SloQueryKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An objective about two numbers that Prometheus (`analysis.prometheus`) has: all, and the bad or the good ones."""

    name: Annotated[str, Meta(description="What it is called in alerts and reasons.", examples=["checkouts"])]
    target: Annotated[float | str, Meta(description="The percentage that must be good.", examples=[99.9])]
    total: Annotated[
        str,
        Meta(
            description="PromQL that gives how many requests there were in `{{window}}`, as one number; "
            "`{{project}}` is filled in too.",
            examples=[_SUM.format('service="web"')],
        ),
    ]
    bad: Annotated[
        str,
        Meta(
            description="How many of them were bad, likewise.",
            examples=[_SUM.format('service="web",code=~"5.."') + " or vector(0)"],
        ),
    ] = ""
    good: Annotated[str, Meta(description="In place of `bad`: how many of them were good.")] = ""
    min_window: Annotated[
        Duration | None,
        Meta(
            description="No shorter window is asked for, and a release is judged when it is so old: "
            "four times the scrape interval, or more; default: 1m.",
            extra={"low": "1s", "high": "5m"},
        ),
    ] = None

    @property
    def queries(self) -> Queries:
        """What is asked for."""
        least_s = round(float(self.min_window or _LEAST_S)) or 1
        return Queries(self.total, self.good or self.bad, good=bool(self.good), least_s=least_s)

    def objective(self, service: str) -> Objective:
        """What it means.

        Raises:
            ValueError: `target` makes no sense; says so in words.
        """
        return ratio(self.target, " ".join(self.name.split()), self.queries, service)


def counts_per_second(query: str) -> bool:
    """Whether it gives a rate where a number is wanted, by which evidence is judged."""
    return bool(_PER_SECOND.search(query)) and "increase" not in query
