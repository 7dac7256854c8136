"""What exists once: databases, caches and volumes are the same before and after; a slot talks to itself and to them."""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.real.contract import check_document
from tests.real.people import SHORT, lives
from tests.real.people import shop as patient_shop
from tests.real.stack import Outcome, Stack, docker, wait_for

pytestmark = pytest.mark.real

SHARED = ("db", "cache", "router")
CALLS = 2_000
LONG_S = 400.0


@pytest.fixture(scope="module")
def shop() -> Iterator[Stack]:
    stack = patient_shop("shr")
    try:
        stack.nself("init", "--yes")
        stack.deploy("1", *SHORT)
        yield stack
    finally:
        stack.remove()


@dataclass
class Orders:
    """Orders that customers placed, one after the other, each once."""

    prefix: str
    placed: int = 0
    trouble: list[str] = field(default_factory=list)


@contextmanager
def customers(stack: Stack, prefix: str) -> Iterator[Orders]:
    """Somebody who orders again and again until the block ends; nothing is sent twice."""
    orders, stop = Orders(prefix), threading.Event()

    def order() -> None:
        while not stop.wait(0.02):
            status, body = place(stack, f"{prefix}{orders.placed + len(orders.trouble)}")
            if status == 201:
                orders.placed += 1
            else:
                orders.trouble.append(f"{status} {body[:200]!r}")

    with ThreadPoolExecutor(1) as pool:
        task = pool.submit(order)
        try:
            wait_for(lambda: orders.placed > 5 or task.done(), "orders")
            yield orders
        finally:
            stop.set()
        task.result(300)


def place(stack: Stack, request_id: str) -> tuple[int, bytes]:
    """One order through the router; what can't be sent or answered raises."""
    with closing(http.client.HTTPConnection("127.0.0.1", stack.port, timeout=120)) as connection:
        body = json.dumps({"request_id": request_id, "item_id": 1, "quantity": 1})
        connection.request("POST", "/api/orders", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()


def volumes(stack: Stack) -> dict[str, tuple[str, str]]:
    """Named volumes of the project: when they were made, and where they are."""
    found = docker("volume", "ls", "-q", "--filter", f"name={stack.name}").split()
    return {v["Name"]: (v["CreatedAt"], v["Mountpoint"]) for v in json.loads(docker("volume", "inspect", *found))}


def slot_container(stack: Stack, slot: str, service: str) -> dict[str, Any]:
    """A container of a slot."""
    return next(c for c in stack.containers(f"{stack.name}-{slot}") if c["Name"].endswith(f"-{slot}-{service}-1"))


def chain(stack: Stack, slot: str, calls: int = CALLS) -> dict[str, Any]:
    """Let web of a slot call `http://api:9000/whoami` that often, each time by a new look-up and connection."""
    networks = slot_container(stack, slot, "web")["NetworkSettings"]["Networks"]
    address = next(n["IPAddress"] for name, n in networks.items() if f"-{slot}-" in name)
    with closing(http.client.HTTPConnection(address, 8000, timeout=LONG_S)) as connection:
        connection.request("GET", f"/chain?n={calls}")
        found: dict[str, Any] = json.loads(connection.getresponse().read())
    return found


def only_its_own_api(stack: Stack, slot: str, release: str, found: dict[str, Any]) -> None:
    """Every call was answered, and by the one api container of the slot."""
    own = slot_container(stack, slot, "api")["Config"]["Hostname"]
    assert (found["release"], found["calls"], found["failed"], found["errors"]) == (release, CALLS, 0, {})
    assert found["api_releases"] == {release: CALLS}
    assert found["api_instances"] == {own: CALLS}
    assert (found["other_release"], found["mixed"]) == (0, False)


def migrations(stack: Stack) -> Counter[str]:
    """Release -> how often its migration job ran."""
    return Counter(run["release"] for run in stack.get_json("/api/migrations")["runs"])


def test_deploys_and_rollbacks_leave_what_is_shared_alone_and_lose_no_order(shop: Stack) -> None:
    """Deploys and a rollback while customers order; during the first, web of the live slot calls api all the time."""
    before, disks = lives(shop, *SHARED), volumes(shop)
    assert len(disks) == 2
    assert place(shop, "before")[0] == 201

    with ThreadPoolExecutor(1) as pool, customers(shop, "during-") as orders:
        deploying: Future[Outcome] = pool.submit(shop.deploy, "2", *SHORT)
        only_its_own_api(shop, "blue", "1", chain(shop, "blue"))
        while not deploying.done():
            only_its_own_api(shop, "blue", "1", chain(shop, "blue"))
        check_document(deploying.result(), success=True)
        placed = orders.placed
        wait_for(lambda: orders.placed > placed + 5 or orders.trouble, "orders after the deploy")
        check_document(shop.nself("rollback", "--json", *SHORT), success=True)
        placed = orders.placed
        wait_for(lambda: orders.placed > placed + 5 or orders.trouble, "orders after the rollback")
        check_document(shop.deploy("3", *SHORT), success=True)
        placed = orders.placed
        wait_for(lambda: orders.placed > placed + 5 or orders.trouble, "orders after the last deploy")

    assert orders.trouble == []
    counted = shop.get_json("/api/orders/count?prefix=during-")
    assert (counted["orders"], counted["received"], counted["duplicates"]) == (orders.placed, orders.placed, 0)
    assert set(counted["by_release"]) == {"1", "2", "3"}
    assert shop.get_json("/api/orders/count?prefix=before")["orders"] == 1
    assert lives(shop, *SHARED) == before
    assert volumes(shop) == disks
    assert shop.get_json("/api/worker")["overlap_count"] == 0


def test_while_both_slots_run_each_web_reaches_only_its_own_api(shop: Stack) -> None:
    """3 is live in green, 1 is warm in blue; both call at the same time."""
    served = shop.get_json("/chain?n=100")
    assert (served["release"], served["api_releases"]) == ("3", {"3": 100})
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda slot: chain(shop, slot), ("blue", "green")))

    only_its_own_api(shop, "blue", "1", found[0])
    only_its_own_api(shop, "green", "3", found[1])


def test_the_migration_job_runs_once_per_release_also_when_a_release_comes_back(shop: Stack) -> None:
    assert migrations(shop) == {"1": 1, "2": 1, "3": 1}
    newest_first = [run["release"] for run in shop.nself("history", "--json").json if run["kind"] == "deploy"]
    second = newest_first[1]

    document = check_document(shop.nself("rollback", "--json", *SHORT, "--to", second), success=True)

    assert shop.release_served() == "2"
    assert migrations(shop) == {"1": 1, "2": 1, "3": 1}
    job = next(s for s in document["steps"] if s["name"] == "Run job migrate")
    assert job["detail"] == "ran already for this release"
