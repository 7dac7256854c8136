"""The generated nginx files: goldens, names, splits, and what can't be written into them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nself_deploy.core.model import Protocol, Route, Slot, Split
from nself_deploy.core.nginx_flags import ASKED, bucket_slot, split_files
from nself_deploy.core.nginx_names import names_of, route_key
from nself_deploy.core.nginx_tree import OVERRIDE, PRIVATE, TREE, compile_tree, fingerprint
from nself_deploy.core.routing import Override, TreeSpec, Upstream
from nself_deploy.errors import ConfigError

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "nginx" / "trees"
SLOTS = st.sampled_from([Slot.BLUE, Slot.GREEN, Slot.PLAIN])
NGINX_LONGEST_VARIABLE = 46


def upstream(key: str, protocol: Protocol = Protocol.HTTP, keepalive: int = 0, **servers: tuple[str, ...]) -> Upstream:
    service, _, port = key.rpartition("_")
    found = {Slot(slot): addresses for slot, addresses in servers.items()}
    return Upstream(Route(key, service, int(port), protocol, keepalive), found)


SHOP = TreeSpec(
    project="shop",
    upstreams=(
        upstream("api_9000", keepalive=16, blue=("10.213.0.3:9000", "10.213.0.4:9000"), green=("10.213.1.3:9000",)),
        upstream("web_8000", blue=("10.213.0.2:8000",), green=("10.213.1.2:8000",)),
    ),
    directory="/var/lib/nself/router",
    log_directory="/var/log/nself",
    probe_listen="0.0.0.0:8472",
    secret="0123456789abcdef" * 4,
)
TESTERS = Override("only-testers-know-this", "X-Shop-Slot", "shop_slot")
ADOPTED = msgspec.structs.replace(
    SHOP,
    sticky="cookie:shop_split",
    override=TESTERS,
    default_access_log="/var/log/nginx/access.log",
    upstreams=(
        upstream("api_50051", Protocol.GRPC, blue=("10.213.0.3:50051",), plain=("172.18.0.3:50051",)),
        upstream("php_9000", Protocol.FASTCGI, blue=("10.213.0.4:9000",), plain=()),
        upstream("py_3031", Protocol.UWSGI, blue=("10.213.0.5:3031",)),
        upstream("tls_8443", Protocol.HTTPS, blue=("10.213.0.6:8443",)),
    ),
)


@pytest.mark.parametrize(("name", "spec"), [("shop", SHOP), ("adopted", ADOPTED)])
def test_the_files_of_a_project(name: str, spec: TreeSpec) -> None:
    files = compile_tree(spec)
    text = "".join(f"===== {file}\n{files[file]}" for file in sorted(files))

    path = GOLDEN / f"{name}.txt"
    if os.environ.get("NSELF_REWRITE_GOLDENS"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_equal_specs_give_equal_files_and_another_spec_another_fingerprint() -> None:
    first = compile_tree(SHOP)
    found = {fingerprint(first)}

    assert compile_tree(msgspec.json.decode(msgspec.json.encode(SHOP), type=TreeSpec)) == first
    assert fingerprint(first) in first[TREE]
    assert fingerprint({**first, TREE: ""}) == fingerprint(first)
    for change in (
        {"sticky": "random"},
        {"secret": "f" * 64},
        {"probe_listen": "127.0.0.1:1"},
        {"directory": "/d"},
        {"upstreams": SHOP.upstreams[:1]},
        {"default_access_log": "/l"},
        {"override": TESTERS},
        {"override": msgspec.structs.replace(TESTERS, word="another-that-they-know")},
    ):
        found.add(fingerprint(compile_tree(msgspec.structs.replace(SHOP, **change))))
    assert len(found) == 9


def test_the_secret_is_in_the_private_file_only() -> None:
    files = compile_tree(SHOP)

    assert [name for name, text in files.items() if SHOP.secret in text] == ["probe.conf"]


@pytest.mark.parametrize(
    ("override", "variables"),
    [
        (TESTERS, ["$cookie_shop_slot $nself_shop_asked", "$http_x_shop_slot $nself_shop_bucket"]),
        (Override(TESTERS.word, header="X-Shop-Slot"), ["$http_x_shop_slot $nself_shop_bucket"]),
        (Override(TESTERS.word, cookie="shop_slot"), ["$cookie_shop_slot $nself_shop_bucket"]),
    ],
)
def test_the_testers_word_is_in_a_private_file_only(override: Override, variables: list[str]) -> None:
    files = compile_tree(msgspec.structs.replace(SHOP, override=override))

    assert [name for name, text in files.items() if override.word in text] == [OVERRIDE]
    assert OVERRIDE in PRIVATE
    assert re.findall(r"map (.*) {", files[OVERRIDE]) == variables
    assert OVERRIDE not in compile_tree(SHOP)


@pytest.mark.parametrize("spec", [SHOP, ADOPTED, msgspec.structs.replace(SHOP, sticky="random")])
def test_what_decides_matches_no_regular_expression(spec: TreeSpec) -> None:
    """One that matches would empty $1, $2 ... of the user's files. That of the log comes after all of them."""
    files = compile_tree(spec)
    text = files["http.conf"] + files.get(OVERRIDE, "") + files["server.conf"]
    maps = re.findall(r"^map (?:\"[^\"]*\"|\S+) (\S+) \{(.*?)\}$", text, re.MULTILINE | re.DOTALL)

    assert len(maps) > 4
    assert [name for name, body in maps if "~" in body] == ["$nself_shop_route"]


@given(SLOTS, SLOTS, st.integers(0, 100))
def test_a_split_sends_exactly_its_share_to_the_candidate(base: Slot, candidate: Slot, percent: int) -> None:
    if base is candidate:
        return
    split = Split(base, candidate, percent) if percent else Split.all_to(base)
    files = split_files(split)
    slots = [bucket_slot(split, bucket) for bucket in range(100)]

    assert slots == [candidate] * percent + [base] * (100 - percent)
    testers = [candidate if percent else base, candidate if percent == 100 else base]
    read = []
    for bucket in (*(f"{number:02d}" for number in range(100)), "candidate", "live"):
        green, plain = f"g/{bucket}" in files, f"p/{bucket}" in files
        assert not (green and plain)
        read.append(Slot.GREEN if green else Slot.PLAIN if plain else Slot.BLUE)
    assert read == slots + testers
    assert {"candidate", "live"} == ASKED
    assert len(files) == len(set(files)) == sum(slot is not Slot.BLUE for slot in read)


@given(SLOTS, SLOTS, st.integers(1, 100), st.integers(1, 100))
def test_a_share_that_grows_takes_nobody_back(base: Slot, candidate: Slot, less: int, more: int) -> None:
    if base is candidate or less > more:
        return
    before, after = Split(base, candidate, less), Split(base, candidate, more)
    moved = [(bucket_slot(before, bucket), bucket_slot(after, bucket)) for bucket in range(100)]

    assert set(moved) <= {(base, base), (base, candidate), (candidate, candidate)}


@given(
    st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9._-]{1,63}", fullmatch=True),
    st.integers(1, 65535),
)
def test_every_name_fits_into_nginx(project: str, service: str, port: int) -> None:
    names = names_of(project)
    key = route_key(service, port)
    variables = [
        names.slot,
        names.bucket,
        names.hundredth,
        names.asked,
        names.client,
        names.offered,
        names.given,
        names.newcomer,
        names.forwarded,
        names.secure,
        names.new_cookie,
        names.set_cookie,
        *names.client_parts,
        names.route,
        names.nothing,
        names.probe_uri,
        names.variable(key),
    ]

    assert re.fullmatch(r"[a-z0-9_]+", key)
    for variable in variables:
        assert re.fullmatch(r"\$nself_[a-z0-9_]+", variable)
        assert len(variable) - 1 <= NGINX_LONGEST_VARIABLE
    assert len(set(variables)) == len(variables)
    assert names.variable(key).endswith(f"_{port}")


@given(st.lists(st.from_regex(r"[a-z0-9-]{1,40}", fullmatch=True), min_size=2, max_size=6, unique=True))
def test_shortened_names_stay_apart(services: list[str]) -> None:
    names = names_of("my-company-website-production")
    plain = {service.replace("-", "_") for service in services}

    assert len({names.variable(route_key(s, 80)) for s in services}) == len(plain)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"secret": "short"}, "secret"),
        ({"directory": '/with"quote'}, "path"),
        ({"directory": "/with$dollar"}, "path"),
        ({"directory": "/with*star"}, "path"),
        ({"log_directory": "/with\nnewline"}, "path"),
        ({"sticky": "address"}, "sticky"),
        ({"sticky": "cookie:a-b"}, "cookie"),
        ({"override": Override("short", "X-Slot")}, "word"),
        ({"override": Override('x" evil; #23456789', "X-Slot")}, "word"),
        ({"override": Override(TESTERS.word)}, "no header and no cookie"),
        ({"override": Override(TESTERS.word, "X Slot")}, "read 'X Slot'"),
        ({"override": Override(TESTERS.word, cookie="a-b")}, "read 'a-b'"),
        ({"upstreams": (upstream("web_80"), upstream("web_80"))}, "two routes"),
        ({"upstreams": (upstream("web_80", blue=("web:80; evil",)),)}, "not address:port"),
    ],
)
def test_what_nginx_would_misread_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        compile_tree(msgspec.structs.replace(SHOP, **change))


def test_a_path_with_spaces_is_fine() -> None:
    files = compile_tree(msgspec.structs.replace(SHOP, directory="/srv/my shop/.nself/router"))

    assert 'if (-f "/srv/my shop/.nself/router/current/g/$nself_shop_bucket$nself_shop_slot")' in files["server.conf"]
