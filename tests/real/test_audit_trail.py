"""What the audit trail says of real deploys: one event for each, whoever ended it and however it ended."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.real.scene import FAST, edit, tiny
from tests.real.stack import Stack

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def site() -> Iterator[Stack]:
    """The tiny project, live with release 1."""
    stack = tiny()
    try:
        stack.nself(*FAST)
        yield stack
    finally:
        stack.remove()


def kill_while_it_waits(stack: Stack) -> None:
    """A deploy whose process is killed while its candidate proves itself."""
    with stack.start_nself("--min-uptime", "60s", "--health-timeout", "240s", RELEASE="2") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("[done] Start "):
                process.kill()


def test_each_end_of_a_run_is_one_event(site: Stack) -> None:
    edit(site, "-p 8000 -h", "-p 8001 -h")
    assert site.nself("--min-uptime", "1s", "--health-timeout", "4s", check=False).status == 5
    edit(site, "-p 8001 -h", "-p 8000 -h")
    kill_while_it_waits(site)
    assert site.nself("abort").status == 0
    site.nself(*FAST, RELEASE="2")
    site.nself("rollback", *FAST)

    trail = json.loads(site.nself("audit", "list", "--json").out)[::-1]
    events = [e for e in trail if e["event_type"] in ("deploy", "rollback")]
    taken, aborted = (e for e in trail if e not in events)
    runs = json.loads(site.nself("history", "--json").out)[::-1]

    assert [(e["event_type"], e["outcome"], e["triggered_by"]) for e in events] == [
        ("deploy", "done", "command"),
        ("deploy", "failed", "command"),
        ("deploy", "interrupted", "recovery"),
        ("deploy", "done", "command"),
        ("rollback", "done", "command"),
    ]
    assert [(e["metadata"]["run"], e["metadata"]["release"]) for e in events] == [(r["id"], r["release"]) for r in runs]
    assert events[1]["error"] and events[2]["reason"].startswith("aborted by ")
    assert (aborted["event_type"], aborted["metadata"]["run"]) == ("abort", events[2]["metadata"]["run"])
    assert trail.index(aborted) == trail.index(events[2]) - 1 and aborted["metadata"]["by"]
    assert taken["event_type"] == "lock-take-over" and taken["reason"]
    assert taken["metadata"]["purpose"].startswith("deploy")
    assert "The trail is whole." in site.nself("audit", "verify").out


def test_it_has_no_secret_of_ours(site: Stack) -> None:
    secret = (site.root / ".nself/router/secret").read_text().strip()
    exported = site.nself("audit", "export").out

    assert len(exported.splitlines()) == 7 and secret not in exported
