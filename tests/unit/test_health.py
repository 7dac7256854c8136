"""When a container may be believed, over sequences of looks."""

from __future__ import annotations

from typing import Any

import msgspec

from nself_deploy.core.health import Judgement, Proof, judge, remember
from nself_deploy.core.model import Container, Role, Service, Slot

WEB = Service(name="web", role=Role.APP, reason="", config={"restart": "always"}, has_healthcheck=True)
HEALTHY = Container(
    id="c", name="shop-green-web-1", project="shop-green", service="web", slot=Slot.GREEN, state="running",
    health="healthy", started_at="2026-11-22T00:00:00Z",
)  # fmt: skip


def _looks(*looks: tuple[float, dict[str, Any]], min_uptime_s: float = 7.0) -> list[Judgement]:
    """(time, what differs from a healthy container) one after the other."""
    proof, found = Proof(), []
    for now, changes in looks:
        container = msgspec.structs.replace(HEALTHY, **changes)
        judgement = judge(container, WEB, None, proof, now=now, min_uptime_s=min_uptime_s)
        proof = remember(container, judgement, proof, now)
        found.append(judgement)
    return found


def test_proven_is_what_has_been_seen_healthy_long_enough_however_old_the_process_is() -> None:
    first, early, late = _looks((100.0, {}), (106.9, {}), (107.0, {}))

    assert (first.healthy, first.proven, early.proven, late.proven) == (True, False, False, True)


def test_without_a_minimum_the_first_good_look_proves() -> None:
    assert _looks((100.0, {}), min_uptime_s=0.0)[0].proven


def test_a_break_starts_the_time_anew() -> None:
    *_, early, late = _looks((0.0, {}), (5.0, {"health": "unhealthy"}), (6.0, {}), (12.0, {}), (13.0, {}))

    assert not early.proven
    assert late.proven


def test_how_often_it_was_healthy_and_then_not_is_told() -> None:
    ill = {"health": "unhealthy"}
    once, still, _, twice = _looks((0.0, {}), (1.0, ill), (2.0, ill), (3.0, {}), (4.0, ill))[1:]

    assert once.reason == still.reason == "its healthcheck says unhealthy; it was healthy and then not, 1 time"
    assert twice.reason.endswith("it was healthy and then not, 2 times")
    assert not twice.broken


def test_a_restart_after_the_first_good_look_is_the_end() -> None:
    _, restarting, again = _looks(
        (0.0, {}),
        (5.0, {"state": "restarting", "health": "", "exit_code": 1}),
        (6.0, {"started_at": "2026-11-22T00:00:05Z"}),
    )

    assert restarting.broken and not restarting.healthy
    assert again.broken and "restarted" in again.reason


def test_a_restart_before_it_ever_was_healthy_is_waited_for() -> None:
    restarting, up = _looks((0.0, {"state": "restarting", "health": ""}), (1.0, {}))

    assert not restarting.broken
    assert up.healthy


def test_the_healthcheck_of_an_image_counts_like_one_of_the_compose_file() -> None:
    plain = msgspec.structs.replace(WEB, has_healthcheck=False)
    starting = msgspec.structs.replace(HEALTHY, health="starting")

    assert not judge(starting, plain, True, Proof(), now=0.0, min_uptime_s=0.0).healthy
    assert judge(HEALTHY, plain, True, Proof(), now=0.0, min_uptime_s=0.0).proven
