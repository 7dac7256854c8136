"""Roles by inference, with their reasons, and what a declared role may not do."""

from __future__ import annotations

from typing import Any

import pytest

from nself_deploy.core.extension_reader import read_extension
from nself_deploy.core.model import Role
from nself_deploy.core.roles import Roles, infer_roles
from nself_deploy.errors import ConfigError

APP = {"image": "acme/web:1"}
VOLUME = {"type": "volume", "source": "data", "target": "/data", "volume": {}}
BIND = {"type": "bind", "source": "/srv/shop/files", "target": "/files"}


def _bind(target: str, *, read_only: bool = True) -> dict[str, Any]:
    return {"type": "bind", "source": f"/srv/shop{target}", "target": target, "read_only": read_only}


def _roles(**services: dict[str, Any]) -> Roles:
    model = {"services": {name.replace("_", "-"): config for name, config in services.items()}}
    return infer_roles(model["services"], read_extension(model))


def _of(roles: Roles, name: str) -> Role:
    return roles.choices[name].role


SHARED = [
    ({"image": "postgres:17"}, "data store (postgres)"),
    ({"image": "registry.example.org:5000/bitnami/postgresql@sha256:12"}, "data store (postgresql)"),
    ({"image": "redis/redis-stack-server:7"}, "data store (redis)"),
    ({"image": "minio/minio"}, "data store (minio)"),
    ({"image": "localhost/mssql/server:2022"}, "data store (mssql)"),
    ({"image": "acme/thing", "volumes": [VOLUME]}, "named volume data at /data"),
    ({"build": {"context": "."}, "volumes": [BIND]}, "bind mount at /files is writable"),
    ({"image": "acme/thing", "network_mode": "host"}, "network_mode: host"),
    ({"image": "acme/thing", "network_mode": "container:abc"}, "network_mode: container:abc"),
    ({"image": "acme/thing", "network_mode": "bridge"}, "network_mode: bridge"),
    ({"image": "acme/thing", "privileged": True}, "privileged"),
    ({"image": "acme/thing", "devices": [{"source": "/dev/dri"}]}, "devices"),
    ({"image": "acme/thing", "volumes_from": ["container:old"]}, "volumes of a container outside"),
    ({"image": "acme/thing", "expose": ["6379"]}, "listens on 6379 (Redis)"),
    ({"image": "acme/thing", "ports": [{"target": 5432, "published": "15432"}]}, "listens on 5432 (PostgreSQL)"),
]


@pytest.mark.parametrize(("config", "reason"), SHARED)
def test_doubtful_means_shared(config: dict[str, Any], reason: str) -> None:
    choice = _roles(web=APP, thing=config).choices["thing"]

    assert choice.role is Role.SHARED
    assert reason in choice.reason


APPS = [
    {"image": "acme/web:1"},
    {"build": {"context": "."}},
    {"image": "acme/redis-consumer", "build": {"context": "."}},
    {"image": "acme/web", "volumes": [_bind("/etc/app.conf")]},
    {
        "image": "acme/web",
        "volumes": [{"type": "volume", "target": "/node_modules"}, {"type": "tmpfs", "target": "/t"}],
    },
    {"image": "acme/web", "volumes": [{"type": "bind", "source": "/etc/localtime", "target": "/etc/localtime"}]},
    {"image": "acme/web", "volumes": [VOLUME | {"read_only": True}]},
    {"image": "acme/web", "container_name": "web", "ports": [{"target": 80, "published": "8080"}]},
    {"image": "acme/web", "deploy": {"replicas": 3}},
    {"image": "acme/web", "scale": 2, "restart": "always"},
    {"image": "acme/web", "network_mode": "none"},
    {"image": "acme/static-nginx"},
    {"image": "acme/db-admin", "depends_on": {"web": {"condition": "service_started"}}},
]


@pytest.mark.parametrize("config", APPS)
def test_what_keeps_nothing_is_an_app(config: dict[str, Any]) -> None:
    roles = _roles(web=APP, thing=config)

    assert _of(roles, "thing") is Role.APP, roles.choices["thing"].reason
    assert roles.choices["thing"].reason


def test_a_service_named_like_a_store_is_one_when_others_depend_on_it() -> None:
    needs = APP | {"depends_on": {"cache": {"condition": "service_healthy"}}}

    assert "web depends on it" in _roles(web=needs, cache={"build": {"context": "."}}).choices["cache"].reason
    assert _of(_roles(web=APP, cache={"build": {"context": "."}}), "cache") is Role.APP


@pytest.mark.parametrize("restart", [{}, {"restart": "no"}, {"restart": "on-failure:3"}])
@pytest.mark.parametrize("image", ["acme/api", "postgres:17"])
def test_a_service_whose_completion_is_awaited_is_a_job(restart: dict[str, str], image: str) -> None:
    needs = APP | {"depends_on": {"migrate": {"condition": "service_completed_successfully"}}}
    choice = _roles(web=needs, migrate={"image": image, "volumes": [BIND], **restart}).choices["migrate"]

    assert choice.role is Role.JOB
    assert "web waits until it has completed" in choice.reason


def test_a_service_that_ends_and_nobody_waits_for_is_no_job() -> None:
    assert _of(_roles(web=APP, once=APP | {"restart": "no"}), "once") is Role.APP


NGINX = {"image": "nginx:1.30-alpine", "ports": [{"target": 80, "published": "8080"}]}
CONFIGURED = {"image": "nginx", "volumes": [_bind("/etc/nginx/conf.d")]}


@pytest.mark.parametrize(
    "config",
    [
        NGINX,
        CONFIGURED,
        {"image": "registry.example/nginxinc/nginx-unprivileged:1", "network_mode": "host"},
        {"image": "openresty/openresty", "ports": [{"target": 80}]},
        {"image": "acme/edge", "volumes": [_bind("/etc/nginx/nginx.conf")], "ports": [{"target": 443}]},
        {"image": "acme/nginx-edge:2", "build": {"context": "."}, "ports": [{"target": 443, "published": "443"}]},
    ],
)
def test_the_router_is_an_nginx_that_users_reach(config: dict[str, Any]) -> None:
    roles = _roles(web=APP, edge=config)

    assert roles.router == "edge"
    assert "," in roles.choices["edge"].reason


def test_a_built_service_called_nginx_that_publishes_ports_is_the_router() -> None:
    assert _roles(web=APP, nginx={"build": {"context": "."}, "ports": [{"target": 80}]}).router == "nginx"


@pytest.mark.parametrize(
    "config",
    [
        {"image": "nginx"},
        {"image": "nginx/nginx-prometheus-exporter", "ports": [{"target": 9113}]},
        {"image": "acme/gateway", "ports": [{"target": 80, "published": "80"}]},
    ],
)
def test_not_every_nginx_or_port_is_the_router(config: dict[str, Any]) -> None:
    assert _roles(web=APP, edge=config).router == ""


def test_two_routers_are_an_error_that_names_both() -> None:
    with pytest.raises(ConfigError) as caught:
        _roles(web=APP, edge=NGINX, inner=CONFIGURED)

    assert "edge" in caught.value.what
    assert "inner" in caught.value.what
    assert "role: router" in caught.value.remedy
    assert caught.value.where == "services.inner"


def test_one_declared_router_settles_it() -> None:
    roles = _roles(web=APP, edge=NGINX | {"x-nself-deploy": {"role": "router"}}, inner=CONFIGURED)

    assert roles.router == "edge"
    assert roles.choices["edge"].reason == "set by x-nself-deploy"
    assert _of(roles, "inner") is Role.APP


def test_two_declared_routers_are_an_error() -> None:
    declared = NGINX | {"x-nself-deploy": {"role": "router"}}
    with pytest.raises(ConfigError, match="edge and inner"):
        _roles(web=APP, edge=declared, inner=declared)


@pytest.mark.parametrize(
    ("top", "words"),
    [
        ({"router": {"service": "gone"}}, "'gone' is not a service"),
        ({"router": {"service": "web"}}, "Two services are declared as the router: edge and web"),
        ({"router": {"host": {}}}, "edge is declared as the router, and so is an nginx of the host"),
    ],
)
def test_a_router_declared_in_two_ways(top: dict[str, Any], words: str) -> None:
    model = {"x-nself-deploy": top, "services": {"web": APP, "edge": NGINX | {"x-nself-deploy": {"role": "router"}}}}
    with pytest.raises(ConfigError, match=words):
        infer_roles(model["services"], read_extension(model))


def test_an_nginx_of_the_host_leaves_no_router_among_the_services() -> None:
    model = {"x-nself-deploy": {"router": {"host": {}}}, "services": {"web": APP, "edge": NGINX}}
    roles = infer_roles(model["services"], read_extension(model))

    assert roles.router == ""
    assert _of(roles, "edge") is Role.APP


def test_a_declared_role_wins_and_says_so() -> None:
    roles = _roles(web=APP, thing=APP | {"x-nself-deploy": {"role": "shared"}})

    assert roles.choices["thing"].role is Role.SHARED
    assert roles.choices["thing"].reason == "set by x-nself-deploy"


def test_an_app_with_a_volume_is_allowed_and_warned_about() -> None:
    roles = _roles(web=APP | {"volumes": [VOLUME], "x-nself-deploy": {"role": "app"}})

    assert _of(roles, "web") is Role.APP
    assert any("named volume data" in warning and "both versions" in warning for warning in roles.warnings)


def test_read_only_files_are_the_same_for_both_versions() -> None:
    assert any("/etc/app.conf" in w for w in _roles(web=APP | {"volumes": [_bind("/etc/app.conf")]}).warnings)


@pytest.mark.parametrize(
    ("config", "role", "words"),
    [
        ({"image": "a", "network_mode": "host"}, "app", "network_mode: host"),
        ({"image": "a", "restart": "unless-stopped"}, "job", "restart policy"),
    ],
)
def test_a_declared_role_that_cannot_work(config: dict[str, Any], role: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        _roles(web=APP, thing=config | {"x-nself-deploy": {"role": role}})

    assert caught.value.where == "services.thing.x-nself-deploy.role"
    assert caught.value.remedy


def test_companions_live_together() -> None:
    sidecar = {"image": "acme/proxy", "network_mode": "service:web"}

    both_apps = _roles(web=APP, side=sidecar)
    both_shared = _roles(other=APP, web=APP, side=sidecar | {"volumes": [VOLUME]})
    follows = _roles(other=APP, web=APP | {"volumes": [VOLUME]}, side=sidecar)
    chain = _roles(other=APP, web=APP, side=sidecar, tail=APP | {"volumes_from": ["side:ro"], "privileged": True})

    assert (_of(both_apps, "web"), _of(both_apps, "side")) == (Role.APP, Role.APP)
    assert (_of(both_shared, "web"), both_shared.choices["web"].reason) == (Role.SHARED, "side uses its network")
    assert (_of(follows, "side"), follows.choices["side"].reason) == (Role.SHARED, "uses the network of web")
    assert [_of(chain, name) for name in ("other", "web", "side", "tail")] == [Role.APP, *[Role.SHARED] * 3]


def test_companions_with_declared_roles_that_differ() -> None:
    web = APP | {"x-nself-deploy": {"role": "app"}}
    with pytest.raises(ConfigError, match="both are app services or neither is"):
        _roles(web=web, side={"image": "a", "network_mode": "service:web", "volumes": [VOLUME]})


def test_nothing_to_deploy_says_what_everything_is() -> None:
    with pytest.raises(ConfigError, match="no app service") as caught:
        _roles(edge=NGINX, db={"image": "postgres:17"})

    assert any("db: shared (image postgres:17" in line for line in caught.value.evidence)


def test_a_link_under_another_name_to_what_stays_outside_is_refused() -> None:
    db = {"image": "postgres:17"}
    with pytest.raises(ConfigError, match="'database'") as caught:
        _roles(web=APP | {"links": ["db:database"]}, db=db)

    assert "aliases: [database]" in caught.value.remedy
    assert _of(_roles(web=APP | {"links": ["db", "api:backend"]}, api=APP, db=db), "web") is Role.APP


def test_a_shared_service_that_needs_an_app_is_warned_about() -> None:
    cron = {"image": "acme/cron", "volumes": [VOLUME], "depends_on": {"web": {"condition": "service_healthy"}}}

    assert any("cron: is shared, and can't reach web" in w for w in _roles(web=APP, cron=cron).warnings)
