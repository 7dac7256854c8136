"""The router: an nginx in a container of the project, or one that runs on the machine itself.

Moving traffic, asking for it and counting what is in flight need neither the container engine nor nginx's command line:
a rename, and HTTP to the probe server, whose address is remembered in `router/address.json`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from nself_deploy.adapters.nginx_ask import Answer, Conversation, Unanswered, ask
from nself_deploy.adapters.nginx_store import RouterStore, split_copy
from nself_deploy.app.answers import ProbeAnswer, RouterState
from nself_deploy.core.model import (
    ROUTER_DIR_IN_CONTAINER,
    ROUTER_LOG_IN_CONTAINER,
    ROUTER_PROBE_PORT,
    HostRouter,
    Probe,
    Route,
    RouterKind,
    RouterRef,
    Slot,
    Split,
)
from nself_deploy.core.nginx_flags import HOST_HEADER, INFLIGHT_HEADER, LADDER, LINK, READABLE, RECORDING, bucket_slot
from nself_deploy.errors import RouterError

if TYPE_CHECKING:
    from nself_deploy.adapters.nginx_control import Control
    from nself_deploy.app.ports import Engine
    from nself_deploy.core.routing import TreeSpec

LOAD_S = 15.0
"""How long a reload may take until all workers that accept connections have the new files."""
_STEADY = 12
_ASK_EVERY_S = 0.015
_POLL_S = 0.02
_OLD_WORKERS_S = 3.0
_ASK_S = 2.0


class NginxRouter:
    """The `Router` port."""

    def __init__(
        self, directory: Path, ref: RouterRef, project: str, engine: Callable[[], Engine] | None = None
    ) -> None:
        """Open the router of a project; nothing is looked at yet.

        Args:
        directory: `.nself/router` of the project, absolute.
        project: Compose project name.
        engine: makes or returns the container engine; needed for a router in a container, and called only when
            something about the container has to be asked.
        """
        self._store = RouterStore(directory)
        self._ref = ref
        self._project = project
        self._log = directory / "log"
        self._control: Control
        if ref.kind is RouterKind.HOST:
            from nself_deploy.adapters.nginx_host import HostControl

            self._port = ref.probe_port or self._store.host_port(project)
            self._control = HostControl(ref.host or HostRouter(), f"127.0.0.1:{self._port}")
        else:
            if engine is None:
                raise ValueError("a router in a container needs the engine")
            from nself_deploy.adapters.nginx_container import ContainerControl

            self._port = ref.probe_port or ROUTER_PROBE_PORT
            self._control = ContainerControl(engine, project, ref.service, directory, self._port)

    def base_spec(self, *, sticky: str = "client", default_access_log: str = "") -> TreeSpec:
        """What `install` needs but for the upstreams: paths as nginx sees them, where it listens, the secret."""
        from nself_deploy.core.routing import TreeSpec

        host = self._ref.kind is RouterKind.HOST
        return TreeSpec(
            project=self._project,
            upstreams=(),
            secret=self._store.secret(),
            sticky=sticky,
            directory=str(self._store.directory) if host else ROUTER_DIR_IN_CONTAINER,
            log_directory=str(self._log) if host else ROUTER_LOG_IN_CONTAINER,
            probe_listen=f"127.0.0.1:{self._port}" if host else f"0.0.0.0:{self._port}",
            default_access_log=default_access_log,
        )

    async def build_paths(self) -> tuple[tuple[int, ...], str]:
        """Nginx's version, and the file of its own default access log (empty when unknown)."""
        await self._control.find()
        build = await self._control.build()
        return build.version, build.http_log_path

    def split(self) -> Split | None:
        """What the link says now; reads one link, nothing else."""
        return self._store.split()

    async def observe(self) -> RouterState:
        """Its state; no error when it is down."""
        from nself_deploy.core.nginx_tree import fingerprint

        running = await self._control.find()
        files = self._store.tree_files()
        loaded = await self._learn() if running else ""
        version: tuple[int, ...] = ()
        if running:
            version = (await self._control.build()).version
        return RouterState(
            running=running,
            version=version,
            container_id=self._control.container_id,
            mounted=self._control.mounted,
            split=self._store.split(),
            tree=fingerprint(files) if files else "",
            loaded_tree=loaded,
            recording=self._store.recording(),
        )

    async def refused(self) -> RouterError | None:
        """Nginx's words against its files as they are now; None when it would load them, or does not run."""
        if not await self._control.find():
            return None
        from nself_deploy.core.nginx_words import refusal

        accepted, words = await self._control.check()
        return None if accepted else refusal(words, self._control.mounts)

    async def install(self, spec: TreeSpec) -> str:
        """Write, check, load and confirm the generated files; see the port."""
        from nself_deploy.core.nginx_tree import compile_tree, fingerprint

        files = compile_tree(spec)
        tree = fingerprint(files)
        running = await self._control.find()
        if running:
            await self._refuse_old_version()
        self._store.prepare()
        for slot in Slot:
            self._store.ensure_split(Split.all_to(slot))
        if self._store.split() is None and any(upstream.servers.get(Slot.PLAIN) for upstream in spec.upstreams):
            self._store.point(Split.all_to(Slot.PLAIN))  # the stack that serves now goes on serving
        before = self._store.tree_version()
        version = self._store.write_tree(files, await self._control.owner() if running else None)
        self._store.point_tree(version)
        if not running:
            return tree
        try:
            await self._load(tree, version)
        except RouterError:
            await self._restore(before, version)
            raise
        self._store.forget_trees(version)
        return tree

    async def move(self, split: Split) -> None:
        """One rename: from now on requests are split like this."""
        self._store.prepare()
        self._store.point(split)
        if not self._store.seen().mounted:
            await self._control.find()
            await self._control.copy_files(*split_copy(split))

    async def record(self, *, on: bool) -> None:
        """Keep our access log from now on, or no longer; a large one is put aside."""
        self._store.prepare()
        reopen = self._store.record(on=on)
        if self._store.seen().mounted and not reopen:
            return
        if not await self._control.find():
            return
        if reopen:
            await self._control.reopen()
        if on:
            await self._control.copy_files({RECORDING: b""}, {})
        else:
            await self._control.remove_copy(RECORDING)

    async def confirm(self, split: Split, timeout_s: float = 5.0) -> None:
        """Ask through nginx which slots answer until it is as `split` says."""
        buckets = sorted({b for b in (0, 49, 99, split.percent - 1, split.percent) if 0 <= b <= 99})
        wanted = {bucket: bucket_slot(split, bucket).value for bucket in buckets}
        end = time.monotonic() + timeout_s
        while True:
            found = await self._slots(buckets)
            if found == wanted:
                return
            if time.monotonic() > end:
                from nself_deploy.core.nginx_words import differences

                raise RouterError(
                    f"nginx does not split requests as {split.name}: {differences(found, wanted)}.",
                    "Look whether it reads our directory: nself deploy doctor.",
                    where=str(self._store.directory),
                )
            await asyncio.sleep(_POLL_S)

    async def in_flight(self, slot: Slot) -> int:
        """Requests in flight to a slot: 0, or the largest rung of the ladder that is surely reached."""
        async with await self._conversation() as talk:
            reached = 0
            for rung in LADDER:
                answer = await self._get(talk, f"inflight/{slot}/{rung}")
                said = answer.headers.get(INFLIGHT_HEADER.lower(), "")
                if said == "PASSED":
                    return reached
                if said != "REJECTED_DRY_RUN":
                    raise RouterError(
                        f"nginx can't say what is in flight to {slot} (status {answer.status}).", "Deploy again."
                    )
                reached = rung
            return reached

    async def old_workers(self) -> int:
        """Worker processes of an earlier configuration that still finish requests."""
        from nself_deploy.adapters.nginx_workers import finishing

        return await finishing(self._control) if await self._control.find() else 0

    async def probe(self, route: Route, slot: Slot, probe: Probe) -> ProbeAnswer:
        """One GET to a slot's service, sent by nginx itself over the route's upstream."""
        host = probe.host or f"{route.service}:{route.port}"
        what = f"GET {probe.path} at {route.service}:{route.port} in {slot}, through the router,"
        path = probe.path if probe.path.startswith("/") else f"/{probe.path}"
        async with await self._conversation() as talk:
            start = time.monotonic()
            try:
                answer = await talk.get(
                    self._path(f"route/{route.key}/{slot}{path}"), {HOST_HEADER: host}, probe.timeout_s
                )
            except Unanswered as error:
                return ProbeAnswer(False, 0, f"{what} had no answer: {error}", time.monotonic() - start)
        low, high = probe.statuses
        words = f"{what} answered {answer.status} in {answer.seconds * 1000:.0f} ms"
        return ProbeAnswer(low <= answer.status <= high, answer.status, words, answer.seconds)

    async def _load(self, tree: str, version: str) -> None:
        """Have the running nginx check and load the files, until whoever connects is answered with them."""
        from nself_deploy.adapters.nginx_workers import finished, replaced

        if not self._control.mounted:
            files = {f"{version}/{name}": text.encode() for name, text in self._store.tree_files().items()}
            copies, links = split_copy(self._store.split() or Split.all_to(Slot.BLUE))
            copies |= files | {READABLE: b"", f"{ROUTER_LOG_IN_CONTAINER}/.keep": b""}
            if self._store.recording():
                copies[RECORDING] = b""
            await self._control.copy_files(copies, {LINK: version, **links})
        accepted, words = await self._control.check()
        if not accepted:
            from nself_deploy.core.nginx_words import refusal

            raise refusal(words, self._control.mounts)
        loaded = await self._learn()
        if loaded == tree:
            return
        before = await self._control.workers()
        await self._control.reload()
        if not (await self._answers(tree, LOAD_S) and await replaced(self._control, before, LOAD_S)):
            raise RouterError(
                f"nginx accepted the new files but did not load them within {LOAD_S:g} s; it keeps the old ones.",
                f"Look into its error log, and whether port {self._port} of the probe server is free and "
                "http.conf is included (nself deploy init).",
                evidence=await self._control.last_words(),
            )
        await self._learn()
        await self._refuse_unreadable()
        if not loaded:
            # Workers from before know nothing of slots: what they still serve is not counted.
            await finished(self._control, _OLD_WORKERS_S)

    async def _restore(self, before: str, refused: str) -> None:
        """Back to the files from before; nginx loads them again in case it did load the refused ones."""
        self._store.point_tree(before)
        if before and before != refused:
            await self._control.copy_files({}, {LINK: before})
            if (await self._control.check())[0]:
                await self._control.reload()
            self._store.forget_trees(before)

    async def _answers(self, tree: str, timeout_s: float) -> bool:
        """Whether every fresh connection is answered with this tree, before time is up."""
        end = time.monotonic() + timeout_s
        steady = 0
        while steady < _STEADY:
            if time.monotonic() > end:
                return False
            steady = steady + 1 if await self._loaded_tree() == tree else 0
            await asyncio.sleep(_ASK_EVERY_S)
        return True

    async def _refuse_old_version(self) -> None:
        from nself_deploy.core.nginx_names import MIN_VERSION

        version = (await self._control.build()).version
        if version and version < MIN_VERSION:
            numbers = ".".join(map(str, version))
            raise RouterError(f"nginx {numbers} is too old.", f"Use nginx {'.'.join(map(str, MIN_VERSION))} or newer.")

    async def _refuse_unreadable(self) -> None:
        if (await self._get_at_last("reads", LOAD_S)).body.strip() != "yes":
            raise RouterError(
                "nginx's workers can't read our directory, so they would never see a move.",
                "Let everybody pass through each directory above it (chmod o+x).",
                where=str(self._store.directory),
            )

    async def _slots(self, buckets: list[int]) -> dict[int, str]:
        async with await self._conversation() as talk:
            return {bucket: (await self._get(talk, f"split/{bucket:02d}")).body.strip() for bucket in buckets}

    async def _loaded_tree(self) -> str:
        """Fingerprint that the remembered address answers with, empty without an answer."""
        for address in self._control.addresses():
            try:
                answer = await ask(address, self._path("tree"), timeout_s=_ASK_S)
            except Unanswered:
                continue
            if answer.status == 200:
                return answer.body.strip()
        return ""

    async def _learn(self) -> str:
        """Find the address that answers, remember it, and return the fingerprint that it answers with."""
        seen = self._store.seen()
        known = msgspec.structs.replace(seen, mounted=self._control.mounted, container=self._control.container_id)
        for address in self._control.addresses():
            try:
                answer = await ask(address, self._path("tree"), timeout_s=_ASK_S)
            except Unanswered:
                continue
            if answer.status == 200:
                self._store.remember(msgspec.structs.replace(known, address=address))
                return answer.body.strip()
        if known != seen:
            self._store.remember(known)
        return ""

    async def _conversation(self) -> Conversation:
        """A connection to the probe server, at the remembered address or where the router is now.

        Raises:
            RouterError: it is down.
        """
        address = self._store.seen().address
        if address:
            talk = Conversation(address)
            try:
                answer = await talk.get(self._path("tree"), timeout_s=_ASK_S)
                if answer.status == 200:
                    return talk
            except Unanswered:
                pass  # it may have another address now
            await talk.close()
        running = await self._control.find()
        if running and await self._learn():
            return Conversation(self._store.seen().address)
        name = self._ref.service or "nginx"
        if not running:
            raise RouterError(
                f"the router {name} is not running; traffic is split as its files say when it starts.",
                f"Start it: docker compose up -d {name}." if self._ref.service else "Start nginx.",
            )
        raise RouterError(
            f"the router {name} runs but does not answer our questions.",
            "Its files may not be installed yet, or http.conf is not included: nself deploy init shows it.",
        )

    async def _get(self, talk: Conversation, path: str) -> Answer:
        try:
            return await talk.get(self._path(path), timeout_s=_ASK_S)
        except Unanswered as error:
            raise RouterError(f"the router does not answer: {error}.", "Look whether nginx runs.") from error

    async def _get_at_last(self, path: str, timeout_s: float) -> Answer:
        """As often as needed until time is up: a worker that stands still for a moment has not refused anything."""
        end = time.monotonic() + timeout_s
        while True:
            try:
                async with await self._conversation() as talk:
                    return await self._get(talk, path)
            except RouterError:
                if time.monotonic() > end:
                    raise
            await asyncio.sleep(_POLL_S)

    def _path(self, path: str) -> str:
        return f"/{self._store.secret()}/{path}"
