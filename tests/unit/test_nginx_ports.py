"""The probe server's port must not be one that users come through."""

from __future__ import annotations

import pytest

from nself_deploy.core.nginx_edit import Sources
from nself_deploy.core.nginx_ports import check_probe_port, listen_port
from nself_deploy.errors import ConfigError

CONF = "/etc/nginx/conf.d/site.conf"


@pytest.mark.parametrize(
    ("word", "port"),
    [
        ("80", 80),
        ("*:8080", 8080),
        ("0.0.0.0:81", 81),
        ("[::]:82", 82),
        ("[::1]", 80),
        ("127.0.0.1:8000", 8000),
        ("localhost", 80),
        ("127.0.0.1", 80),
        ("unix:/run/site.sock", 0),
    ],
)
def test_the_port_of_a_listen_line(word: str, port: int) -> None:
    assert listen_port(word) == port


def _sources(listen: str) -> Sources:
    text = f"server {{\n    listen {listen};\n    location / {{ return 204; }}\n}}\n"
    return Sources("/etc/nginx/nginx.conf", {CONF: text}, {CONF: "nginx/site.conf"})


@pytest.mark.parametrize("listen", ["8472", "[::]:8472 ssl", "127.0.0.1:8472 default_server"])
def test_a_port_of_the_site_is_refused_by_line(listen: str) -> None:
    with pytest.raises(ConfigError, match="port 8472") as caught:
        check_probe_port(_sources(listen), 8472)

    assert caught.value.where == "nginx/site.conf:2"
    assert "x-nself-deploy.router.probe_port" in caught.value.remedy


def test_another_port_and_one_that_is_chosen_later_are_fine() -> None:
    check_probe_port(_sources("80"), 8472)
    check_probe_port(_sources("80"), 0)
