"""Opening what delivers the audit trail: needs the journal only, no Compose and no engine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec

from nself_deploy import wiring
from nself_deploy.adapters.audit_sinks import AuditSinks
from nself_deploy.adapters.journal import Journal
from nself_deploy.adapters.system import SystemClock
from nself_deploy.app.delivering import Courier, Receiver, Route, lines, waits
from nself_deploy.core.audit_delivery import Progress, Sink, SinkKind, SinkLine, sink_event
from nself_deploy.errors import ConfigError, NselfError, UsageError

_LOOKS = 5
"""Tries to be the process in the background: one that only looks whether there is one is done at once."""
_PATIENCE_S = 30.0
_NICE = 10


class Added(msgspec.Struct, frozen=True):
    """What became of a sink that was asked for."""

    line: SinkLine
    server: str = ""
    """Version of a server that was asked."""
    made: bool = False
    """The table was made."""
    secured: bool = True
    """Row level security holds for the role."""
    signed: bool = True


def postgres(dsn: str, name: str, account: str) -> Sink:
    """A table as a sink.

    Raises:
        ConfigError: the DSN can't be used.
        NselfError: the library for PostgreSQL is missing.
    """
    from nself_deploy.adapters.audit_postgres_words import check_dsn

    return Sink(name, SinkKind.POSTGRES, dsn, check_dsn(dsn), account)


def webhook(url: str, name: str, secret_file: str) -> Sink:
    """A receiver of POSTs as a sink.

    Raises:
        ConfigError: the address or the file with the secret can't be used.
    """
    from nself_deploy.adapters.audit_webhook import check_url, read_secret, shown

    check_url(url)
    path = os.path.abspath(secret_file) if secret_file else ""
    if path:
        read_secret(path)
    return Sink(name, SinkKind.WEBHOOK, url, shown(url), secret_file=path)


def has_password(dsn: str) -> bool:
    """Whether others could read a password in it."""
    from nself_deploy.adapters.audit_postgres_words import has_password

    return has_password(dsn)


async def add(directory: str, sink: Sink) -> Added:
    """Keep a sink, in the place of the one with its name; a table is made or checked first. All events go there.

    Raises:
        NselfError: it can't be used; nothing was changed.
    """
    root = wiring.project_root(directory)
    with wiring.open_journal(root) as journal:
        sinks = AuditSinks(root)
        async with sinks.turn(sink, _PATIENCE_S):
            answer = await _prepared(sink)
            if answer.made:
                journal.deliveries.save(sink, Progress())
            with journal.transaction():  # one at a time changes the file
                known = sinks.load()
                old = next((one for one in known if one.name == sink.name), None)
                if old != sink:
                    journal.add_event(sink_event("sink-changed" if old else "sink-added", sink))
                    sinks.save([sink if one is old else one for one in known] + ([] if old else [sink]))
        (line,) = lines(journal.deliveries, [sink])
    return msgspec.structs.replace(answer, line=line)


async def remove(directory: str, name: str) -> Sink:
    """Deliver nothing more to a sink. What it has stays there.

    Raises:
        UsageError: there is none of this name.
    """
    root = wiring.project_root(directory)
    sinks = AuditSinks(root)
    (sink,) = _chosen(sinks.load(), name)
    with wiring.open_journal(root) as journal:
        async with sinks.turn(sink, _PATIENCE_S):
            with journal.transaction():
                journal.add_event(sink_event("sink-removed", sink))
                sinks.save([one for one in sinks.load() if one.name != name])
    return sink


def status(directory: str) -> list[SinkLine]:
    """What waits for each sink."""
    root = wiring.project_root(directory)
    sinks = AuditSinks(root).load()
    if not sinks:
        return []
    with Journal.open(root, create=False) as journal:
        return lines(journal.deliveries, sinks)


def now() -> str:
    """The present time."""
    return SystemClock().now()


async def deliver(directory: str, name: str, *, again: bool) -> dict[str, NselfError]:
    """Deliver what waits; the errors of sinks that failed, by name.

    Args:
        directory: the project's.
        name: of the sink, empty for all.
        again: from the first event on.

    Raises:
        UsageError: there is no such sink.
    """
    root = wiring.project_root(directory)
    sinks = AuditSinks(root)
    chosen = _chosen(sinks.load(), name)
    with _outbox(root) as journal:
        return await _courier(journal, sinks, chosen).once(again=again)


async def follow(directory: str, name: str, told: Callable[[str], None]) -> None:
    """Deliver what waits and what is still to come, also to sinks that are added meanwhile; ends with an error only.

    Raises:
        UsageError: there is no such sink, or none any more.
    """
    root = wiring.project_root(directory)
    sinks = AuditSinks(root)
    known = sinks.load()
    chosen = _chosen(known, name)
    with _outbox(root) as journal:
        while True:
            await _courier(journal, sinks, chosen).follow(told, partial(_are_still, sinks, known))
            known = sinks.load()
            chosen = _chosen(known, name)


async def deliver_in_background(root: str) -> None:
    """Deliver what waits, unless another process in the background is at it. Nobody reads what we say."""
    os.nice(_NICE)
    sinks = AuditSinks(Path(root))
    with _outbox(Path(root)) as journal:
        while True:
            known = sinks.load()
            courier = _courier(journal, sinks, known)
            with sinks.courier(_LOOKS) as ours:
                if not ours:
                    return
                before = _delivered(journal, known)
                await courier.background()
            # What came before the lock was given back found it taken, and relied on us.
            is_new = sinks.load() != known
            if not is_new and (not courier.waits() or _delivered(journal, known) == before):
                return


def start_if_something_waits(journal: Journal) -> None:
    """Start the process in the background when an event waits for a sink; never fails, and never waits for it."""
    with contextlib.suppress(NselfError, OSError):
        root = journal.path.parent.parent
        sinks = AuditSinks(root)
        if not any(waits(journal.deliveries, sink) for sink in sinks.load()):
            return
        with sinks.courier(1) as nobody_does:
            pass
        if nobody_does:  # one that does looks once more before it ends
            wiring.spawn_detached(["deploy", "deliver-audit", "-C", os.path.abspath(root)])


@contextlib.contextmanager
def _outbox(root: Path) -> Iterator[Journal]:
    """The journal, for those who deliver: they start nobody else."""
    with Journal.open(root, actor=wiring.actor()) as journal:
        yield journal


def _courier(journal: Journal, sinks: AuditSinks, chosen: list[Sink]) -> Courier:
    @contextlib.asynccontextmanager
    async def turn(sink: Sink, patience_s: float) -> AsyncIterator[None]:
        async with sinks.turn(sink, patience_s):
            if sink not in sinks.load():
                raise ConfigError(f"The sink {sink.name} was changed or removed meanwhile.", "Run the command again.")
            yield

    return Courier(journal.deliveries, [Route(one, _receiver(one)) for one in chosen], turn, SystemClock())


def _receiver(sink: Sink) -> Receiver:
    if sink.kind is SinkKind.POSTGRES:
        from nself_deploy.adapters.audit_postgres import PostgresSink

        return PostgresSink(sink.address, sink.to, sink.account)
    from nself_deploy.adapters.audit_webhook import WebhookSink

    return WebhookSink(sink.address, sink.secret_file)


async def _prepared(sink: Sink) -> Added:
    nothing = SinkLine(sink.name, sink.kind.value, sink.to, "", 0, 0, "", "", 0, "", "")
    if sink.kind is SinkKind.WEBHOOK:
        return Added(nothing, signed=bool(sink.secret_file))
    from nself_deploy.adapters.audit_postgres import PostgresSink

    table = PostgresSink(sink.address, sink.to, sink.account)
    try:
        found = await table.prepare()
    finally:
        await table.close()
    return Added(nothing, found.server, found.made, found.secured)


def _are_still(sinks: AuditSinks, known: list[Sink]) -> bool:
    return sinks.load() == known


def _delivered(journal: Journal, sinks: list[Sink]) -> list[int]:
    return [journal.deliveries.progress(sink).number for sink in sinks]


def _chosen(sinks: list[Sink], name: str) -> list[Sink]:
    found = [one for one in sinks if name in ("", one.name)]
    if not sinks:
        raise UsageError("The audit trail has no sink.", "nself deploy audit init adds one.")
    if not found:
        raise UsageError(f"There is no sink {name!r}.", f"There is: {', '.join(one.name for one in sinks)}.")
    return found
