"""The web service: pages, slow answers, uploads, a WebSocket, and calls to the api."""

import asyncio
import hashlib
import html
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, WSMsgType, web

from common.release import Variant
from common.serving import CLOSE_HANDSHAKE_SECONDS, LIFE, new_app, number, run, signed

PORT = 8000
API_URL = os.environ.get("API_URL", "http://api:9000")
API_TIMEOUT = ClientTimeout(total=10)
CHAIN_TIMEOUT = ClientTimeout(total=60)  # it is a test of names, not of times
CHAIN_CONNECTIONS = 8
TICK_SECONDS = 1.0
MAX_SECONDS = 110.0  # below the proxy_read_timeout of the router

API = web.AppKey("api", ClientSession)

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Shop</title></head>
<body><h1>The shop, release {release}</h1><p>Served by {instance}.</p>
{content}</body></html>
"""


def page(request: web.Request, content: str = "", status: int = 200) -> web.Response:
    """A page that names the release and the instance."""
    release = request.app[LIFE].release
    text = PAGE.format(release=html.escape(release.name), instance=html.escape(release.instance), content=content)
    return web.Response(text=text, status=status, content_type="text/html")


async def index(request: web.Request) -> web.Response:
    """The first page; asks nobody."""
    return page(request, '<p><a href="/catalogue">Catalogue</a></p>')


async def catalogue(request: web.Request) -> web.Response:
    """The items, from the api."""
    try:
        async with request.app[API].get(f"{API_URL}/items") as response:
            response.raise_for_status()
            items = (await response.json())["items"]
    except (ClientError, TimeoutError) as error:
        return page(request, f"<p>No catalogue at the moment: {html.escape(str(error))}</p>", status=503)
    rows = (f"<li>{html.escape(item['name'])}: {item['price_cents'] / 100:.2f}</li>" for item in items)
    return page(request, f"<ul>{''.join(rows)}</ul>")


async def healthz(request: web.Request) -> web.Response:
    """200 unless this release is unhealthy on purpose."""
    if request.app[LIFE].release.variant is Variant.UNHEALTHY:
        return signed(request, {"status": "unhealthy", "error": "this release is unhealthy on purpose"}, status=503)
    return signed(request, {"status": "ok"})


async def chain(request: web.Request) -> web.Response:
    """Call the api's /whoami n times, each on a new connection, and say which releases answered."""
    calls = int(number(request, "n", 1, 1, 10_000))
    releases: Counter[str] = Counter()
    instances: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    remaining = iter(range(calls))

    async def caller(session: ClientSession) -> None:
        for _ in remaining:
            try:
                async with session.get(f"{API_URL}/whoami") as response:
                    response.raise_for_status()
                    body = await response.json()
            except (ClientError, TimeoutError) as error:
                errors[type(error).__name__] += 1
            else:
                releases[body["release"]] += 1
                instances[body["instance"]] += 1

    # Neither a kept connection nor a remembered address: each call asks for the name anew.
    connector = TCPConnector(force_close=True, use_dns_cache=False, limit=CHAIN_CONNECTIONS)
    async with ClientSession(connector=connector, timeout=CHAIN_TIMEOUT) as session:
        await asyncio.gather(*(caller(session) for _ in range(min(calls, CHAIN_CONNECTIONS))))
    other = sum(count for release, count in releases.items() if release != request.app[LIFE].release.name)
    return signed(
        request,
        {
            "calls": calls,
            "failed": sum(errors.values()),
            "other_release": other,
            "mixed": other > 0,
            "api_releases": dict(releases),
            "api_instances": dict(instances),
            "errors": dict(errors),
        },
    )


async def echo(request: web.Request) -> web.Response:
    """Length and SHA-256 of the body, read as it comes."""
    digest, size = hashlib.sha256(), 0
    async for chunk in request.content.iter_chunked(65536):
        digest.update(chunk)
        size += len(chunk)
    return signed(request, {"bytes": size, "sha256": digest.hexdigest()})


async def slow(request: web.Request) -> web.Response:
    """Wait, then answer."""
    seconds = number(request, "seconds", 1, 0, MAX_SECONDS)
    await asyncio.sleep(seconds)
    return signed(request, {"waited": seconds})


async def download(request: web.Request) -> web.StreamResponse:
    """So many KiB, spread evenly over so many seconds."""
    size = int(number(request, "kb", 256, 1, 65536) * 1024)
    seconds = number(request, "seconds", 1, 0, MAX_SECONDS)
    pieces = max(1, int(seconds * 10))
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream", "Content-Length": str(size)})
    await response.prepare(request)
    for piece in range(pieces):
        await response.write(b"s" * (size * (piece + 1) // pieces - size * piece // pieces))
        await asyncio.sleep(seconds / pieces)
    await response.write_eof()
    return response


async def websocket(request: web.Request) -> web.WebSocketResponse:
    """A tick each second, and every text message back."""
    life = request.app[LIFE]
    socket = web.WebSocketResponse(timeout=CLOSE_HANDSHAKE_SECONDS)
    await socket.prepare(request)
    life.websockets.add(socket)
    ticker = asyncio.create_task(tick(socket, life.release.as_json()))
    try:
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_json({**life.release.as_json(), "echo": message.data})
    finally:
        ticker.cancel()
        life.websockets.discard(socket)
    return socket


async def tick(socket: web.WebSocketResponse, release: dict[str, str]) -> None:
    """Send a numbered tick until the socket closes."""
    count = 0
    with suppress(ConnectionError):
        while not socket.closed:
            await socket.send_json({**release, "tick": count})
            count += 1
            await asyncio.sleep(TICK_SECONDS)


async def api_session(app: web.Application) -> AsyncIterator[None]:
    """One session to the api for as long as the application lives."""
    async with ClientSession(timeout=API_TIMEOUT, connector=TCPConnector(use_dns_cache=False)) as session:
        app[API] = session
        yield


def main() -> None:
    """Serve until SIGTERM."""
    app = new_app()
    app.cleanup_ctx.append(api_session)
    app.router.add_get("/", index)
    app.router.add_get("/catalogue", catalogue)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/chain", chain)
    app.router.add_post("/echo", echo)
    app.router.add_get("/slow", slow)
    app.router.add_get("/download", download)
    app.router.add_get("/ws", websocket)
    run(app, PORT)


if __name__ == "__main__":
    main()
