"""Small projects and releases for tests of plans and machines."""

from __future__ import annotations

from nself_deploy.core.analysis import Analysis
from nself_deploy.core.model import (
    Activate,
    PinnedImage,
    Project,
    Release,
    Role,
    Route,
    RouterKind,
    RouterRef,
    Service,
)
from nself_deploy.core.plan_canary import Canary, Stage

WEB = Route(key="web_8000", service="web", port=8000)


def a_service(name: str, role: Role, *, replicas: int = 1, activate: Activate = Activate.WITH_SLOT) -> Service:
    """A service with nothing special."""
    return Service(
        name=name, role=role, reason="for a test", config={}, image=f"{name}:1", replicas=replicas, activate=activate
    )


def a_project() -> Project:
    """web and api (apps), migrate (job), db and cache (shared), router."""
    services = [
        a_service("router", Role.ROUTER),
        a_service("web", Role.APP, replicas=2),
        a_service("api", Role.APP),
        a_service("migrate", Role.JOB),
        a_service("db", Role.SHARED),
        a_service("cache", Role.SHARED),
    ]
    return Project(
        name="shop",
        root="/srv/shop",
        files=("/srv/shop/compose.yaml",),
        services={s.name: s for s in services},
        networks={"default": {"name": "shop_default"}},
        volumes={},
        secrets={},
        configs={},
        router=RouterRef(RouterKind.SERVICE, "router", networks=("default",)),
        routes=(WEB,),
    )


def a_release(release_id: str = "new", *, single: bool = False) -> Release:
    """The release of `a_project`, with a worker that must run only once when `single`."""
    services = {s.name: s for s in a_project().services.values() if s.role in (Role.APP, Role.JOB)}
    if single:
        services["worker"] = a_service("worker", Role.APP, activate=Activate.ON_LIVE)
    return Release(
        id=release_id,
        fingerprint=release_id,
        created_at="2026-11-22T00:00:00Z",
        services=services,
        images={n: PinnedImage(id=f"sha256:{n}", ref=f"{n}:1") for n in services},
        networks={"default": {"name": "shop_default"}},
        volumes={},
        secrets={},
        configs={},
        routes=(WEB,),
    )


def a_canary(*, keep_failed: bool = False) -> Canary:
    """10 % for five minutes, 50 % for one, then all."""
    stages = (Stage(10, 300.0), Stage(50, 60.0), Stage(100))
    return Canary(stages, Analysis(soak_s=360.0, max_soak_s=1080.0), keep_failed)
