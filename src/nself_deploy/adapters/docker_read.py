"""The engine's answers as our own words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from nself_deploy.core.model import (
    LABEL_NETWORK,
    LABEL_RELEASE,
    LABEL_REPLICA,
    LABEL_SERVICE,
    LABEL_SLOT,
    Container,
    Slot,
    SlotNetwork,
)

COMPOSE_PROJECT = "com.docker.compose.project"
COMPOSE_SERVICE = "com.docker.compose.service"
COMPOSE_NUMBER = "com.docker.compose.container-number"
COMPOSE_VOLUME = "com.docker.compose.volume"
COMPOSE_ONE_OFF = "com.docker.compose.oneoff"

MAX_LINE = 500
_NEVER = "0001-01-01T00:00:00Z"
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def clean_line(text: str) -> str:
    """One line of a container's output without what would move a terminal, at most `MAX_LINE` characters."""
    return _CONTROLS.sub(" ", _ESCAPES.sub("", text)).strip()[:MAX_LINE]


def clean_lines(pieces: Iterable[str], last: int) -> list[str]:
    """The last lines of an output that came in pieces; empty lines are left out."""
    lines = (clean_line(line) for line in "".join(pieces).splitlines())
    return [line for line in lines if line][-last:]


def read_container(answer: Mapping[str, Any]) -> Container:
    """A container from `inspect`."""
    labels: dict[str, str] = answer.get("Config", {}).get("Labels") or {}
    state = answer.get("State", {})
    health = state.get("Health") or {}
    status = str(health.get("Status") or "")
    started = str(state.get("StartedAt") or "")
    networks = answer.get("NetworkSettings", {}).get("Networks") or {}
    return Container(
        id=answer["Id"],
        name=str(answer.get("Name", "")).removeprefix("/"),
        project=labels.get(COMPOSE_PROJECT, ""),
        service=labels.get(LABEL_SERVICE) or labels.get(COMPOSE_SERVICE, ""),
        replica=_number(labels.get(LABEL_REPLICA) or labels.get(COMPOSE_NUMBER)),
        slot=_slot(labels.get(LABEL_SLOT)) or Slot.PLAIN,
        release=labels.get(LABEL_RELEASE, ""),
        state=str(state.get("Status") or ""),
        health="" if status == "none" else status,
        started_at="" if started == _NEVER else started,
        exit_code=int(state.get("ExitCode") or 0),
        oom_killed=bool(state.get("OOMKilled")),
        restart_count=int(answer.get("RestartCount") or 0),
        image_id=str(answer.get("Image") or ""),
        addresses={name: n["IPAddress"] for name, n in sorted(networks.items()) if n and n.get("IPAddress")},
        labels=labels,
        health_log=tuple(clean_line(str(entry.get("Output") or "")) for entry in health.get("Log") or ()),
        mounts={m["Destination"]: str(m.get("Source") or m.get("Name") or "") for m in answer.get("Mounts") or ()},
    )


def read_network(answer: Mapping[str, Any]) -> SlotNetwork | None:
    """A slot network from `inspect`; None for a network that isn't one."""
    labels = answer.get("Labels") or {}
    slot = _slot(labels.get(LABEL_SLOT))
    pools = (answer.get("IPAM") or {}).get("Config") or []
    if slot is None or LABEL_NETWORK not in labels or not pools:
        return None
    return SlotNetwork(
        name=answer["Name"],
        slot=slot,
        network=labels[LABEL_NETWORK],
        subnet=pools[0]["Subnet"],
        ip_range=pools[0].get("IPRange", ""),
        internal=bool(answer.get("Internal")),
    )


def subnets_in_use(networks: Iterable[Mapping[str, Any]]) -> list[str]:
    """Every subnet (IPv4, CIDR) that a network of the engine has."""
    pools = (pool for n in networks for pool in (n.get("IPAM") or {}).get("Config") or ())
    return [p["Subnet"] for p in pools if ":" not in p.get("Subnet", ":")]


def _slot(value: str | None) -> Slot | None:
    return Slot(value) if value in (Slot.BLUE, Slot.GREEN) else None


def _number(value: str | None) -> int:
    return int(value) if value and value.isdigit() else 1
