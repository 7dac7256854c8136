"""`nself deploy serve`: rollbacks by HTTP, for watchers that can't run a command here."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from nself_deploy.cli.options import common
from nself_deploy.errors import UsageError

if TYPE_CHECKING:
    import asyncio
    import ssl

    from nself_deploy.adapters.web_server import Address
    from nself_deploy.cli.output import Lines
    from nself_deploy.core.web import Answer, Asked

DEFAULT = "127.0.0.1:9470"
HELP = """Take rollbacks by HTTP until SIGTERM or Ctrl-C, which finish what is under way.

\b
POST /v1/rollback        roll one service back; the deploy key as bearer token
GET  /v1/rollback        how the last rollback of ?service= stands, loading while it runs
POST /v1/alertmanager    what Alertmanager's webhook sends: a firing alert is one rollback
GET  /healthz            that it is there

It does what --rollback --service does, with the same keys, limits, circuit breakers and audit trail. It listens for
this machine only, unless told otherwise; other machines need TLS. With --json it prints one line for each request.
"""
STOPPED = "Stopped at once. nself deploy status shows what is left; the next command puts it right.\n"


@click.command(help=HELP, short_help="Take rollbacks by HTTP: from a watcher, or from Alertmanager.")
@click.option("--listen", default=DEFAULT, metavar="HOST:PORT", help=f"Where it listens [{DEFAULT}].")
@click.option("--tls-cert", "tls_cert", metavar="FILE", help="The certificate for HTTPS, with those above it, in PEM.")
@click.option("--tls-key", "tls_key", metavar="FILE", help="Its key, in PEM, without a password.")
@click.option(
    "--without-tls", "plain", is_flag=True, help="Listen for other machines though keys can be read on the way."
)
@common
def serve(listen: str, tls_cert: str | None, tls_key: str | None, plain: bool, as_json: bool, directory: str) -> int:
    """Take rollbacks by HTTP."""
    import asyncio

    from nself_deploy import wiring
    from nself_deploy.cli.output import Lines
    from nself_deploy.wiring import serving

    address = serving.address_of(listen)
    wiring.check_flags({})
    tls = _tls(address, tls_cert, tls_key, plain=plain)
    root = str(wiring.project_root(directory))
    asyncio.run(_serve(root, address, tls, _Log(Lines(sys.stdout), as_json=as_json)))
    return 0


def _tls(address: Address, cert: str | None, key: str | None, *, plain: bool) -> ssl.SSLContext | None:
    """What TLS is spoken with; None for plain HTTP.

    Raises:
        UsageError: others could read the keys on the way, and nobody said that they may.
    """
    from nself_deploy.cli.output import emit
    from nself_deploy.wiring import serving

    if bool(cert) != bool(key):
        raise UsageError("--tls-cert and --tls-key belong together.", "Give both.", where="--tls-cert")
    if cert and key:
        if plain:
            raise UsageError("--without-tls and --tls-cert exclude each other.", "Keep one.", where="--without-tls")
        return serving.tls_context(cert, key)
    if not address.is_loopback:
        if not plain:
            what = f"Other machines could reach {address}, and without TLS deploy keys can be read on the way."
            remedy = "Give --tls-cert and --tls-key, or put a proxy that speaks TLS before 127.0.0.1; or --without-tls."
            raise UsageError(what, remedy, where="--listen")
        emit(sys.stderr, f"warning: without TLS, deploy keys that are sent to {address} can be read on the way.\n")
    return None


async def _serve(root: str, address: Address, tls: ssl.SSLContext | None, log: _Log) -> None:
    import asyncio

    from nself_deploy import __version__
    from nself_deploy.wiring.serving import Service

    service, stop = Service(root, __version__, log.answered), asyncio.Event()
    bound = await service.server.start(address, tls)
    _on_signals(stop, log)
    log.says("listening", f"Listening on {'https' if tls else 'http'}://{bound}.")
    await stop.wait()
    await service.stop()
    log.says("stopped", "Stopped.")


def _on_signals(stop: asyncio.Event, log: _Log) -> None:
    """The first Ctrl-C or SIGTERM ends it in order, the second one at once. A lost terminal stops nothing."""
    import asyncio
    import os
    import signal

    from nself_deploy.cli.output import emit
    from nself_deploy.errors import Exit

    def ask() -> None:
        if stop.is_set():
            emit(sys.stderr, STOPPED)
            os._exit(int(Exit.INTERRUPTED))
        stop.set()
        log.says("stopping", "Stopping: what is under way is finished (again to stop at once).")

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ask)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)


class _Log:
    """What is said about requests: one line each, nothing of their keys."""

    def __init__(self, lines: Lines, *, as_json: bool) -> None:
        self._lines, self._as_json = lines, as_json

    def says(self, event: str, words: str) -> None:
        """Something about the server itself."""
        if self._as_json:
            self._line(event, detail=words)
        else:
            self._lines.note(words)

    def answered(self, asked: Asked, answer: Answer, seconds: float) -> None:
        """A request was answered."""
        from nself_deploy.cli.output import printable
        from nself_deploy.core.web import METHODS

        method, path = asked.method[:10], asked.path if asked.path in METHODS else "-"
        about = answer.about
        if self._as_json:
            self._line(
                "answered", method=method, path=path, source=asked.source, status=answer.status,
                service=about.service, environment=about.environment, ui_state=about.ui_state,
                duration_ms=round(seconds * 1000), detail=about.detail,
            )  # fmt: skip
            return
        subject = f" {about.service} in {about.environment}" if about.service else ""
        state = f" {about.ui_state}" if about.ui_state else ""
        words = f"{answer.status} {method} {path} from {asked.source}:{subject}{state} ({seconds:.1f} s)"
        self._lines.note(printable(f"{words}  {about.detail}".rstrip()))

    def _line(self, event: str, **known: object) -> None:
        import msgspec

        from nself_deploy import wiring
        from nself_deploy.cli.output import emit
        from nself_deploy.core.web import ServedLine

        line = msgspec.convert({"at": wiring.clock().now(), "event": event, **known}, ServedLine)
        emit(sys.stdout, msgspec.json.encode(line).decode() + "\n")
