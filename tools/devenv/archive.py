"""Image archives for `docker load`, made from a directory without a registry, a builder or an engine.

The same directory gives the same bytes, so an image keeps its id on every engine that it is loaded into.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_EPOCH = 1_700_000_000  # the time stamp of every file: what counts is in the contents
_CREATED = "2023-11-14T22:13:20Z"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Owner:
    """Who owns a path in the image, and its permissions."""

    uid: int
    gid: int
    mode: int


@dataclass(frozen=True)
class ImageConfig:
    """How a container of the image starts; the fields' names are the ones of the image format."""

    command: Sequence[str]
    entrypoint: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    ports: Sequence[str] = ()
    volumes: Sequence[str] = ()
    workdir: str = ""
    stop_signal: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """The `config` object of the image format."""
        found: dict[str, object] = {
            "Cmd": list(self.command),
            "Entrypoint": list(self.entrypoint) or None,
            "Env": [f"{key}={value}" for key, value in self.environment.items()],
            "ExposedPorts": {port: {} for port in self.ports} or None,
            "Volumes": {volume: {} for volume in self.volumes} or None,
            "WorkingDir": self.workdir,
            "StopSignal": self.stop_signal,
            "Labels": dict(self.labels),
        }
        return {key: value for key, value in found.items() if value}


def write_archive(
    root: Path, target: Path, names: Sequence[str], config: ImageConfig, owners: Mapping[str, Owner]
) -> None:
    """Write the directory `root` as an image archive. Files belong to root unless `owners` says something else."""
    layer = target.with_suffix(".layer")
    try:
        _write_layer(root, layer, owners)
        digest = _sha256(layer)
        machine = os.uname().machine
        document = {
            "architecture": _ARCHITECTURES.get(machine, machine),
            "os": "linux",
            "created": _CREATED,
            "config": config.as_json(),
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            "history": [{"created": _CREATED, "created_by": "tools/devenv"}],
        }
        encoded = json.dumps(document, sort_keys=True).encode()
        config_name = f"{hashlib.sha256(encoded).hexdigest()}.json"
        manifest = [{"Config": config_name, "RepoTags": list(names), "Layers": [f"{digest}/layer.tar"]}]
        with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as archive:
            archive.addfile(*_bytes_entry(config_name, encoded))
            archive.addfile(*_bytes_entry("manifest.json", json.dumps(manifest).encode()))
            entry = tarfile.TarInfo(f"{digest}/layer.tar")
            entry.size, entry.mtime = layer.stat().st_size, _EPOCH
            with layer.open("rb") as content:
                archive.addfile(entry, content)
    finally:
        layer.unlink(missing_ok=True)


def _bytes_entry(name: str, content: bytes) -> tuple[tarfile.TarInfo, io.BytesIO]:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime = len(content), _EPOCH
    return entry, io.BytesIO(content)


def _write_layer(root: Path, layer: Path, owners: Mapping[str, Owner]) -> None:
    with tarfile.open(layer, "w", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix()
            entry = archive.gettarinfo(path, arcname=name)
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mtime = _EPOCH
            entry.mode = stat.S_IMODE(entry.mode)
            if name in owners:
                owner = owners[name]
                entry.uid, entry.gid, entry.mode = owner.uid, owner.gid, owner.mode
            if entry.isreg():
                with path.open("rb") as content:
                    archive.addfile(entry, content)
            else:
                archive.addfile(entry)


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
