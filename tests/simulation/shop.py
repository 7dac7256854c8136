"""The project that is deployed in the simulated world, in its versions."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from nself_deploy.core.model import Activate, Project, Role, Route, RouterKind, RouterRef, Service
from nself_deploy.core.plan import Timing

NAME = "shop"
OTHER = "other"
ROOT = "/srv/shop"
FILE = f"{ROOT}/compose.yaml"
OVERRIDE = f"{ROOT}/compose.override.nself.yaml"
ORIGINAL = "shop_default"
SECRET = "hunter2-planted-secret"
TIMING = Timing(health_timeout_s=4.0, min_uptime_s=1.0, watch_s=0.6, drain_s=6.0, standby_s=40.0, job_timeout_s=5.0)


class Shape(msgspec.Struct, frozen=True):
    """What kind of shop it is."""

    replicas: int = 1
    single: bool = False
    """It has a worker of which never two may run."""
    job: bool = False
    checked: bool = True
    """web has a healthcheck (else it is probed)."""
    waits: bool = False
    """web waits for api to be healthy."""
    standby: bool = True
    """The old slot is kept warm for a while."""

    @property
    def timing(self) -> Timing:
        """The limits of its runs."""
        return TIMING if self.standby else msgspec.structs.replace(TIMING, standby_s=0.0)


def _service(name: str, role: Role, config: dict[str, Any] | None = None, **rest: Any) -> Service:
    full = {
        "image": f"{name}:1",
        "networks": {"default": None},
        "restart": "no" if role is Role.JOB else "unless-stopped",
        "environment": {"PASSWORD": SECRET},
        **(config or {}),
    }
    checked = bool(rest.pop("has_healthcheck", True))
    return Service(name, role, "the test says so", full, f"{name}:1", has_healthcheck=checked, stop_grace_s=2.0, **rest)


@cache
def project(shape: Shape, setting: int = 0) -> Project:
    """The project; another `setting` is another configuration of its app services."""
    more = {"environment": {"PASSWORD": SECRET, "SETTING": str(setting)}} if setting else {}
    waits = {"depends_on": {"api": {"condition": "service_healthy"}}} if shape.waits else {}
    services = [
        _service("router", Role.ROUTER, has_healthcheck=False),
        _service("web", Role.APP, more | waits, replicas=shape.replicas, has_healthcheck=shape.checked),
        _service("api", Role.APP, more),
        _service("db", Role.SHARED, {"volumes": [{"type": "volume", "source": "data", "target": "/data"}]}),
        _service("cache", Role.SHARED),
    ]
    if shape.single:
        services.append(_service("worker", Role.APP, activate=Activate.ON_LIVE, has_healthcheck=False))
    if shape.job:
        services.append(_service("migrate", Role.JOB, has_healthcheck=False))
    return Project(
        name=NAME,
        root=ROOT,
        files=(FILE,),
        services={s.name: s for s in sorted(services, key=lambda s: s.name)},
        networks={"default": {"name": ORIGINAL}},
        volumes={"data": {"name": "shop_data"}},
        secrets={},
        configs={},
        router=RouterRef(RouterKind.SERVICE, "router", networks=("default",)),
        routes=(Route("api_9000", "api", 9000), Route("web_8000", "web", 8000)),
    )
