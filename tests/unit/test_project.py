"""A project out of a resolved model."""

from __future__ import annotations

from typing import Any

import pytest

from nself_deploy.core.extension_reader import read_extension
from nself_deploy.core.model import Activate, Probe, Project, Protocol, Role, Route, RouterKind
from nself_deploy.core.nginx_names import route_key
from nself_deploy.core.project import MAX_REPLICAS, MAX_SERVICES, WARNINGS_KEY, build_project
from nself_deploy.core.router_role import router_config_mounts
from nself_deploy.errors import ConfigError, UsageError

NGINX: dict[str, Any] = {
    "image": "nginx:1.30",
    "ports": [{"target": 80, "published": "8080"}],
    "networks": {"front": None},
    "volumes": [
        {"type": "bind", "source": "/srv/shop/nginx.conf", "target": "/etc/nginx/nginx.conf", "read_only": True},
        {"type": "bind", "source": "/srv/shop/conf.d", "target": "/etc/nginx/conf.d/", "read_only": True},
        {"type": "bind", "source": "/srv/shop/html", "target": "/usr/share/nginx/html", "read_only": True},
    ],
}
WEB: dict[str, Any] = {
    "image": "acme/web:$$1",
    "networks": {"back": None, "front": {"aliases": ["www"]}},
    "deploy": {"replicas": 3},
    "stop_grace_period": "1m30s",
    "healthcheck": {"test": ["CMD", "true"]},
    "environment": {"PRICE": "$$5"},
    "depends_on": {"db": {"condition": "service_healthy", "required": True}},
    "pull_policy": "always",
}
DB: dict[str, Any] = {
    "image": "postgres:17",
    "networks": {"back": None},
    "volumes": [{"type": "volume", "source": "data", "target": "/d"}],
}
ROUTE = Route("web_8000", "web", 8000, keepalive=16, source="nginx/conf.d/shop.conf:12")


def _model(top: Any = None, **services: Any) -> dict[str, Any]:
    return {
        "name": "shop",
        "x-nself-deploy": top,
        "services": {"edge": NGINX, "web": WEB, "db": DB, **services},
        "networks": {"front": {"name": "shop_front"}, "back": {"name": "shop_back", "internal": True}},
        "volumes": {"data": {"name": "shop_data"}},
    }


def _build(model: dict[str, Any], routes: tuple[Route, ...] = (ROUTE,), **more: Any) -> Project:
    files = ("/srv/shop/docker-compose.yml",)
    extension = read_extension(model)
    return build_project(model, root="/srv/shop", files=files, extension=extension, nginx_routes=routes, **more)


def test_a_service_is_what_the_model_says() -> None:
    project = _build(_model())
    web = project.services["web"]

    assert (web.role, web.replicas, web.stop_grace_s, web.has_healthcheck) == (Role.APP, 3, 90, True)
    assert (web.networks, web.depends_on, web.pull_policy) == (("back", "front"), ("db",), "always")
    assert web.image == "acme/web:$1"
    assert web.config["environment"] == {"PRICE": "$$5"}, "the mapping keeps Compose's escapes"
    assert (web.builds, web.activate, web.probe) == (False, Activate.WITH_SLOT, None)
    assert project.services["db"].stop_grace_s == 10
    assert project.networks["back"] == {"name": "shop_back", "internal": True}
    assert (project.name, project.root, project.files) == ("shop", "/srv/shop", ("/srv/shop/docker-compose.yml",))


@pytest.mark.parametrize(
    ("check", "has"),
    [
        ({"test": ["CMD", "true"]}, True),
        ({"test": "curl -f localhost"}, True),
        ({"test": ["NONE"]}, False),
        ({"test": ["CMD", "true"], "disable": True}, False),
        ({"disable": True}, False),
        ({"interval": "1s"}, False),
        (None, False),
    ],
)
def test_what_counts_as_a_healthcheck(check: Any, has: bool) -> None:
    assert _build(_model(web=WEB | {"healthcheck": check})).services["web"].has_healthcheck is has


def test_networks_and_replicas_in_other_words() -> None:
    services = {"alone": {"image": "a", "network_mode": "none", "scale": 2}, "built": {"build": {"context": "."}}}
    project = _build(_model(**services))

    assert (project.services["alone"].networks, project.services["alone"].replicas) == ((), 2)
    assert (project.services["built"].builds, project.services["built"].image) == (True, "")


def test_the_router_and_its_files() -> None:
    project = _build(_model())

    assert project.router is not None
    assert (project.router.kind, project.router.service) == (RouterKind.SERVICE, "edge")
    assert project.router.networks == ("front",)
    assert router_config_mounts(project.services["edge"].config) == {
        "/etc/nginx/nginx.conf": "/srv/shop/nginx.conf",
        "/etc/nginx/conf.d": "/srv/shop/conf.d",
    }


def test_an_nginx_of_the_host_reaches_all_networks() -> None:
    host = {"host": {"config": "/opt/nginx.conf", "pid_file": "/run/n.pid"}, "probe_port": 9999}
    router = _build(_model({"router": host})).router

    assert router is not None
    assert (router.kind, router.probe_port, router.networks) == (RouterKind.HOST, 9999, ("back", "front"))
    assert router.host is not None
    assert (router.host.config, router.host.bin, router.host.pid_file) == ("/opt/nginx.conf", "nginx", "/run/n.pid")


def test_an_added_router_is_a_service_of_the_project() -> None:
    model = _model()
    del model["services"]["edge"]
    project = _build(model, added=("nself-router", {"image": "nginx:1.30"}))

    assert project.router is not None
    assert (project.router.kind, project.router.service) == (RouterKind.ADDED, "nself-router")
    assert project.services["nself-router"].role is Role.ROUTER
    assert _build(model).router is None


def test_declared_and_found_routes_are_one_list() -> None:
    top = {"routes": [{"service": "web", "port": 8000}, {"service": "my-api", "port": 50051, "protocol": "grpc"}]}
    project = _build(_model(top, **{"my-api": {"image": "acme/api", "networks": {"front": None}}}))

    assert [(r.key, r.protocol, r.source) for r in project.routes] == [
        ("my_api_50051", Protocol.GRPC, "x-nself-deploy"),
        ("web_8000", Protocol.HTTP, "nginx/conf.d/shop.conf:12"),
    ]
    assert project.routes[1].keepalive == 16
    assert route_key("My.Api-2", 80) == "my_api_2_80"


@pytest.mark.parametrize(
    ("service", "words"),
    [
        ("nope", "'nope', which does not exist"),
        ("db", "db is a shared service (image postgres:17 is a data store (postgres)), and it is also routed"),
        ("migrate", "migrate is a job"),
        ("edge", "edge is a router"),
    ],
)
def test_a_route_to_what_cannot_have_one(service: str, words: str) -> None:
    migrate = {"image": "acme/web", "x-nself-deploy": {"role": "job"}}
    with pytest.raises(ConfigError) as declared:
        _build(_model({"routes": [{"service": service, "port": 80}]}, migrate=migrate))
    with pytest.raises(ConfigError) as found:
        _build(_model(migrate=migrate), (Route("x_80", service, 80, source="nginx.conf:3"),))

    assert words in declared.value.what
    assert words in found.value.what
    assert declared.value.where == "x-nself-deploy.routes[0].service"
    assert found.value.where == "nginx.conf:3"
    assert declared.value.remedy


def test_two_routes_with_one_name() -> None:
    services = {"a-b": {"image": "a", "networks": {"front": None}}, "a.b": {"image": "a", "networks": {"front": None}}}
    top = {"routes": [{"service": name, "port": 80} for name in services]}
    with pytest.raises(ConfigError, match=r"a_b_80: a-b port 80 \(http\) and a.b port 80"):
        _build(_model(top, **services))


def test_a_router_that_cannot_reach_a_routed_service() -> None:
    with pytest.raises(ConfigError, match="no network in common"):
        _build(_model(web=WEB | {"networks": {"back": None}}))


def test_the_routers_networks_can_be_chosen_among_those_it_shares() -> None:
    edge = NGINX | {"networks": {"front": None, "back": None}}

    router = _build(_model({"router": {"networks": ["back"]}}, edge=edge)).router
    assert router is not None
    assert router.networks == ("back",)
    with pytest.raises(ConfigError, match="'other'"):
        _build(_model({"router": {"networks": ["other"]}}, edge=edge))


@pytest.mark.parametrize(
    ("service", "keys", "words"),
    [
        ("db", {"activate": "on-live"}, "`activate` is for app services"),
        ("db", {"health_timeout": "5s"}, "`health_timeout` is for app services"),
        ("db", {"probe": {}}, "db has no route"),
        ("other", {"probe": {}}, "other has no route"),
        ("web", {"activate": "on-live"}, "web is routed"),
    ],
)
def test_a_key_that_would_do_nothing_is_an_error(service: str, keys: dict[str, Any], words: str) -> None:
    services = {"web": WEB, "db": DB, "other": {"image": "a"}}
    services[service] = services[service] | {"x-nself-deploy": keys}
    with pytest.raises(ConfigError) as caught:
        _build(_model(**services))

    assert words in caught.value.what
    assert caught.value.where == f"services.{service}.x-nself-deploy.{next(iter(keys))}"


def test_probe_activate_and_limits_of_services() -> None:
    web = WEB | {"x-nself-deploy": {"probe": {"path": "/up", "timeout": "2s"}, "health_timeout": "90s"}}
    worker = {"image": "acme/worker", "x-nself-deploy": {"activate": "on-live"}}
    model = _model(web=web, worker=worker)

    assert _build(model).services["web"].probe == Probe(path="/up", timeout_s=2)
    assert _build(model).services["worker"].activate is Activate.ON_LIVE
    assert _build(model).services["web"].health_timeout_s == 90
    assert _build(model, env={"HEALTHCHECK_TIMEOUT_WEB": "20"}).services["web"].health_timeout_s == 20
    assert _build(model).services["db"].health_timeout_s is None
    with pytest.raises(UsageError, match="HEALTHCHECK_TIMEOUT_WEB"):
        _build(model, env={"HEALTHCHECK_TIMEOUT_WEB": "x"})


@pytest.mark.parametrize("name", ["", "Shop", "my shop", "-shop", "shöp", "shop.1"])
def test_a_name_that_compose_refuses(name: str) -> None:
    with pytest.raises(ConfigError, match="can't be the name"):
        _build(_model() | {"name": name})


def test_sizes_are_bounded() -> None:
    with pytest.raises(ConfigError, match="no services"):
        _build(_model() | {"services": {}})
    with pytest.raises(ConfigError, match=f"at most {MAX_SERVICES}"):
        _build(_model(**{f"s{i}": {"image": "a"} for i in range(MAX_SERVICES)}))
    with pytest.raises(ConfigError, match=f"at most {MAX_REPLICAS}"):
        _build(_model(web=WEB | {"deploy": {"replicas": MAX_REPLICAS + 1}}))
    with pytest.raises(ConfigError, match="0 replicas"):
        _build(_model(web=WEB | {"deploy": {"replicas": 0}}))


def test_warnings_of_compose_and_of_ours() -> None:
    web = WEB | {"ports": [{"target": 80, "published": "9000"}], "networks": {"front": {"ipv4_address": "10.1.2.3"}}}
    warnings = _build(_model(web=web) | {WARNINGS_KEY: ["The X variable is not set."]}).warnings

    assert warnings[0] == "The X variable is not set."
    assert any("host port 9000" in warning for warning in warnings)
    assert any("fixed address on front" in warning for warning in warnings)
