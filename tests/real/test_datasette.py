"""An application that nobody here wrote, from one released version to the next and back, under load."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.load import Kind, LoadMix, LoadProcess, Stream
from tests.load.drive import drive
from tests.load.mix import Limits
from tests.real.people import SHORT
from tests.real.scene import edit
from tests.real.stack import Stack, copy_of

pytestmark = pytest.mark.real

OLD, NEW = "0.64.8", "0.65.5"
ROWS = "/planets/planets.json?_shape=array"


@pytest.fixture
def datasette() -> Iterator[Stack]:
    stack = copy_of("datasette", prefix="ds")
    stack.env["DATASETTE_PORT"] = f"127.0.0.1:{stack.port}"
    # The patience that a busy machine needs, as in `people.shop`.
    edit(stack, "interval: 1s", "interval: 20s\n      start_interval: 300ms", "docker-compose.yml")
    edit(stack, "timeout: 3s", "timeout: 20s", "docker-compose.yml")
    edit(stack, "retries: 5", "retries: 30", "docker-compose.yml")
    probe = "x-nself-deploy: {probe: {timeout: 1m}}"
    edit(stack, "stop_grace_period: 15s", f"stop_grace_period: 15s\n    {probe}", "docker-compose.yml")
    try:
        stack.nself("init", "--yes")
        stack.nself(*SHORT, timeout_s=500, DATASETTE_VERSION=OLD)
        yield stack
    finally:
        stack.remove()


def readers() -> LoadMix:
    """People who look at tables, and programs that read them."""
    return LoadMix(
        rate=6,
        limits=Limits(duration_s=1500, requests=20_000, connect_timeout_s=60),
        streams=(
            Stream(Kind.GET, ROWS, share=0.5, name="rows", timeout_s=120, expect_text="Neptune"),
            Stream(
                Kind.ONE_SHOT_GET,
                "/planets/planets?_sort=name",
                share=0.3,
                name="table",
                timeout_s=120,
                expect_text="Neptune",
            ),
            Stream(
                Kind.ONE_SHOT_GET,
                "/-/versions.json",
                share=0.2,
                name="versions",
                timeout_s=120,
                expect_text="datasette",
            ),
        ),
    )


def version(stack: Stack) -> str:
    """What the site says it is."""
    return str(stack.get_json("/-/versions.json")["datasette"]["version"])


def test_from_one_release_of_datasette_to_the_next_and_back_without_a_failed_request(datasette: Stack) -> None:
    assert version(datasette) == OLD
    rows = datasette.get_json(ROWS)
    with LoadProcess(readers(), datasette.url) as load:
        load.wait_requests(30, 600)
        there = drive(datasette, load, SHORT, DATASETTE_VERSION=NEW)
        assert there.status == 0, there
        assert version(datasette) == NEW
        load.wait_requests(30, 600)
        back = drive(datasette, load, ["rollback", *SHORT], DATASETTE_VERSION=NEW)
        assert back.status == 0, back
        assert version(datasette) == OLD
        load.wait_requests(30, 600)
        report = load.stop()

    assert report.failed == 0, report.table()
    assert len(rows) == 8
    assert datasette.get_json(ROWS) == rows
    assert not any(name.startswith("Start ") for _, name, _ in back.steps), back
