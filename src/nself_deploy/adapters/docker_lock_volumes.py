"""The volumes that a lock on the engine is made of: empty, with labels of ours. The engine makes each name once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from nself_deploy.adapters.docker_client import DockerClient
from nself_deploy.core.lock_rules import (
    LABEL_LOCK,
    LABEL_LOCK_BEAT,
    LABEL_LOCK_NUMBER,
    LABEL_LOCK_OWNER,
    LABEL_LOCK_TOKEN,
    UNKNOWN,
    Found,
    Generation,
    LockOwner,
)
from nself_deploy.core.model import LABEL_PROJECT

if TYPE_CHECKING:
    import aiodocker


class LockVolumes:
    """The lock volumes of one project."""

    def __init__(self, client: DockerClient, project: str, target: str) -> None:
        self._client = client
        self._project = project
        self._target = target

    async def found(self) -> Found:
        """All generations with their heartbeats, oldest first."""
        wanted = {"label": [f"{LABEL_PROJECT}={self._project}", LABEL_LOCK]}
        answer = await self._client.run("list volumes", lambda d: d.volumes.list(filters=wanted))  # type: ignore[no-untyped-call]
        return read_locks(answer.get("Volumes") or ())

    async def create(self, number: int, token: str, owner: LockOwner) -> None:
        """Make a generation; when there is one of this number already, that one stays as it is."""
        await self._make(
            self._name(number),
            {
                LABEL_LOCK_NUMBER: str(number),
                LABEL_LOCK_TOKEN: token,
                LABEL_LOCK_OWNER: msgspec.json.encode(owner).decode(),
            },
        )

    async def beat(self, number: int, token: str, count: int) -> None:
        """Make a heartbeat of a generation."""
        labels = {LABEL_LOCK_NUMBER: str(number), LABEL_LOCK_TOKEN: token, LABEL_LOCK_BEAT: str(count)}
        await self._make(self._name(number, count), labels)

    async def remove(self, number: int, beat: int = 0) -> bool:
        """Remove a generation, or one of its heartbeats; whether it was still there. One that is gone is fine."""
        name = self._name(number, beat)

        async def delete(docker: aiodocker.Docker) -> bool:
            volume = await docker.volumes.get(name)  # type: ignore[no-untyped-call]
            await volume.delete()
            return True

        return bool(await self._client.run_or_none(f"remove volume {name!r}", delete))

    async def now(self) -> str:
        """The engine's clock, RFC 3339."""
        info = await self._client.run("ask the engine for its time", lambda d: d.system.info())
        return str(info["SystemTime"])

    def _name(self, number: int, beat: int = 0) -> str:
        name = f"{self._project}-nself-lock-{number}"
        return f"{name}-beat-{beat}" if beat else name

    async def _make(self, name: str, labels: Mapping[str, str]) -> None:
        ours = {LABEL_PROJECT: self._project, LABEL_LOCK: self._target}
        wanted = {"Name": name, "Driver": "local", "Labels": {**ours, **labels}}
        await self._client.run(f"create volume {name!r}", lambda d: d.volumes.create(wanted))  # type: ignore[no-untyped-call]


def read_locks(answers: Iterable[dict[str, Any]]) -> Found:
    """Generations and heartbeats from what the engine says about volumes. One without a number is none of ours."""
    locks: dict[int, Generation] = {}
    beats: dict[tuple[int, str], list[tuple[int, str]]] = {}
    for answer in answers:
        labels, created = answer.get("Labels") or {}, str(answer.get("CreatedAt") or "")
        number, token = _number(labels.get(LABEL_LOCK_NUMBER)), str(labels.get(LABEL_LOCK_TOKEN) or "")
        if number and LABEL_LOCK_BEAT in labels:
            beats.setdefault((number, token), []).append((_number(labels[LABEL_LOCK_BEAT]), created))
        elif number:
            locks[number] = Generation(number, token, _owner(labels.get(LABEL_LOCK_OWNER)), created)
    generations = tuple(
        msgspec.structs.replace(lock, beats=tuple(sorted(beats.pop((number, lock.token), ()))))
        for number, lock in sorted(locks.items())
    )
    strays = tuple((number, count) for (number, _), found in sorted(beats.items()) for count, _ in found)
    return Found(generations, strays)


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() else 0


def _owner(text: str | None) -> LockOwner:
    try:
        return msgspec.json.decode(text or "", type=LockOwner)
    except msgspec.DecodeError:
        return UNKNOWN
