"""The generated override as data; that Compose takes it is shown on the real one."""

from __future__ import annotations

from typing import Any

from nself_deploy.core.extension_reader import read_extension
from nself_deploy.core.model import Project, Route, Slot, SlotNetwork, router_side, twin_name
from nself_deploy.core.override import override_model
from nself_deploy.core.project import AddedRouter, build_project

OURS = [
    {"type": "bind", "source": "./.nself/router", "target": "/var/lib/nself/router", "read_only": True},
    {"type": "bind", "source": "./.nself/router/log", "target": "/var/log/nself"},
]
TWINS = [
    SlotNetwork(twin_name("shop", slot, network), slot, network, "10.213.0.0/24", "10.213.0.128/25")
    for slot in (Slot.GREEN, Slot.BLUE)
    for network in ("front", "back", router_side("front"), router_side("back"))
]
AWAITS_JOB = {"job": {"condition": "service_completed_successfully"}}


def _project(
    edge: dict[str, Any] | None = None, top: Any = None, added: AddedRouter | None = None, **services: Any
) -> Project:
    edge = {"image": "nginx", "ports": [{"target": 80}], "networks": {"front": None}} | (edge or {})
    model = {
        "name": "shop",
        "x-nself-deploy": top,
        "services": {
            **({} if added else {"edge": edge}),
            "web": {"image": "web", "networks": {"front": None, "back": None}, "depends_on": AWAITS_JOB},
            "job": {"image": "job", "networks": {"back": None}},
            "db": {"image": "postgres", "networks": {"back": None}},
            **services,
        },
    }
    extension = read_extension(model)
    files = ("/srv/shop/compose.yaml",)
    routes = (Route("web_80", "web", 80),)
    return build_project(model, root="/srv/shop", files=files, extension=extension, nginx_routes=routes, added=added)


def test_the_router_keeps_its_networks_and_joins_those_where_it_meets_the_slots() -> None:
    assert override_model(_project(), TWINS, retired=False) == {
        "services": {
            "edge": {
                "networks": {"front": None, "nself-blue-front": None, "nself-green-front": None},
                "volumes": OURS,
            }
        },
        "networks": {
            "nself-blue-front": {"external": True, "name": "shop-nself-router-blue-front"},
            "nself-green-front": {"external": True, "name": "shop-nself-router-green-front"},
        },
    }


def test_before_there_are_twins_only_the_mounts_are_declared() -> None:
    assert override_model(_project(), [], retired=False) == {"services": {"edge": {"volumes": OURS}}}


def test_once_retired_apps_and_jobs_have_no_plain_containers() -> None:
    services = override_model(_project(), TWINS, retired=True)["services"]

    assert services["web"] == services["job"] == {"deploy": {"replicas": 0}}
    assert set(services) == {"edge", "web", "job"}, "shared services are not mentioned"


def test_zero_is_said_in_the_words_of_the_base() -> None:
    project = _project(
        a={"image": "a", "scale": 2},
        b={"image": "b", "scale": 2, "deploy": {"replicas": 2}},
        c={"image": "c", "deploy": {"mode": "global"}},
    )
    services = override_model(project, [], retired=True)["services"]

    assert services["a"] == {"scale": 0}
    assert services["b"] == {"scale": 0, "deploy": {"replicas": 0}}
    assert services["c"] == {"deploy": {"mode": "replicated", "replicas": 0}}


def test_a_router_on_the_hosts_network_joins_none() -> None:
    project = _project({"network_mode": "host", "networks": None})

    assert override_model(project, TWINS, retired=False) == {"services": {"edge": {"volumes": OURS}}}


def test_an_nginx_of_the_host_needs_nothing_of_compose() -> None:
    project = _project(top={"router": {"host": {}}})

    assert override_model(project, TWINS, retired=False) == {"services": {}}


def test_an_added_router_is_whole_in_the_override_and_stable() -> None:
    config = {"image": "nginx:1.30", "ports": ["80:80"], "labels": {"nself.deploy.role": "router"}}
    first = override_model(_project(added=("nself-router", config)), TWINS, retired=True)
    again = first["services"]["nself-router"]

    assert again["image"] == "nginx:1.30"
    assert again["networks"]["default"] is None
    assert "nself-blue-back" in again["networks"]
    assert again["volumes"] == OURS
    assert override_model(_project(added=("nself-router", again)), TWINS, retired=True) == first


def test_paths_start_at_the_first_compose_file() -> None:
    project = _project()
    moved = build_project(
        {"name": "shop", "services": {n: s.config for n, s in project.services.items()}},
        root="/srv/shop",
        files=("/srv/shop/deploy/compose.yaml",),
        extension=read_extension({}),
        nginx_routes=(Route("web_80", "web", 80),),
    )

    assert override_model(moved, [], retired=False)["services"]["edge"]["volumes"][0]["source"] == "../.nself/router"
