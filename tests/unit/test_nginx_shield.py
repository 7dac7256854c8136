"""The shield in the generated files: what changes while a candidate has it, and that nothing does otherwise."""

from __future__ import annotations

import msgspec
import pytest

from nself_deploy.core.model import Slot
from nself_deploy.core.nginx_edit import Services, Sources, find_routes
from nself_deploy.core.nginx_tree import HTTP, SERVER, compile_tree
from tests.unit.test_nginx_tree import ADOPTED, SHOP

SHIELDED = msgspec.structs.replace(SHOP, shield=Slot.GREEN)


def block(http: str, name: str) -> list[str]:
    """The server lines of an upstream."""
    inside = http.split(f"upstream {name} {{\n")[1].split("}\n", maxsplit=1)[0]
    return [line.strip() for line in inside.splitlines() if line.strip().startswith("server ")]


def test_without_a_candidate_nothing_changes() -> None:
    assert compile_tree(msgspec.structs.replace(SHOP, shield_answers=True)) == compile_tree(SHOP)


def test_the_live_slot_helps_the_candidate_and_not_the_other_way_round() -> None:
    files, plain = compile_tree(SHIELDED), compile_tree(SHOP)

    assert block(files[HTTP], "nself_shop_api_9000_green") == [
        "server 10.213.1.3:9000 max_fails=0;",
        "server 10.213.0.3:9000 max_fails=0 backup;",
        "server 10.213.0.4:9000 max_fails=0 backup;",
    ]
    for name in ("nself_shop_api_9000_blue", "nself_shop_web_8000_blue"):
        assert block(files[HTTP], name) == block(plain[HTTP], name)
    assert files[SERVER] == plain[SERVER]


def test_bad_answers_are_caught_where_the_user_has_no_say_in_it() -> None:
    files = compile_tree(msgspec.structs.replace(SHIELDED, shield_answers=True))

    assert "proxy_next_upstream error timeout http_500 http_502 http_503 http_504;" in files[SERVER].splitlines()
    assert block(files[HTTP], "nself_shop_api_9000_blue") == [
        "server 10.213.0.3:9000 max_fails=0;",
        "server 10.213.0.4:9000 max_fails=0;",
    ]


def test_each_protocol_has_its_own_line() -> None:
    files = compile_tree(msgspec.structs.replace(ADOPTED, shield=Slot.GREEN, shield_answers=True))

    assert [line.split()[0] for line in files[SERVER].splitlines() if "next_upstream" in line] == [
        "fastcgi_next_upstream",
        "grpc_next_upstream",
        "proxy_next_upstream",
        "uwsgi_next_upstream",
    ]


def test_a_slot_without_servers_has_nobody_to_help() -> None:
    only_blue = tuple(msgspec.structs.replace(u, servers={Slot.BLUE: u.servers[Slot.BLUE]}) for u in SHIELDED.upstreams)
    assert " backup;" not in compile_tree(msgspec.structs.replace(SHIELDED, upstreams=only_blue))[HTTP]


@pytest.mark.parametrize(
    ("http", "server", "location", "own"),
    [
        ("", "", "", False),
        ("proxy_next_upstream error;", "", "", True),
        ("", "proxy_next_upstream off;", "", True),
        ("", "grpc_next_upstream off;", "", True),
        ("", "", "proxy_next_upstream off;", False),
    ],
)
def test_what_the_user_says_himself_is_seen(http: str, server: str, location: str, own: bool) -> None:
    text = f"events {{}} http {{ {http} server {{ {server} location / {{ {location} return 200; }} }} }}"
    found = find_routes(Sources("/n.conf", {"/n.conf": text}, {"/n.conf": "n.conf"}), Services({}), "shop", "/d")

    assert found.own_retries is own
