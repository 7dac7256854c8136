"""What both services share: release headers, the variants, and a stop that loses nothing."""

import asyncio
import hashlib
import json
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import WSCloseCode, web

from common.release import Release, Variant, this_release

log = logging.getLogger("shop")

CRASH_AFTER_SECONDS = 5.0
RESTLESS_SECONDS = 20.0
HANG_SECONDS = 100.0
SLOW_START_SECONDS = 8.0
STUBBORN_SECONDS = 60.0
STOP_WITHIN_SECONDS = 12.0  # below the stop_grace_period of docker-compose.yml
IDLE_CONNECTION_SECONDS = 75.0  # longer than nginx keeps a connection to us
CLOSE_HANDSHAKE_SECONDS = 3.0

ALWAYS_FINE = ("/", "/healthz")  # what probes ask for
EVERY = {Variant.BROKEN: 1, Variant.FLAKY: 5, Variant.LATE: 5, Variant.RARE: 20, Variant.LATE_RARE: 20}  # are errors
LATE_SECONDS = {Variant.LATE: 30.0, Variant.LATE_RARE: 10.0}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Life:
    """What is in flight in this process, and whether it is about to stop."""

    def __init__(self, release: Release) -> None:
        self.release = release
        self.stopping = False
        self.in_flight = 0
        self.asked = 0
        self.first_asked = 0.0
        self.websockets: set[web.WebSocketResponse] = set()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count the request and apply the variants that answer with errors, or late."""
        loop = asyncio.get_running_loop()
        self.in_flight += 1
        try:
            began = loop.time()
            if self._refuses(request.method, request.path):
                return answer({"error": "this release answers 500 on purpose"}, status=500)
            if self.release.variant is Variant.HANG and request.path not in ALWAYS_FINE:
                await asyncio.sleep(HANG_SECONDS)
            response = await handler(request)
            if self.release.variant is Variant.SLOW:
                await asyncio.sleep(loop.time() - began)
            return response
        finally:
            self.in_flight -= 1

    def _refuses(self, method: str, path: str) -> bool:
        """Whether this request is answered with an error on purpose."""
        variant = self.release.variant
        if variant is Variant.ERRORS:
            return path != "/healthz"
        if path in ALWAYS_FINE:
            return False
        self.asked += 1
        if self.asked == 1:
            self._first_user()
        if asyncio.get_running_loop().time() < self.first_asked + LATE_SECONDS.get(variant, 0.0):
            return False
        return self.asked % EVERY.get(variant, self.asked + 1) == 0 or (variant is Variant.POSTS and method == "POST")

    def _first_user(self) -> None:
        """Somebody asks for more than what probes ask for."""
        loop = asyncio.get_running_loop()
        self.first_asked = loop.time()
        if self.release.variant is Variant.RESTLESS:
            loop.call_later(RESTLESS_SECONDS, _crash)

    async def on_prepare(self, _request: web.Request, response: web.StreamResponse) -> None:
        """Sign every response; while stopping, ask the client to connect anew next time."""
        response.headers["X-Shop-Release"] = self.release.name
        response.headers["X-Shop-Instance"] = self.release.instance
        if self.stopping and not isinstance(response, web.WebSocketResponse):
            response.force_close()

    async def drain(self) -> None:
        """Close the WebSockets properly and wait until nothing is in flight."""
        self.stopping = True
        await asyncio.gather(
            *(socket.close(code=WSCloseCode.GOING_AWAY, message=b"server is stopping") for socket in self.websockets),
            return_exceptions=True,
        )
        while self.in_flight:
            await asyncio.sleep(0.02)


LIFE = web.AppKey("life", Life)


def new_app() -> web.Application:
    """An application with the headers, the variants and the routes that both services have."""
    life = Life(this_release())
    app = web.Application(middlewares=[life.middleware])
    app[LIFE] = life
    app.on_response_prepare.append(life.on_prepare)
    app.router.add_get("/whoami", whoami)
    app.router.add_route("*", "/inspect", inspect)
    app.router.add_route("*", "/inspect/{rest:.*}", inspect)
    return app


def answer(body: dict[str, Any], status: int = 200) -> web.Response:
    """A JSON response."""
    return web.json_response(body, status=status)


def signed(request: web.Request, body: dict[str, Any], status: int = 200) -> web.Response:
    """A JSON response that also names the release and the instance."""
    return answer({**request.app[LIFE].release.as_json(), **body}, status=status)


def number(request: web.Request, name: str, default: float, low: float, high: float) -> float:
    """Query parameter *name* as a number between *low* and *high*; answers 400 if it is not one."""
    text = request.query.get(name, str(default))
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        message = {"error": f"{name}={text}: expected a number from {low:g} to {high:g}"}
        raise web.HTTPBadRequest(text=json.dumps(message), content_type="application/json")
    return value


async def whoami(request: web.Request) -> web.Response:
    """Release and instance."""
    return signed(request, {})


async def inspect(request: web.Request) -> web.Response:
    """The request as it arrived here: method, path and query unchanged, headers in order."""
    body = await request.read()
    return signed(
        request,
        {
            "method": request.method,
            "target": request.raw_path,
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.raw_headers],
            "body_bytes": len(body),
            "body_sha256": hashlib.sha256(body).hexdigest(),
        },
    )


def run(app: web.Application, port: int) -> None:
    """Serve *app* until SIGTERM; then stop accepting, finish what is in flight and return."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(_serve(app, port))


async def _serve(app: web.Application, port: int) -> None:
    life = app[LIFE]
    release = life.release
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number_of_signal in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number_of_signal, stop.set)
    log.info("release %s (%s) starts as %s", release.name, release.variant, release.instance)

    if release.variant is Variant.CRASH:
        loop.call_later(CRASH_AFTER_SECONDS, _crash)
    if release.variant is Variant.SLOW_START:
        await _wait(stop, SLOW_START_SECONDS)

    runner = web.AppRunner(app, access_log=None, keepalive_timeout=IDLE_CONNECTION_SECONDS)
    await runner.setup()
    if release.variant is not Variant.NOLISTEN and not stop.is_set():
        await web.TCPSite(runner, "0.0.0.0", port, backlog=1024).start()
        log.info("listening on port %d", port)

    await stop.wait()
    if release.variant is Variant.STUBBORN:
        log.warning("asked to stop; this release goes on for %.0f s", STUBBORN_SECONDS)
        await asyncio.sleep(STUBBORN_SECONDS)
    log.info("stopping with %d in flight", life.in_flight)
    for site in list(runner.sites):
        await site.stop()
    # Drained before the cleanup: that drops the rest of a request body that is still arriving.
    try:
        await asyncio.wait_for(life.drain(), STOP_WITHIN_SECONDS)
    except TimeoutError:
        log.warning("%d still in flight after %.0f s", life.in_flight, STOP_WITHIN_SECONDS)
    await runner.cleanup()
    log.info("stopped")


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return


def _crash() -> None:
    log.error("this release crashes on purpose")
    os._exit(1)
