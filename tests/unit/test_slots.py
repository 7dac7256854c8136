"""A release compiled into a slot keeps what the user wrote and shares no name, address or port with the other slot."""

from __future__ import annotations

import io
import os
from itertools import chain
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from nself_deploy.core.model import (
    LABEL_PROJECT,
    LABEL_RELEASE,
    LABEL_REPLICA,
    LABEL_ROLE,
    LABEL_SERVICE,
    LABEL_SLOT,
    Activate,
    Project,
    Role,
    Route,
    RouterKind,
    RouterRef,
    Service,
    Slot,
)
from nself_deploy.core.slots import app_keys, compile_slot, job_keys, keys_of, on_live_keys, upstreams
from nself_deploy.errors import ConfigError
from tests.unit.slot_examples import (
    GOLDEN,
    addresses,
    load_yaml,
    project,
    release,
    rich_project,
    service,
    twins,
)

SLOTS = (Slot.BLUE, Slot.GREEN)
LABELS = {LABEL_PROJECT, LABEL_SLOT, LABEL_SERVICE, LABEL_REPLICA, LABEL_RELEASE, LABEL_ROLE}


def compiled(of: Project, slot: Slot = Slot.GREEN, shared: set[str] | None = None) -> dict[str, Any]:
    """The project's release in a slot; services outside are on all networks unless told."""
    made = release(of)
    return compile_slot(made, of.name, slot, twins(of), addresses(made), set(of.networks) if shared is None else shared)


def test_golden() -> None:
    """A rich project, word by word (NSELF_REWRITE_GOLDEN=1 writes it anew; read the difference)."""
    path = GOLDEN / "slot_green.yaml"
    model = compiled(rich_project(), shared={"back", "default"})
    if os.environ.get("NSELF_REWRITE_GOLDEN"):
        text = io.StringIO()
        YAML(typ="safe", pure=True).dump(model, text)
        path.write_text("# What the project of slot_input.yaml becomes in slot green.\n" + text.getvalue())

    assert model == load_yaml(path)


configs = st.fixed_dictionaries(
    {},
    optional={
        "ports": st.just([{"target": 80, "published": "80", "mode": "ingress"}]),
        "container_name": st.sampled_from(["fixed", "other"]),
        "hostname": st.sampled_from(["host-a", "host-b"]),
        "mac_address": st.just("02:42:ac:11:00:02"),
        "profiles": st.just(["x"]),
        "build": st.just({"context": "/srv"}),
        "scale": st.just(4),
        "deploy": st.just({"replicas": 4, "mode": "global", "resources": {"limits": {"cpus": 1}}}),
        "labels": st.sampled_from([{LABEL_SLOT: "stolen", "mine": "1"}, ["mine=1", "flag"]]),
        "extra_hosts": st.sampled_from([["a=203.0.113.1"], {"b": ["203.0.113.2"]}]),
        "depends_on": st.sampled_from([["a", "j"], {"b": {"condition": "service_healthy"}}]),
    },
)
aliases = st.lists(st.sampled_from(["site", "backend"]), unique=True)
networks = st.lists(st.sampled_from(["default", "back", "front"]), min_size=1, unique=True).map(tuple)


@st.composite
def services(draw: st.DrawFn, name: str, role: Role = Role.APP) -> Service:
    """Any service."""
    of = draw(networks)
    attached = {n: {"aliases": draw(aliases), "ipv4_address": "10.9.0.9"} for n in of}
    config = {**draw(configs), "networks": attached}
    return service(
        name,
        config,
        role=role,
        networks=of,
        replicas=draw(st.integers(1, 3)),
        activate=draw(st.sampled_from(list(Activate))) if role is Role.APP else Activate.WITH_SLOT,
    )


@st.composite
def projects(draw: st.DrawFn) -> Project:
    """Any project of three apps, a job and a database."""
    apps = [draw(services(name)) for name in "abc"]
    known = {
        n: {"name": draw(st.sampled_from([f"shop_{n}", f"any-{n}"])), "external": draw(st.booleans())}
        for n in ("default", "back", "front")
    }
    db = service("db", {"volumes": [{"type": "volume", "source": "data", "target": "/d"}]}, role=Role.SHARED)
    routes = (Route(key="a", service="a", port=80), Route(key="b", service="b", port=81))
    return project([*apps, draw(services("j", Role.JOB)), db], networks=known, routes=routes)


@settings(max_examples=40, deadline=None)
@given(projects(), st.sets(st.sampled_from(["default", "back", "front"])))
def test_nothing_is_in_both_slots(of: Project, shared: set[str]) -> None:
    """Container names, keys, host names and addresses differ; aliases exist only on networks of one slot."""
    blue, green = (compiled(of, slot, shared)["services"] for slot in SLOTS)

    names = [s["container_name"] for s in (*blue.values(), *green.values())]
    assert len(names) == len(set(names))
    assert not {s.get("hostname") for s in blue.values()} & {s.get("hostname", "none") for s in green.values()}
    assert not set(blue) & set(green)
    own = [
        {a["ipv4_address"] for s in side.values() for a in s["networks"].values() if a and "ipv4_address" in a}
        for side in (blue, green)
    ]
    assert own[0] and not own[0] & own[1]
    for slot, side in zip(SLOTS, (blue, green), strict=True):
        known = {t.network: t for t in twins(of) if t.slot is slot}
        for config in side.values():
            for key, attached in config["networks"].items():
                kind, _, network = key.partition(".")
                assert network in known
                if kind == "plain":
                    assert attached is None and (network in shared or of.networks[network]["external"])
                assert kind in ("plain", "slot", "router")


@settings(max_examples=40, deadline=None)
@given(projects())
def test_what_two_slots_would_fight_over_never_survives(of: Project) -> None:
    """No host port, name of the user, build or profile; images by id; labels on each container."""
    model = compiled(of)

    assert sum(len(keys_of(s, Slot.GREEN)) for s in release(of).services.values()) == len(model["services"])
    for key, config in model["services"].items():
        assert not {"ports", "profiles", "build", "scale", "mac_address"} & set(config)
        assert config["image"].startswith("sha256:") and config["pull_policy"] == "never"
        assert set(config.get("deploy", {})) <= {"resources"}
        assert set(config["labels"]) >= LABELS
        labels = config["labels"]
        assert labels[LABEL_SLOT] == "green" and labels[LABEL_RELEASE] == release(of).id
        name, replica = labels[LABEL_SERVICE], labels[LABEL_REPLICA]
        assert key == f"green-{name}-{replica}" and config["container_name"] == f"shop-green-{name}-{replica}"
        assert set(config.get("depends_on", {})) <= set(model["services"])
    assert all(n["external"] is True for n in model["networks"].values())


@settings(max_examples=40, deadline=None)
@given(projects())
def test_names_mean_services_of_the_slot(of: Project) -> None:
    """Every pinned address is the one of a replica that has that name in this slot."""
    model = compiled(of)
    twin_addresses: dict[str, set[str]] = {}
    for config in model["services"].values():
        for attached in config["networks"].values():
            for name in (attached or {}).get("aliases", ()):
                twin_addresses.setdefault(name, set()).add(attached["ipv4_address"])

    user = {"203.0.113.1", "203.0.113.2"}
    for config in model["services"].values():
        for name, _, address in (entry.partition("=") for entry in config.get("extra_hosts", ())):
            assert address in twin_addresses.get(name, set()) or address in user


@settings(max_examples=40, deadline=None)
@given(projects())
def test_keys(of: Project) -> None:
    """Every container is started by exactly one of the three lists, and all replicas are in it."""
    made = release(of)
    lists = app_keys(made, Slot.BLUE), on_live_keys(made, Slot.BLUE), job_keys(made, Slot.BLUE)

    assert sorted(chain(*lists)) == sorted(compiled(of, Slot.BLUE)["services"])
    assert lists[2] == ["blue-j-1"]


def green(of: Project, key: str, **how: Any) -> dict[str, Any]:
    """One compiled container."""
    found: dict[str, Any] = compiled(of, **how)["services"][key]
    return found


def test_several_replicas_are_found_by_the_name_server() -> None:
    """Only services with one container are pinned, as long as the slot's network is asked first."""
    apps = [service("web"), service("api", replicas=3)]

    assert green(project(apps), "green-web-1")["extra_hosts"] == ["web=10.213.1.5"]
    pinned = green(project(apps, networks={"default": {"name": "aaa"}}), "green-web-1")["extra_hosts"]
    assert pinned == ["api=10.213.1.2", "api=10.213.1.3", "api=10.213.1.4", "web=10.213.1.5"]
    assert green(project(apps, networks={"default": {"name": "aaa"}}), "green-web-1", shared=set())["extra_hosts"] == [
        "web=10.213.1.5"
    ]
    mixed = {"back": {"name": "shop_back", "internal": True}}
    both = [service("web", networks=("default", "back")), service("api", replicas=2, networks=("back",))]
    assert len(green(project(both, networks=mixed), "green-web-1")["extra_hosts"]) == 3
    six = {"default": {"name": "shop_default", "enable_ipv6": True}}
    assert len(green(project(apps, networks=six), "green-web-1")["extra_hosts"]) == 4


def test_an_alias_of_two_services_is_not_pinned_to_one() -> None:
    """It stays with the name server, which answers with both."""
    attached = {"networks": {"default": {"aliases": ["both"]}}}

    hosts = green(project([service("a", attached), service("b", attached)]), "green-a-1")["extra_hosts"]
    assert [h.partition("=")[0] for h in hosts] == ["a", "b"]


def test_services_that_share_no_network_are_not_pinned() -> None:
    """What the user keeps apart stays apart; the user's own entries win."""
    apps = [
        service("a", networks=("front",)),
        service("b", networks=("back",)),
        service("c", {"extra_hosts": ["a:203.0.113.9"]}, networks=("front",)),
    ]

    assert [h.partition("=")[0] for h in green(project(apps), "green-a-1")["extra_hosts"]] == ["a", "c"]
    assert green(project(apps), "green-c-1")["extra_hosts"] == ["a:203.0.113.9", "c=10.213.3.3"]


def test_dependencies_stay_inside() -> None:
    """On every replica of apps; never on jobs, shared services, the router, or what waits for the slot to be live."""
    started = {"condition": "service_started", "required": True}
    wanted = dict.fromkeys(("api", "db", "job", "cron", "router"), started)
    of = project(
        [
            service("web", {"depends_on": wanted}),
            service("api", replicas=2),
            service("db", role=Role.SHARED),
            service("job", {"depends_on": {"db": {}, "api": {}, "job2": {}}}, role=Role.JOB),
            service("job2", role=Role.JOB),
            service("router", role=Role.ROUTER),
            service("cron", {"depends_on": ["web"]}, activate=Activate.ON_LIVE),
        ]
    )

    assert green(of, "green-web-1")["depends_on"] == dict.fromkeys(("green-api-1", "green-api-2"), started)
    assert set(green(of, "green-job-1")["depends_on"]) == {"green-job2-1"}
    assert set(green(of, "green-cron-1")["depends_on"]) == {"green-web-1"}


def test_a_named_volume_is_the_same_volume() -> None:
    """The engine's own name, external: never a second one."""
    mount = {"volumes": [{"type": "volume", "source": "up", "target": "/up"}, {"type": "volume", "target": "/tmp/x"}]}
    named = compiled(project([service("web", mount)], volumes={"up": {"name": "elsewhere"}}))

    assert named["volumes"] == {"up": {"name": "elsewhere", "external": True}}
    assert compiled(project([service("web", mount)], volumes={"up": {}}))["volumes"]["up"]["name"] == "shop_up"


def test_shared_process_and_network_spaces_are_paired_by_replica() -> None:
    """A sidecar of a service with three replicas goes with its own one."""
    of = project(
        [service("web", replicas=2), service("side", {"network_mode": "service:web"}, networks=(), replicas=3)]
    )

    modes = [green(of, f"green-side-{n}")["network_mode"] for n in (1, 2, 3)]
    assert modes == ["service:green-web-1", "service:green-web-2", "service:green-web-1"]
    assert "networks" not in green(of, "green-side-1") and "extra_hosts" not in green(of, "green-side-1")


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "link": ({"links": ["db:database"]}, "Give 'db' the network alias 'database' instead"),
    "volumes_from": ({"volumes_from": ["db"]}, "services.web.volumes_from: .*outside the slots"),
    "pid": ({"pid": "service:db"}, "services.web.pid"),
}


@pytest.mark.parametrize(("config", "words"), BAD.values(), ids=BAD)
def test_what_leads_out_of_the_slot_is_refused(config: dict[str, Any], words: str) -> None:
    """With the place and what to do, rather than changed in silence."""
    with pytest.raises(ConfigError, match=words):
        compiled(project([service("web", config), service("db", role=Role.SHARED)]))


def router(kind: RouterKind = RouterKind.SERVICE, *names: str) -> RouterRef:
    """A router on these networks."""
    return RouterRef(kind=kind, service="router", networks=names)


def test_upstreams() -> None:
    """Fixed addresses of both slots on a network that the router shares, whatever runs; plain ones while adopted."""
    web = service("web", networks=("front", "default"), replicas=2)
    of = project([web, service("api")])
    routes = (Route(key="web", service="web", port=8000), Route(key="api", service="api", port=9000))
    known = twins(of)
    made = addresses(release(of))

    found = upstreams(routes, of.services, router(RouterKind.SERVICE, "default"), known, made)
    assert [(u.route.key, u.servers) for u in found] == [
        ("api", {Slot.BLUE: ("10.213.4.2:9000",), Slot.GREEN: ("10.213.5.2:9000",)}),
        (
            "web",
            {Slot.BLUE: ("10.213.4.3:8000", "10.213.4.4:8000"), Slot.GREEN: ("10.213.5.3:8000", "10.213.5.4:8000")},
        ),
    ]
    host = upstreams(
        routes[:1],
        of.services,
        router(RouterKind.HOST),
        known,
        made,
        plain={"web": ["172.18.0.5"]},
        replicas={(Slot.BLUE, "web"): 1},
    )
    assert host[0].servers == {
        Slot.BLUE: ("10.213.1.2:8000",),
        Slot.GREEN: ("10.213.3.2:8000", "10.213.3.3:8000"),
        Slot.PLAIN: ("172.18.0.5:8000",),
    }


def test_routes_that_can_not_work_are_refused() -> None:
    """No such service, a shared one, no common network, the host's network."""
    of = project(
        [
            service("web"),
            service("db", role=Role.SHARED),
            service("far", networks=("back",)),
            service("host", {"network_mode": "host"}, networks=()),
        ]
    )
    for name, words in {
        "none": "not an app service",
        "db": "not an app service",
        "far": "no network in common",
        "host": "network_mode 'host'",
    }.items():
        with pytest.raises(ConfigError, match=words):
            upstreams(
                [Route(key="r", service=name, port=1)],
                of.services,
                router(RouterKind.SERVICE, "default"),
                twins(of),
                addresses(release(of)),
            )


def test_compiling_changes_nothing_it_was_given() -> None:
    """The release's record is compiled for two slots, one after the other."""
    of = rich_project()
    before = msgspec.json.encode(of)

    assert compiled(of) == compiled(of)
    assert msgspec.json.encode(of) == before
