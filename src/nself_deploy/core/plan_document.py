"""The JSON document of a plan: that of a run with its steps pending, and what was inferred and is expected."""

from __future__ import annotations

import msgspec

from nself_deploy.core.document import Document
from nself_deploy.core.forecast import Outlook, outlook
from nself_deploy.core.model import Project, StepStatus
from nself_deploy.core.plan import Plan
from nself_deploy.core.step_lines import StepLine


class ServiceLine(msgspec.Struct, frozen=True):
    """A service in a plan."""

    name: str
    role: str
    reason: str


class SettingLine(msgspec.Struct, frozen=True):
    """A setting with the place it came from."""

    name: str
    value: object
    origin: str


class PlanDocument(Document, frozen=True, kw_only=True):
    """The same with the steps pending, and what was inferred."""

    services: tuple[ServiceLine, ...] = ()
    routes: tuple[dict[str, object], ...] = ()
    changes: tuple[dict[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    settings: tuple[SettingLine, ...] = ()
    forecast: Outlook | None = None
    """What is expected of a canary; None when nothing is judged."""


def plan_document(plan: Plan, project: Project, settings: tuple[SettingLine, ...]) -> PlanDocument:
    """What `plan --json` prints."""
    return PlanDocument(
        target=plan.target,
        strategy=plan.strategy.value,
        release=plan.release,
        previous_release=plan.previous_release,
        steps=tuple(StepLine(s.name, StepStatus.PENDING) for s in plan.steps),
        duration_ms=0,
        success=True,
        rolled_back=False,
        final_percent=100 if plan.candidate or plan.unchanged else 0,
        error="",
        services=tuple(ServiceLine(s.name, s.role.value, s.reason) for _, s in sorted(project.services.items())),
        routes=tuple(
            {"key": r.key, "service": r.service, "port": r.port, "protocol": r.protocol.value, "source": r.source}
            for r in project.routes
        ),
        changes=tuple({"sign": c.sign, "what": c.what, "reason": c.reason} for c in plan.changes),
        warnings=plan.warnings,
        settings=settings,
        forecast=outlook(plan),
    )
