"""The shield in the generated files and in splits, and where it may catch answers too."""

from __future__ import annotations

import re

import msgspec
import pytest

from nself_deploy.core.model import Slot, Split
from nself_deploy.core.nginx_edit import Services, Sources, find_routes
from nself_deploy.core.nginx_flags import split_files
from nself_deploy.core.nginx_tree import HTTP, SERVER, compile_tree
from tests.unit.test_nginx_tree import ADOPTED, SHOP

ONE_EACH = msgspec.structs.replace(SHOP, upstreams=SHOP.upstreams[1:], shield_answers=True)


def block(http: str, name: str) -> list[str]:
    """The server lines of an upstream."""
    inside = http.split(f"upstream {name} {{\n")[1].split("}\n", maxsplit=1)[0]
    return [line.strip() for line in inside.splitlines() if line.strip().startswith("server ")]


def test_each_slot_is_helped_by_the_other_one_where_a_split_says_so() -> None:
    http = compile_tree(SHOP)[HTTP]

    assert block(http, "nself_shop_api_9000_green_shielded") == [
        "server 10.213.1.3:9000 max_fails=0;",
        "server 10.213.0.3:9000 max_fails=0 backup;",
        "server 10.213.0.4:9000 max_fails=0 backup;",
    ]
    assert block(http, "nself_shop_api_9000_green") == ["server 10.213.1.3:9000;"]
    for slot in ("blue", "green"):
        assert f"    {slot} nself_shop_web_8000_{slot};" in http
        assert f"    {slot}-shielded nself_shop_web_8000_{slot}_shielded;" in http


def test_bad_answers_are_caught_where_only_a_shield_has_a_second_server() -> None:
    line = "proxy_next_upstream error timeout http_500 http_502 http_503 http_504;"

    assert line in compile_tree(ONE_EACH)[SERVER].splitlines()
    assert "next_upstream" not in compile_tree(msgspec.structs.replace(ONE_EACH, shield_answers=False))[SERVER]
    assert "next_upstream" not in compile_tree(msgspec.structs.replace(SHOP, shield_answers=True))[SERVER]


def test_each_protocol_has_its_own_line() -> None:
    files = compile_tree(msgspec.structs.replace(ADOPTED, shield_answers=True))

    assert [line.split()[0] for line in files[SERVER].splitlines() if "next_upstream" in line] == [
        "fastcgi_next_upstream",
        "grpc_next_upstream",
        "proxy_next_upstream",
        "uwsgi_next_upstream",
    ]


def test_a_slot_without_servers_has_nobody_to_help() -> None:
    only_blue = tuple(msgspec.structs.replace(u, servers={Slot.BLUE: u.servers[Slot.BLUE]}) for u in SHOP.upstreams)
    http = compile_tree(msgspec.structs.replace(SHOP, upstreams=only_blue))[HTTP]

    assert " backup;" not in http and not re.search(r"upstream \S+_shielded", http)
    assert "    blue-shielded nself_shop_web_8000_blue;" in http
    assert "    green-shielded nself_shop_nowhere;" in http


def test_a_split_has_the_flag_of_its_shield() -> None:
    split = Split(Slot.BLUE, Slot.GREEN, 10, shielded=True)

    assert split.name == "blue-green-10-shielded" and Split.parse(split.name) == split
    assert split_files(split) == [*split_files(Split(Slot.BLUE, Slot.GREEN, 10)), "s/green"]
    assert msgspec.json.decode(b'{"base":"blue","candidate":"green","percent":10}', type=Split) != split
    for base, candidate, percent in ((Slot.BLUE, None, 0), (Slot.BLUE, Slot.GREEN, 100)):
        with pytest.raises(ValueError, match="shielded"):
            Split(base, candidate, percent, shielded=True)
    for name in ("blue-green-10-", "blue-green-10-shield", "blue-green-10-shielded-shielded", "blue-shielded"):
        with pytest.raises(ValueError, match="split|Slot"):
            Split.parse(name)


@pytest.mark.parametrize("said", ["", "proxy_next_upstream error timeout http_500;"])
@pytest.mark.parametrize(
    ("http", "server", "location", "answers"),
    [
        ("", "", "", True),
        ("proxy_next_upstream error;", "", "", False),
        ("", "proxy_next_upstream off;", "", False),
        ("", "grpc_next_upstream off;", "", False),
        ("", "", "proxy_next_upstream off;", True),
        ("", "location /a { proxy_pass http://10.0.0.1:80/x; }", "", True),
        ("", "location /a { proxy_pass http://unix:/run/a.sock:/; }", "", True),
        ("", "location /a { fastcgi_pass [::1]:9000; }", "", True),
        ("", "location /a { proxy_pass http://grafana:3000; }", "", False),
        ("", "location /a { if ($args) { proxy_pass http://$args; } }", "", False),
        ("upstream many { server 10.0.0.1; server 10.0.0.2; }", "location /a { proxy_pass http://many; }", "", False),
        ("server { location /a { proxy_pass http://grafana:3000; } }", "", "", True),
    ],
)
def test_whether_answers_can_be_caught(http: str, server: str, location: str, answers: bool, said: str) -> None:
    inside = f"include /d/tree/server.conf; {server} location / {{ {location} proxy_pass http://$nself_shop_web_80; }}"
    files = {
        "/n.conf": f"events {{}} http {{ include /d/tree/http.conf; {http} server {{ {inside} }} }}",
        "/d/tree/http.conf": "",
        "/d/tree/server.conf": said,  # what we said there ourselves at the last deploy changes nothing
    }
    found = find_routes(Sources("/n.conf", files, {"/n.conf": "n.conf"}), Services({"web": "web"}), "shop", "/d")

    assert [route.service for route in found.routes] == ["web"]
    assert found.shield_answers is answers
