"""One service of a release as another release has it: what a rollback of that service alone goes back to. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from nself_deploy.core.machine import Outcome, Run
from nself_deploy.core.model import Release
from nself_deploy.core.plan import Kind
from nself_deploy.core.release import fingerprint, identity, release_id


def version_of(release: Release, service: str) -> str:
    """A word for what a service of a release is: the same image and configuration give the same one; empty without."""
    known, image = release.services.get(service), release.images.get(service)
    if known is None or image is None:
        return ""
    routes = sorted([r.key, r.port, r.protocol.value, r.keepalive] for r in release.routes if r.service == service)
    content = msgspec.json.encode([image.id, identity(known), routes], order="sorted")
    return hashlib.sha256(content).hexdigest()[:16]


def prior_release(
    live: Release, service: str, environment: str, history: Iterable[Run], release: Callable[[str], Release | None]
) -> Release | None:
    """The newest release before, in this environment, that has another version of the service; None without one.

    One that was rolled back from is taken only when there is no other. What was deployed last must have been for this
    environment: a key for staging changes nothing that is live for prod.

    Args:
        live: what runs.
        service: the Compose service.
        environment: where it was deployed to.
        history: runs, newest first.
        release: gives a release by id.
    """
    now, left, bad = version_of(live, service), set[str](), None
    runs = [run for run in history if run.outcome is Outcome.DONE]
    deploys = (run for run in runs if run.plan.kind is Kind.DEPLOY)
    if (last := next(deploys, None)) is not None and last.plan.target != environment:
        return None
    for run in runs:
        if run.plan.target != environment or not run.plan.previous_release:
            continue
        found = release(run.plan.previous_release)
        version = version_of(found, service) if found else ""
        if found is None or not version:
            continue
        if run.plan.kind is Kind.ROLLBACK:
            left.add(version)
        if version != now and version not in left:
            return found
        if version != now:
            bad = bad or found
    return bad


def with_service(live: Release, prior: Release, service: str, now: str, maker: tuple[str, str]) -> Release:
    """The live release, with one service as the prior one has it: the prior one itself if nothing else differs.

    Args:
        live: what runs.
        prior: has the service as it shall be.
        service: the Compose service.
        now: UTC, RFC 3339.
        maker: who makes it, and the machine's name.
    """
    names = {*live.services, *prior.services} - {service}
    if all(version_of(live, name) == version_of(prior, name) for name in names):
        return prior
    routes = (*(r for r in live.routes if r.service != service), *(r for r in prior.routes if r.service == service))
    services = {**live.services, service: prior.services[service]}
    images = {**live.images, service: prior.images[service]}
    resources: dict[str, dict[str, dict[str, Any]]] = {
        kind: {**getattr(prior, kind), **getattr(live, kind)} for kind in ("networks", "volumes", "secrets", "configs")
    }
    print_ = fingerprint(services, images, routes=routes, file_hashes=_files(live, prior, service), **resources)
    return Release(
        id=release_id(now, print_),
        fingerprint=print_,
        created_at=now,
        services=dict(sorted(services.items())),
        images=dict(sorted(images.items())),
        routes=tuple(sorted(routes)),
        git_commit=live.git_commit,
        git_dirty=True,
        created_by=maker[0],
        created_on=maker[1],
        settings=live.settings,
        migrations=prior.migrations,  # what its code knows: with less, a check of it would find nothing
        **resources,
    )


def _files(live: Release, prior: Release, service: str) -> Mapping[str, str]:
    """What stands for the hashes of files: each of the two releases stands for its own."""
    return {"": f"{live.fingerprint} but {service} of {prior.fingerprint}"}
