"""Requests arrive as they did before the edit: the same file, before and after, on real nginx."""

from __future__ import annotations

import asyncio
import re

import pytest

from nself_deploy.core.model import Slot, Split
from tests.real.router_parts import Bench, slots
from tests.real.router_peers import Backend, Client, Reply, ask, until

pytestmark = pytest.mark.real

TARGETS = [
    "",
    "x",
    "x/",
    "x/y?a=1&b=%2F",
    "?only=args",
    "x?",
    "x%2Fy",
    "x%20y",
    "x+y",
    "x%3Fy=1",
    "x%3fy",
    "x%23y",
    "x%25y",
    "x%0Ay",
    "a//b",
    "/x",
    "//x",
    "a/./b",
    "a/../b",
    "a/%2e%2e/b",
    "%C3%A9",
    "caf%e9",
    "%00x"[3:],
    "x;y=1",
    "x:y@z",
    "x!$&'()*,=~",
    "%7Bx%7D",
    "x%22y",
    "x%5Cy",
    "x%5cy",
    "%E2%82%AC/%F0%9F%98%80?q=%E2%82%AC",
    "x?y=a/b/../c",
    "x?%0a=%20",
    "x?a?b?c",
    "x#y",
    "a" * 6000,
    "y/" * 900,
    "x?" + "q=" * 2000,
    "%61%62c",
    "x%2F%2Fy",
    ".",
    "..",
    "a/..",
    "...",
    "$1",
    "x?$request_uri",
]
UNENCODED = ["${host}", "x|y", "x{y}", 'x"y', "x<y>", "x^y`z", "x\\y", "caf\u00e9", "\u00ff\u00fe"]

LOCATIONS = """
        location /plain/ {{ proxy_pass http://{app}; }}
        location /strip/ {{ proxy_pass http://{app}/; }}
        location /strip-more {{ proxy_pass http://{app}/; }}
        location /to/ {{ proxy_pass http://{app}/v2/; }}
        location /to-no-slash/ {{ proxy_pass http://{app}/v2; }}
        location ^~ /hard.x+(1)/ {{ proxy_pass "http://{app}/soft~a;b,c=d/"; }}
        location "/with space/" {{ proxy_pass http://{app}/s/; }}
        location = /exact {{ proxy_pass http://{app}/status/now; }}
        location ~ ^/regex/(.*)$ {{ proxy_pass http://{app}; }}
        location /own/ {{
            rewrite ^/own/old/(.*)$ /new/$1 break;
            proxy_pass http://{app}/base/;
        }}
        location /args/ {{ if ($arg_z) {{ set $seen 1; }} proxy_pass http://{app}/a/; }}
        location /host/ {{ proxy_pass http://{app}; proxy_set_header Host $host; }}
        location /other/ {{
            proxy_pass http://{app}/;
            proxy_set_header X-A $request_uri;
            proxy_set_header X-B "$proxy_host;$proxy_port";
        }}
        location /named/ {{ try_files /nothing @app; }}
        location @app {{ proxy_pass http://{app}; }}
        location / {{ proxy_pass http://{app}/; }}
"""
PREFIXES = [
    "/plain/",
    "/strip/",
    "/strip-more",
    "/to/",
    "/to-no-slash/",
    "/hard.x+(1)/",
    "/with%20space/",
    "/exact",
    "/regex/",
    "/own/",
    "/own/old/",
    "/args/",
    "/host/",
    "/other/",
    "/named/",
    "/",
]


async def _received(bench: Bench, backend: Backend, target: str) -> tuple[int, bytes, dict[str, str]]:
    """Status, what the backend got, and what the client saw of headers."""
    backend.heads.clear()
    async with asyncio.timeout(120), Client(bench.address) as client:
        await client.send(
            b"GET "
            + target.encode("latin-1")
            + b" HTTP/1.1\r\nHost: shop.example\r\nX-C: 1\r\nConnection: close\r\n\r\n"
        )
        reply = await client.reply()
    head = backend.heads[-1] if backend.heads else b""
    lines = sorted(head.split(b"\r\n")[1:])
    shown = {k: v for k, v in reply.headers.items() if k not in ("date", "content-length")}
    return reply.status, b"\r\n".join([head.split(b"\r\n")[0], *lines]), shown


async def _table(bench: Bench, backend: Backend, targets: list[str]) -> dict[str, tuple[int, bytes, dict[str, str]]]:
    return {t: await _received(bench, backend, t) for t in targets}


async def _go_live(bench: Bench, blue: Backend) -> None:
    """Edit the user's file, install the tree and start nginx with it."""
    plan = bench.edit()
    assert not plan.problems
    await bench.stop()
    await bench.router.move(Split.all_to(Slot.BLUE))
    await bench.router.install(bench.spec({Slot.BLUE: [blue.address]}))
    await bench.router.record(on=True)
    await bench.start()


async def test_paths_headers_and_redirects_are_what_they_were(bench: Bench) -> None:
    async with slots(bench) as (blue, _, app):
        bench.know(app)
        bench.conf.write_text(
            bench.http(
                f"    large_client_header_buffers 4 16k;\n    server {{\n        listen {bench.listen};\n"
                f"{LOCATIONS.format(app=bench.app(app))}    }}\n"
            )
        )
        await bench.start()
        targets = [prefix + rest for prefix in PREFIXES for rest in TARGETS]
        before = await _table(bench, app, targets)
        raw_before = await _table(bench, app, [prefix + rest for prefix in PREFIXES for rest in UNENCODED])

        await _go_live(bench, blue)
        after = await _table(bench, blue, targets)
        raw_after = await _table(bench, blue, list(raw_before))

    served = [t for t in targets if before[t][0] == 200]
    assert len(served) > 500
    assert {t: (before[t], after[t]) for t in targets if before[t] != after[t]} == {}
    # What a client ought to have encoded arrives encoded when the path is rewritten: the same path, written properly.
    different = {t: (raw_before[t], raw_after[t]) for t in raw_before if raw_before[t] != raw_after[t]}
    assert {t: d for t, d in different.items() if _decoded(d[0]) != _decoded(d[1])} == {}
    assert all("/plain/" not in t and "/regex/" not in t for t in different)


def _decoded(seen: tuple[int, bytes, dict[str, str]]) -> tuple[int, bytes, object]:
    line, *rest = seen[1].split(b"\r\n")
    path = re.sub(rb"%[0-9A-Fa-f]{2}", lambda m: bytes([int(m[0][1:], 16)]), line)
    return seen[0], b"\r\n".join([path, *rest]), seen[2]


async def test_redirects_of_the_service(bench: Bench) -> None:
    async with slots(bench) as (blue, _, app):
        bench.know(app)
        name = bench.app(app)
        bench.conf.write_text(
            bench.http(f"""    server {{
        listen {bench.listen};
        location /strip/ {{ proxy_pass http://{name}/v2/; }}
        location /said/ {{ proxy_pass http://{name}/v3/; proxy_redirect default; proxy_redirect http://x/ /y/; }}
        location /never/ {{ proxy_pass http://{name}; proxy_redirect off; }}
        location = /exact {{ proxy_pass http://{name}/v4; }}
        location / {{ proxy_pass http://{name}; }}
    }}
""")
        )
        places = [f"http://{name}{rest}" for rest in ("", "/", "/v2/a", "/v2", "/v3/b", "/v4", "/other?x=1")]
        places += ["http://x/z", "/relative", "https://elsewhere.example/", f"https://{name}/v2/"]

        async def seen(backend: Backend) -> dict[tuple[str, str], str]:
            backend.status = 302
            found = {}
            for backend.location in places:
                for target in ("/strip/q", "/said/q", "/never/q", "/exact", "/q"):
                    found[target, backend.location] = (await ask(bench.address, target)).headers.get("location", "")
            return found

        await bench.start()
        before = await seen(app)
        await _go_live(bench, blue)
        assert await seen(blue) == before
    assert len(set(before.values())) > 8


async def test_inherited_headers_stay(bench: Bench) -> None:
    async with slots(bench) as (blue, _, app):
        bench.know(app)
        name = bench.app(app)
        bench.conf.write_text(
            bench.http(f"""    proxy_set_header X-Outer "a; b";
    proxy_set_header X-Name $proxy_host;
    server {{
        listen {bench.listen};
        location /inherits/ {{ proxy_pass http://{name}; }}
        location /own/ {{ proxy_pass http://{name}; proxy_set_header X-Own 1; }}
        location /nested/ {{
            proxy_set_header Host fixed.example;
            location /nested/a/ {{ proxy_pass http://{name}/; }}
            location ~ /nested/b {{ proxy_pass http://{name}; proxy_set_header X-Own "2"; }}
        }}
    }}
""")
        )
        targets = ["/inherits/a", "/own/a", "/nested/a/x", "/nested/b"]
        await bench.start()
        before = await _table(bench, app, targets)
        await _go_live(bench, blue)
        assert await _table(bench, blue, targets) == before
    assert b"X-Outer: a; b" in before["/inherits/a"][1] and f"X-Name: {name}".encode() in before["/inherits/a"][1]
    assert b"Host: fixed.example" in before["/nested/a/x"][1]


async def test_the_users_upstream_with_keepalive(bench: Bench) -> None:
    async with slots(bench) as (blue, _, app):
        bench.know(app)
        bench.conf.write_text(
            bench.http(f"""    upstream backend {{
        server {bench.app(app)};
        keepalive 7;
    }}
    server {{
        listen {bench.listen};
        location / {{
            proxy_pass http://backend/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
""")
        )
        await bench.start()
        before = await _table(bench, app, ["/a", "/b?c"])
        await _go_live(bench, blue)
        assert await _table(bench, blue, ["/a", "/b?c"]) == before
        assert "upstream backend {" not in bench.conf.read_text()
    assert b"Host: backend" in before["/a"][1]
    route = bench.routes()[0]
    assert (route.service, route.keepalive) == ("plain", 7)
    assert "keepalive 7;" in (bench.directory / "tree" / "http.conf").read_text()


async def test_flags_are_read_afresh_with_a_file_cache_and_symlinks_forbidden(bench: Bench) -> None:
    async with slots(bench) as (blue, green, app):
        bench.know(app)
        page = bench.base / "page.txt"
        page.write_text("a file\n")
        bench.conf.write_text(
            bench.http(f"""    open_file_cache max=1000 inactive=1h;
    open_file_cache_valid 1h;
    disable_symlinks on;
    server {{
        listen {bench.listen};
        location /files/ {{ alias {bench.base}/; }}
        location / {{ proxy_pass http://{bench.app(app)}; }}
    }}
""")
        )
        bench.edit()
        text = bench.conf.read_text()
        assert text.count("open_file_cache off;") == text.count("disable_symlinks off;") == 1
        assert text.count("open_file_cache max=1000 inactive=1h;") == text.count("disable_symlinks on;") == 2
        await bench.router.move(Split.all_to(Slot.BLUE))
        await bench.router.install(bench.spec({Slot.BLUE: [blue.address], Slot.GREEN: [green.address]}))
        await bench.start()
        for slot, name in ((Slot.GREEN, "green"), (Slot.BLUE, "blue"), (Slot.GREEN, "green")):
            await bench.to(Split.all_to(slot))
            assert {(await ask(bench.address)).text.split("\n")[0] for _ in range(8)} == {name}


async def test_the_users_own_limits_and_logs_hide_nothing(bench: Bench) -> None:
    """Logs and limits at inner levels, and limits and passwords for everybody at the outer one."""
    async with slots(bench) as (blue, _, app):
        bench.know(app)
        bench.conf.write_text(
            bench.http(f"""    limit_conn_zone $binary_remote_addr zone=each:1m;
    limit_req_zone $binary_remote_addr zone=slow:1m rate=1r/m;
    limit_conn each 3;
    limit_req zone=slow burst=200 nodelay;
    auth_basic closed;
    auth_basic_user_file /dev/null;
    deny all;
    server {{
        listen {bench.listen};
        auth_basic off;
        allow all;
        access_log off;
        location /hold/ {{
            limit_conn each 2;
            proxy_pass http://{bench.app(app)};
        }}
        location /hold-by-name {{ limit_conn each 2; try_files /nothing @app; }}
        location @app {{ proxy_pass http://{bench.app(app)}; access_log off; }}
        location / {{ proxy_pass http://{bench.app(app)}; }}
    }}
""")
        )
        await _go_live(bench, blue)
        log = bench.directory / "log" / "access.log"
        await until(lambda: bench.is_in_flight(Slot.BLUE, 0), "nothing is in flight")
        waiting = [asyncio.create_task(ask(bench.address, path)) for path in ("/hold/1", "/hold-by-name")]
        await until(lambda: _is(blue.held == 2), "both are held")
        await until(lambda: bench.is_in_flight(Slot.BLUE, 2), "both are counted")
        blue.release()
        replies: list[Reply] = [await one for one in waiting]
        assert [reply.status for reply in replies] == [200, 200]
        await until(lambda: _is(len(log.read_text().splitlines()) >= 3), "all are logged")


async def _is(fact: bool) -> bool:
    return fact
