"""The nginx for a project without one. Goldens are in tests/golden/added_router/: read them when they change."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from nself_deploy.core.added_router import IMAGE, Published, choose_routes, published_by, router_conf, router_service
from nself_deploy.core.extension import RouteKeys
from nself_deploy.core.model import Protocol
from nself_deploy.errors import ConfigError

GOLDEN = Path(__file__).parents[1] / "golden" / "added_router"


def port(target: int, published: str = "", **more: str) -> dict[str, Any]:
    return {"mode": "ingress", "target": target, "published": published, "protocol": "tcp", **more}


def golden(name: str, text: str) -> None:
    """Compare with the file; NSELF_REWRITE_GOLDENS=1 writes it anew."""
    path = GOLDEN / name
    if os.environ.get("NSELF_REWRITE_GOLDENS"):
        path.write_text(text)

    assert text == path.read_text()


def test_one_service_behind_it() -> None:
    golden("one.conf", router_conf([RouteKeys("web", 8000)]))


def test_hosts_paths_and_protocols() -> None:
    golden(
        "many.conf",
        router_conf(
            [
                RouteKeys("web", 8000),
                RouteKeys("api", 9000, path="/api/"),
                RouteKeys("docs", 80, host="docs.example.com"),
                RouteKeys("rpc", 50051, host="rpc.example.com", protocol=Protocol.GRPC),
                RouteKeys("php", 9000, path="/old/", protocol=Protocol.FASTCGI),
                RouteKeys("py", 3031, path="/py/", protocol=Protocol.UWSGI),
                RouteKeys("tls", 8443, path="/tls/", protocol=Protocol.HTTPS),
            ]
        ),
    )


def test_the_longest_path_comes_first() -> None:
    text = router_conf([RouteKeys("web", 1), RouteKeys("b", 3, path="/a/b/"), RouteKeys("a", 2, path="/a/")])
    places = [text.index(f"location {path} {{") for path in ("/a/b/", "/a/", "/")]

    assert places == sorted(places)


def test_host_ports_of_services_are_found() -> None:
    apps = {
        "web": {"ports": [port(8000, "8080"), port(9999), port(53, "53", protocol="udp")]},
        "api": {"ports": [port(9000, "9000", host_ip="127.0.0.1"), port(9001, "9100-9200")]},
        "worker": {},
    }

    assert published_by(apps) == [Published("api", "127.0.0.1", "9000", 9000), Published("web", "", "8080", 8000)]


def test_it_takes_over_the_host_ports() -> None:
    service = router_service([Published("web", "127.0.0.1", "8080", 8000)])

    assert service["image"] == IMAGE
    assert service["ports"] == [{"target": 80, "published": "8080", "protocol": "tcp", "host_ip": "127.0.0.1"}]
    assert service["stop_signal"] == "SIGQUIT"


def test_without_a_host_port_it_gets_one() -> None:
    assert router_service([])["ports"] == [{"target": 80, "published": "8080", "protocol": "tcp"}]


def test_declared_routes_win() -> None:
    declared = [RouteKeys("api", 9000, path="/api/")]

    assert choose_routes(declared, [Published("web", "", "8080", 8000)]) == tuple(declared)


def test_the_one_published_service_is_what_users_come_to() -> None:
    assert choose_routes([], [Published("web", "", "8080", 8000)]) == (RouteKeys("web", 8000),)


@pytest.mark.parametrize(
    ("published", "words"),
    [
        ([], "host ports: none"),
        ([Published("api", "", "9000", 9000), Published("web", "", "8080", 8000)], "api (9000), web (8080)"),
    ],
)
def test_what_cannot_be_told_is_asked_for(published: list[Published], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choose_routes([], published)

    assert words in caught.value.what
    assert "routes:" in caught.value.remedy
