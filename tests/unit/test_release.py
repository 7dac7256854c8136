"""A release is the same when nothing that matters changed, and another one when something did."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nself_deploy.core.model import Activate, Project, Release, Role, Route, Service
from nself_deploy.core.release import GitInfo, files_of, image_tag, make_release
from nself_deploy.errors import ImageError
from tests.unit.slot_examples import NOW, image, project, release, rich_project, service


def changed(of: Project, name: str, **config: Any) -> Project:
    """The project with other keys in one service."""
    services = dict(of.services)
    services[name] = msgspec.structs.replace(services[name], config={**services[name].config, **config})
    return msgspec.structs.replace(of, services=services)


def shuffled(value: Any) -> Any:
    """The same value with all mappings the other way round."""
    if isinstance(value, dict):
        return {k: shuffled(value[k]) for k in reversed(value)}
    return [shuffled(v) for v in value] if isinstance(value, list) else value


def test_a_release_holds_apps_and_jobs_with_what_they_use() -> None:
    """Shared services and the router are no part of it; its id tells time and content."""
    made = release(rich_project(), git=GitInfo("abc123", dirty=True), user="ann")

    assert sorted(made.services) == ["agent", "api", "migrate", "scheduler", "web"] == sorted(made.images)
    assert (sorted(made.networks), sorted(made.volumes)) == (["back", "default", "partners"], ["uploads"])
    assert (sorted(made.secrets), sorted(made.configs)) == (["api-key"], ["limits"])
    assert made.id == f"20261122T213000-{made.fingerprint[:8]}"
    assert (made.git_commit, made.git_dirty, made.created_by, made.created_at) == ("abc123", True, "ann", NOW)
    assert re.fullmatch("[0-9a-f]{64}", made.fingerprint)


def test_a_record_read_back_is_the_same_release() -> None:
    """JSON keeps all of it."""
    made = release(rich_project())

    assert msgspec.json.decode(msgspec.json.encode(made), type=Release) == made


def test_the_order_of_keys_does_not_matter() -> None:
    """Compose may print its mappings in any order."""
    one = rich_project()
    services = {n: msgspec.structs.replace(s, config=shuffled(s.config)) for n, s in reversed(one.services.items())}
    other = msgspec.structs.replace(one, services=services, networks=shuffled(one.networks))

    assert release(one).fingerprint == release(other).fingerprint


SAME: dict[str, dict[str, Any]] = {
    "host ports": {"ports": [{"target": 9000, "published": "9999"}]},
    "build settings": {"build": {"context": "/elsewhere"}},
    "the image's name": {"image": "shop-api:8"},
    "a profile": {"profiles": []},
    "how a deploy is timed": {"x-nself-deploy": {"health_timeout": "90s"}},
    "pulling": {"pull_policy": "missing"},
}
OTHER: dict[str, dict[str, Any]] = {
    "environment": {"environment": {"GREETING": "hello"}},
    "command": {"command": ["python"]},
    "health check": {"healthcheck": {"test": ["CMD", "/other"]}},
    "memory": {"deploy": {"resources": {"limits": {"memory": "1"}}}},
    "alias": {"networks": {"back": {"aliases": ["other"]}, "default": None}},
    "the name that others know it by": {"container_name": "another-api"},
    "label": {"labels": {}},
}


@pytest.mark.parametrize("config", SAME.values(), ids=SAME)
def test_unchanged(config: dict[str, Any]) -> None:
    """What never reaches a slot's containers makes no new release."""
    assert release(changed(rich_project(), "api", **config)).fingerprint == release(rich_project()).fingerprint


@pytest.mark.parametrize("config", OTHER.values(), ids=OTHER)
def test_changed(config: dict[str, Any]) -> None:
    """What the containers would notice makes a new one."""
    assert release(changed(rich_project(), "api", **config)).fingerprint != release(rich_project()).fingerprint


def replaced(of: Project, name: str, **fields: Any) -> Project:
    """The project with other fields of one service."""
    services = {**of.services, name: msgspec.structs.replace(of.services[name], **fields)}
    return msgspec.structs.replace(of, services=services)


def test_beside_the_configuration() -> None:
    """Images, replicas, roles, routes and networks count too; where a route was found doesn't, nor do others' keys."""
    one = rich_project()
    base = release(one).fingerprint
    route = one.routes[0]
    others = [
        replaced(one, "web", replicas=3),
        replaced(one, "scheduler", activate=Activate.WITH_SLOT),
        replaced(one, "scheduler", role=Role.SHARED),
        msgspec.structs.replace(one, routes=(Route(key="web", service="web", port=8001),)),
        msgspec.structs.replace(one, networks={**one.networks, "back": {"name": "elsewhere"}}),
        msgspec.structs.replace(one, secrets={"api-key": {"name": "k", "file": "/other"}}),
    ]
    images = {n: image("changed" if n == "web" else n) for n in one.services}
    moved = msgspec.structs.replace(one, routes=(msgspec.structs.replace(route, source="shop.conf:9"),))

    prints = [release(p).fingerprint for p in others] + [make_release(one, images, now=NOW).fingerprint]
    assert len({base, *prints}) == len(prints) + 1
    assert release(moved).fingerprint == base
    assert release(changed(one, "db", command=["other"])).fingerprint == base
    assert release(changed(one, "router", command=["other"])).fingerprint == base


def test_contents_of_files_count() -> None:
    """A changed secret, config or mounted file is a change; files of nobody are not."""
    one = rich_project()
    hashes = dict.fromkeys(files_of(one), "a" * 64)

    assert files_of(one) == ("/srv/shop/api-key", "/srv/shop/config")
    base = release(one, file_hashes=hashes).fingerprint
    assert release(one, file_hashes={**hashes, "/srv/shop/other": "b" * 64}).fingerprint == base
    for path in hashes:
        assert release(one, file_hashes={**hashes, path: "b" * 64}).fingerprint != base


def test_a_service_without_an_image_is_refused() -> None:
    """By name, with what to do."""
    with pytest.raises(ImageError, match=r"service 'web' has no image. Build it"):
        make_release(project([service("web")]), {}, now=NOW)


def test_tags_that_keep_images() -> None:
    """Readable where Docker allows it, and never the same for two services."""
    assert image_tag("shop", "api", "20261122T213000-3fa9c2d1") == "nself-deploy/shop-api:20261122T213000-3fa9c2d1"
    tags = [image_tag("shop", name, "r") for name in ("api", "Api", "a.pi", "a_pi", "a._pi", "a-_pi", "_api", "api_")]
    assert len(set(tags)) == len(tags)


names = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,200}", fullmatch=True)


@given(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,60}", fullmatch=True), names)
def test_tags_are_names_that_docker_takes(project_name: str, service_name: str) -> None:
    """Any project and service name that Compose takes gives a valid reference."""
    tag = image_tag(project_name, service_name, "20261122T213000-3fa9c2d1")

    part = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
    assert re.fullmatch(rf"{part}/{part}:[\w][\w.-]{{0,127}}", tag), tag
    assert len(tag) <= 255


@given(st.dictionaries(st.sampled_from(["command", "user", "working_dir", "tty"]), st.text(max_size=3)))
def test_equal_configurations_give_equal_prints(config: dict[str, str]) -> None:
    """And different ones don't."""

    def of(settings: dict[str, str]) -> str:
        return release(project([service("web", dict(settings))])).fingerprint

    assert of(config) == of(deepcopy(config))
    assert of(config) != of({**config, "command": config.get("command", "") + "x"})


def test_service_fields_that_only_time_a_deploy_do_not_count() -> None:
    """Nor does the reason for a role."""

    def of(**fields: Any) -> str:
        web: Service = msgspec.structs.replace(service("web"), **fields)
        return release(project([web])).fingerprint

    assert of() == of(reason="other", stop_grace_s=99.0, health_timeout_s=5.0, builds=True)
