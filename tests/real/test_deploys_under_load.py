"""Deploy after deploy under load: nobody notices, nginx isn't reloaded, and the split outlives its restart."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.load import Kind, LoadMix, Stream
from tests.load.soak import Soaked, deploys_under_load, limits_for, short_mix
from tests.real import people
from tests.real.stack import Stack, copy_of, docker, wait_for

pytestmark = [pytest.mark.real, pytest.mark.alone]

DEPLOYS = 8
"""Each moves all of the traffic; `make soak` does it as often as you like."""
RATE = 300.0
LAG_S = 5.0
"""So far may the load be behind its rate when it is stopped: a machine that stood still is caught up with later."""
QUICK = ["--drain", "3s", "--min-uptime", "1s", "--health-timeout", "240s"]


def workers(stack: Stack) -> list[str]:
    """Process ids of the router's nginx workers, once it has some."""

    def found() -> list[str]:
        lines = docker("top", f"{stack.name}-router-1", "-eo", "pid,args").splitlines()
        return sorted(line.split()[0] for line in lines if line.rstrip().endswith("nginx: worker process"))

    workers_now: list[str] = wait_for(found, "the router's workers")
    return workers_now


def show(what: str, soaked: Soaked) -> None:
    """Numbers for the reader of the test's output."""
    moves = soaked.moves_ms()
    print(f"\n{what}\n{soaked.report.table()}\n{soaked.result_line()}")
    print(f"deploys (s): {' '.join(f'{d.seconds:.1f}' for d in soaked.deploys)}")
    print(f"drains (s): {' '.join(f'{s:.1f}' for s in soaked.step_s('Drain'))}")
    print(f"rename/confirmed (ms): {' '.join(f'{rename}/{seen}' for rename, seen in moves)}")


def prove(soaked: Soaked, deploys: int, rate: float) -> None:
    """All deploys went through, the load was really offered, and nothing of what must not be happened."""
    assert not soaked.faults, "\n".join([*soaked.faults[:20], soaked.report.table()])
    assert soaked.report.failed == 0
    assert len(soaked.deploys) == len(soaked.moves_ms()) == deploys
    seconds = soaked.report.stopped_at - soaked.report.started_at
    assert soaked.report.paced.started >= rate * 0.95 * (seconds - LAG_S), soaked.report.table()
    assert all(soaked.report.releases_between(f"moved {n}").get(f"s{n}") for n in range(deploys))


@pytest.fixture(scope="module")
def shop() -> Iterator[Stack]:
    stack = people.unhurried(people.shop("many"))
    try:
        stack.nself("init", "--yes")
        stack.nself(*QUICK, SHOP_RELEASE="start")
        yield stack
    finally:
        stack.remove()


def test_deploys_in_a_row(shop: Stack) -> None:
    before = workers(shop)
    soaked = deploys_under_load(shop, DEPLOYS, short_mix(RATE, limits_for(DEPLOYS, RATE)), *QUICK)
    show(f"{DEPLOYS} deploys", soaked)
    prove(soaked, DEPLOYS, RATE)
    assert workers(shop) == before, "nginx was reloaded or restarted"
    assert shop.release_served() == f"s{DEPLOYS - 1}"


def test_a_restarted_router_keeps_the_split(shop: Stack) -> None:
    if shop.state("bluegreen/state.json")["active"] != "blue":  # the other slot would be right by accident as well
        shop.deploy("odd", *QUICK)
    before = workers(shop)
    shop.deploy("kept", *QUICK)
    assert workers(shop) == before
    shop.compose("restart", "router")
    assert not set(workers(shop)) & set(before)
    assert {shop.release_served() for _ in range(50)} == {"kept"}
    again = workers(shop)
    soaked = deploys_under_load(shop, 2, LoadMix.standard(100, limits=limits_for(2, 100)), *QUICK)
    show("2 deploys after the restart, with long requests and WebSockets", soaked)
    prove(soaked, 2, 100)
    assert soaked.report.websocket.proper_closes >= 2
    assert soaked.report.websocket.abnormal == 0
    assert workers(shop) == again


@pytest.fixture(scope="module")
def fastcgi() -> Iterator[Stack]:
    stack = copy_of("fastcgi", prefix="fcgi")
    try:
        stack.nself("init", "--yes")
        stack.nself(*QUICK, RELEASE="start")
        yield stack
    finally:
        stack.remove()


def fastcgi_mix(rate: float, deploys: int) -> LoadMix:
    """GET and POST with keep-alive and without; each answer says which release and which container gave it."""
    return LoadMix(
        rate=rate,
        limits=limits_for(deploys, rate),
        streams=(
            Stream(Kind.GET, "/", share=0.45, name="get", timeout_s=60),
            Stream(Kind.POST, "/echo", share=0.30, name="post", timeout_s=60),
            Stream(Kind.ONE_SHOT_GET, "/", share=0.15, name="one-shot get", timeout_s=60),
            Stream(Kind.ONE_SHOT_POST, "/echo", share=0.10, name="one-shot post", timeout_s=60),
        ),
    )


def test_deploys_with_healthchecks_as_the_only_probe(fastcgi: Stack) -> None:
    deploys, before = 4, workers(fastcgi)
    soaked = deploys_under_load(fastcgi, deploys, fastcgi_mix(RATE, deploys), *QUICK, variable="RELEASE")
    show(f"{deploys} deploys, FastCGI", soaked)
    prove(soaked, deploys, RATE)
    assert workers(fastcgi) == before


def test_what_its_healthcheck_calls_unhealthy_gets_no_request(fastcgi: Stack) -> None:
    live = fastcgi.release_served()
    words = ["--drain", "3s", "--min-uptime", "1s", "--health-timeout", "20s"]
    fastcgi.env["HEALTH"] = "poorly"
    try:
        soaked = deploys_under_load(fastcgi, 1, fastcgi_mix(100, 1), *words, variable="RELEASE")
    finally:
        del fastcgi.env["HEALTH"]
    assert "exit 5" in soaked.problem
    assert "status 503" in soaked.problem.lower() or "503" in soaked.problem, soaked.problem
    assert soaked.report.failed == 0
    assert not soaked.unhealthy
    assert set(soaked.report.per_release) == {live}
