"""FastCGI, uwsgi and gRPC through the router: edited, switched and probed on real nginx."""

from __future__ import annotations

import asyncio
import functools

import pytest

from nself_deploy.core.model import Probe, Slot, Split
from tests.real.router_parts import Bench, slots
from tests.real.router_peers import LIMIT_S, ask

pytestmark = pytest.mark.real


async def test_fastcgi_and_uwsgi_reach_the_slot(bench: Bench) -> None:
    """Both protocols, edited and switched; the answer is made from what the service received."""
    seen: list[bytes] = []

    async def fastcgi(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = b""
        while b"\x01\x05\x00\x01\x00\x00" not in data:
            part = await reader.read(4096)
            if not part:  # whoever asked has gone
                return
            data += part
        seen.append(data)
        out = b"Status: 200 OK\r\nContent-Length: 4\r\n\r\nfcgi"
        writer.write(b"\x01\x06\x00\x01" + len(out).to_bytes(2, "big") + b"\0\0" + out)
        writer.write(b"\x01\x06\x00\x01\0\0\0\0" + b"\x01\x03\x00\x01\x00\x08\0\0" + b"\0" * 8)
        await writer.drain()
        writer.close()

    async def uwsgi(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readexactly(4)
        seen.append(await reader.readexactly(int.from_bytes(head[1:3], "little")))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nuwsgi")
        await writer.drain()
        writer.close()

    async with slots(bench) as (_, __, app):
        bench.know(app)
        bench.conf.write_text(
            bench.http(f"""    server {{
        listen {bench.listen};
        location /php {{
            fastcgi_pass {bench.app(app)};
            fastcgi_param REQUEST_URI $request_uri;
            fastcgi_param SCRIPT_NAME /x;
        }}
        location / {{ return 200 "ok"; }}
    }}
""")
        )
        bench.edit()
        servers = [await asyncio.start_server(serve, bench.host, 0) for serve in (fastcgi, uwsgi)]  # type: ignore[attr-defined]
        first, second = (f"{bench.host}:{s.sockets[0].getsockname()[1]}" for s in servers)  # type: ignore[attr-defined]
        await bench.router.move(Split.all_to(Slot.BLUE))
        await bench.router.install(bench.spec({Slot.BLUE: [first]}))
        await bench.start()
        assert (await ask(bench.address, "/php/a?b")).text == "fcgi"
        assert b"/php/a?b" in seen[-1]
        route = bench.routes()[0]
        assert (await bench.router.probe(route, Slot.BLUE, Probe("/ping", timeout_s=LIMIT_S))).ok
        assert b"/ping" in seen[-1]
        assert not (await bench.router.probe(route, Slot.GREEN, Probe("/ping", timeout_s=LIMIT_S))).ok

        bench.conf.write_text(bench.conf.read_text().replace("fastcgi_pa", "uwsgi_pa"))
        await bench.router.install(bench.spec({Slot.BLUE: [second]}))
        assert bench.routes()[0].protocol.value == "uwsgi"
        assert (await ask(bench.address, "/php/c")).text == "uwsgi"
        assert (await bench.router.probe(bench.routes()[0], Slot.BLUE, Probe("/pong", timeout_s=LIMIT_S))).ok
        assert b"/pong" in seen[-1]
        for server in servers:
            server.close()


async def test_grpc_goes_to_the_slot(bench: Bench) -> None:
    """nginx opens HTTP/2 to the slot that has the traffic, and to the other one when it is probed."""
    opened: dict[str, bytes] = {}

    async def serve(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened[name] = await reader.readexactly(24)
        writer.close()

    async with slots(bench) as (_, __, app):
        bench.know(app)
        bench.conf.write_text(
            bench.http(f"""    server {{
        listen {bench.listen};
        location /rpc {{ grpc_pass grpc://{bench.app(app)}; }}
        location / {{ return 200 "ok"; }}
    }}
""")
        )
        bench.edit()
        made = {
            slot: await asyncio.start_server(functools.partial(serve, slot.value), bench.host, 0)  # type: ignore[attr-defined]
            for slot in (Slot.BLUE, Slot.GREEN)
        }
        servers = {s: [f"{bench.host}:{one.sockets[0].getsockname()[1]}"] for s, one in made.items()}  # type: ignore[attr-defined]
        await bench.router.move(Split.all_to(Slot.GREEN))
        await bench.router.install(bench.spec(servers))
        await bench.start()
        assert (await ask(bench.address, "/rpc/x")).status == 502  # it closes at once
        assert opened == {"green": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"}
        assert not (await bench.router.probe(bench.routes()[0], Slot.BLUE, Probe("/", timeout_s=LIMIT_S))).ok
        assert opened["blue"] == opened["green"]
        for one in made.values():
            one.close()
