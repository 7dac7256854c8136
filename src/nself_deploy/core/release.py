"""Releases: one immutable version of a project's app and job services, and the fingerprint that tells two apart."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from nself_deploy.core.model import PinnedImage, Project, Release, Role, Route, Service
from nself_deploy.errors import ImageError

NOT_BEHAVIOUR = frozenset(
    {
        "attach",
        "build",
        "container_name",
        "develop",
        "image",
        "mac_address",
        "networks",
        "ports",
        "profiles",
        "pull_policy",
        "scale",
    }
)
"""Keys of a Compose service that don't reach a slot's containers, or do so in another form."""

DEPLOY_KEPT = frozenset({"resources", "restart_policy"})
"""Keys of `deploy:` that Compose applies to containers, apart from the number of replicas."""


class GitInfo(msgspec.Struct, frozen=True):
    """The commit that a release was made from."""

    commit: str
    dirty: bool = False


def make_release(
    project: Project,
    images: Mapping[str, PinnedImage],
    *,
    now: str,
    git: GitInfo | None = None,
    user: str = "",
    file_hashes: Mapping[str, str] | None = None,
) -> Release:
    """The release of a project's app and job services with exactly these images.

    Args:
        project: as it was read.
        images: service name -> image that was checked.
        now: UTC, RFC 3339, ending in Z.
        git: the commit that the project is at, if it is in a repository.
        user: who makes it.
        file_hashes: path -> sha256 of the files of `files_of`; a changed file makes another release.

    Raises:
        ImageError: a service has no image in `images`.
    """
    services = {n: s for n, s in sorted(project.services.items()) if s.role in (Role.APP, Role.JOB)}
    for name in services:
        if name not in images:
            raise ImageError(f"service {name!r} has no image.", "Build it, or pull it, and try again.")
    used = {name: images[name] for name in services}
    networks = _of(project.networks, (n for s in services.values() for n in s.networks))
    volumes = _of(project.volumes, (n for s in services.values() for n in volume_names(s.config)))
    secrets = _of(project.secrets, (n for s in services.values() for n in _sources(s.config, "secrets")))
    configs = _of(project.configs, (n for s in services.values() for n in _sources(s.config, "configs")))
    routes = tuple(sorted(r for r in project.routes if r.service in services))
    files = {p: (file_hashes or {}).get(p, "") for p in _files(services.values(), secrets, configs)}
    print_ = fingerprint(
        services,
        used,
        networks=networks,
        volumes=volumes,
        secrets=secrets,
        configs=configs,
        routes=routes,
        file_hashes=files,
    )
    return Release(
        id=release_id(now, print_),
        fingerprint=print_,
        created_at=now,
        services=services,
        images=used,
        networks=networks,
        volumes=volumes,
        secrets=secrets,
        configs=configs,
        routes=routes,
        git_commit=git.commit if git else "",
        git_dirty=git.dirty if git else False,
        created_by=user,
    )


def fingerprint(
    services: Mapping[str, Service],
    images: Mapping[str, PinnedImage],
    *,
    networks: Mapping[str, Any],
    volumes: Mapping[str, Any],
    secrets: Mapping[str, Any],
    configs: Mapping[str, Any],
    routes: Iterable[Route],
    file_hashes: Mapping[str, str],
) -> str:
    """sha256 (hex) of all that decides how the containers run and what is routed to them.

    The order of keys doesn't matter, nor do host ports, build settings, image names, or how a deploy is timed.
    """
    content = {
        "services": {name: identity(service) for name, service in services.items()},
        "images": {name: image.id for name, image in images.items()},
        "networks": dict(networks),
        "volumes": dict(volumes),
        "secrets": dict(secrets),
        "configs": dict(configs),
        "routes": sorted([r.key, r.service, r.port, r.protocol.value, r.keepalive] for r in routes),
        "files": dict(file_hashes),
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def release_id(now: str, print_: str) -> str:
    """`<UTC time>-<first 8 of the fingerprint>`, e.g. `20261122T213000-3fa9c2d1`."""
    time = datetime.fromisoformat(now).astimezone(UTC)
    return f"{time:%Y%m%dT%H%M%S}-{print_[:8]}"


def image_tag(project: str, service: str, release_id: str) -> str:
    """The name that keeps a release's image from being pruned: `nself-deploy/<project>-<service>:<release id>`.

    Characters that Docker doesn't allow in a name are replaced, and a hash keeps two such names apart.
    """
    plain = f"{project}-{service}"
    name = re.sub(r"[._-]{2,}|[^a-z0-9._-]+", "-", plain.lower())[:180].strip("._-")
    if name != plain:
        name = f"{name}-{hashlib.sha256(plain.encode()).hexdigest()[:8]}"
    return f"nself-deploy/{name}:{release_id}"


def files_of(project: Project) -> tuple[str, ...]:
    """Paths on this machine that app and job services read: files of their configs and secrets, and bind mounts."""
    services = [s for s in project.services.values() if s.role in (Role.APP, Role.JOB)]
    secrets = _of(project.secrets, (n for s in services for n in _sources(s.config, "secrets")))
    configs = _of(project.configs, (n for s in services for n in _sources(s.config, "configs")))
    return _files(services, secrets, configs)


def volume_names(config: Mapping[str, Any]) -> list[str]:
    """Keys of the named volumes that a service mounts."""
    mounts = [m for m in config.get("volumes") or () if isinstance(m, dict)]
    return [m["source"] for m in mounts if m.get("type") == "volume" and m.get("source")]


def behaviour(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a service's configuration that its containers in a slot take over as it is."""
    kept = {k: v for k, v in config.items() if k not in NOT_BEHAVIOUR and not k.startswith("x-")}
    deploy = {k: v for k, v in (kept.pop("deploy", None) or {}).items() if k in DEPLOY_KEPT}
    return {**kept, "deploy": deploy} if deploy else kept


def identity(service: Service) -> dict[str, Any]:
    """What of a service's configuration makes another release when it changes."""
    attached = service.config.get("networks") or {}
    return {
        "role": service.role.value,
        "replicas": service.replicas,
        "activate": service.activate.value,
        "networks": {n: sorted((attached.get(n) or {}).get("aliases") or ()) for n in service.networks},
        "names": [service.config.get("container_name", "")],
        "config": behaviour(service.config),
    }


def _sources(config: Mapping[str, Any], kind: str) -> list[str]:
    return [c["source"] if isinstance(c, dict) else str(c) for c in config.get(kind) or ()]


def _files(services: Iterable[Service], secrets: Mapping[str, Any], configs: Mapping[str, Any]) -> tuple[str, ...]:
    named = {str(c["file"]) for c in (*secrets.values(), *configs.values()) if c.get("file")}
    mounts = [m for s in services for m in s.config.get("volumes") or () if isinstance(m, dict)]
    return tuple(sorted(named | {str(m["source"]) for m in mounts if m.get("type") == "bind"}))


def _of(all_: Mapping[str, dict[str, Any]], names: Iterable[str]) -> dict[str, dict[str, Any]]:
    wanted = set(names)
    return {n: c for n, c in sorted(all_.items()) if n in wanted}
