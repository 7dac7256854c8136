"""Whether a container may be believed to be healthy: pure judgements over what the engine and a probe said."""

from __future__ import annotations

import msgspec

from nself_deploy.core.model import Container, Service


class Proof(msgspec.Struct, frozen=True):
    """What was seen of one container over time."""

    was_healthy: bool = False
    started_at: str = ""
    """Of the run of the container that was healthy."""
    since: float | None = None
    """When it began to be healthy without a break (monotonic seconds); None while it is not."""
    losses: int = 0
    """How often it was healthy and then not."""


class Judgement(msgspec.Struct, frozen=True):
    """One look at one container."""

    healthy: bool
    """Healthy now."""
    proven: bool
    """Healthy, and running long enough to be believed."""
    broken: bool
    """It was healthy and is not any more, or has ended for good: waiting is pointless."""
    reason: str


def judge(
    container: Container, service: Service, probe_ok: bool | None, proof: Proof, *, now: float, min_uptime_s: float
) -> Judgement:
    """Judge one look.

    `probe_ok` is the answer of the HTTP probe, or None when the service has none (then Docker's healthcheck decides,
    or running without a restart when there is none either). `now` is a monotonic time. Proven is what has been *seen*
    healthy for `min_uptime_s`: the age of its process would say little, for a slow machine may take seconds to begin.
    """
    restarted = proof.was_healthy and container.started_at != proof.started_at
    if container.state != "running":
        ended = container.state in ("exited", "dead") and not _restarts(service)
        return Judgement(False, False, proof.was_healthy or ended, _stopped(container))
    if restarted:  # with which exit code is not known any more: of one that runs it is 0
        return Judgement(False, False, True, "it stopped and was restarted")
    if (service.has_healthcheck or container.health) and container.health != "healthy":
        return Judgement(
            False, False, False, f"its healthcheck says {container.health or 'nothing yet'}{_flaps(proof)}"
        )
    if probe_ok is False:
        return Judgement(False, False, False, f"it does not answer its probe{_flaps(proof)}")
    healthy_s = 0.0 if proof.since is None else max(0.0, now - proof.since)
    if healthy_s < min_uptime_s:
        return Judgement(True, False, False, f"healthy for {healthy_s:.1f} of {min_uptime_s:g} s")
    return Judgement(True, True, False, f"healthy for {healthy_s:.0f} s")


def remember(container: Container, judgement: Judgement, proof: Proof, now: float) -> Proof:
    """What is known after this look."""
    if not judgement.healthy:
        return msgspec.structs.replace(proof, since=None, losses=_losses(proof))
    since = now if proof.since is None else proof.since
    return Proof(True, proof.started_at or container.started_at, since, proof.losses)


def _losses(proof: Proof) -> int:
    """How often it was healthy and then not, when it is not healthy now."""
    return proof.losses + (proof.since is not None)


def _flaps(proof: Proof) -> str:
    losses = _losses(proof)
    return f"; it was healthy and then not, {losses} time{'s' if losses != 1 else ''}" if losses else ""


def _restarts(service: Service) -> bool:
    return str(service.config.get("restart", "no")) not in ("no", "", "None")


def _stopped(container: Container) -> str:
    words = {"restarting": "it keeps crashing and is being restarted", "created": "it was created but did not start"}
    if container.state in words:
        return f"{words[container.state]} (exit code {container.exit_code})"
    oom = ", killed because it used too much memory" if container.oom_killed else ""
    return f"it is {container.state} (exit code {container.exit_code}{oom})"
