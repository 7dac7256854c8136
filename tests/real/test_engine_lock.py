"""The lock on the engine, real: who is refused, who takes over and when, and who waits."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.real.scene import check_message, tiny
from tests.real.stack import ROOT, Outcome, Stack, docker, wait_for

pytestmark = pytest.mark.real

QUICK = ("--min-uptime", "1s", "--drain", "1s", "--standby", "0", "--health-timeout", "240s")
LONG = (*QUICK, "--min-uptime", "9m", "--health-timeout", "10m")
SCALE = 0.1
"""Of all limits of patience: 9 s of silence instead of 90."""


def words_there(there: dict[str, Any], *words: str) -> list[str]:
    """The words that run `nself deploy WORDS` as another machine would."""
    return [sys.executable, "-m", "tests.real.elsewhere", json.dumps(there), *words]


def at(stack: Stack, there: dict[str, Any], *words: str, **env: str) -> Outcome:
    """Run it there, and wait for its end."""
    argv = words_there(there, *words, "-C", str(stack.root))
    return stack.run(*argv, check=False, PYTHONPATH=str(ROOT), **env)


def start_at(stack: Stack, there: dict[str, Any], *words: str, **env: str) -> subprocess.Popen[str]:
    """Start it there."""
    return subprocess.Popen(
        words_there(there, *words, "-C", str(stack.root)),
        cwd=stack.root,
        env=stack.environment(PYTHONPATH=str(ROOT), **env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def volumes(stack: Stack, what: str = "nself-lock") -> list[str]:
    """The lock's objects on the engine."""
    return sorted(docker("volume", "ls", "--quiet", "--filter", f"name={stack.name}-{what}").split())


def beats(stack: Stack) -> list[str]:
    return [name for name in volumes(stack) if "-beat-" in name]


@contextlib.contextmanager
def holding(stack: Stack, there: dict[str, Any], *, beating: bool = False) -> Iterator[subprocess.Popen[str]]:
    """A deploy that runs there and holds the lock for long; at the end it is killed."""
    held = start_at(stack, {**there, "flock": False}, *LONG, RELEASE="long")
    try:
        wait_for(lambda: beats(stack) if beating else volumes(stack), "the lock", 240)
        yield held
    finally:
        held.kill()
        held.communicate()


ONE = {"machine": "one", "scale": SCALE}
TWO = {"machine": "two", "scale": SCALE, "flock": False}
PATIENT = {"machine": "two", "scale": 1, "flock": False}


@pytest.fixture(scope="module")
def site() -> Iterator[Stack]:
    """The tiny project, live with release 1."""
    stack = tiny()
    try:
        stack.nself(*QUICK)
        yield stack
    finally:
        stack.remove()


@pytest.fixture
def live(site: Stack) -> Iterator[Stack]:
    """The same; after each test the lock is free, nothing is left of it, and users are served."""
    yield site
    done = at(site, TWO, "abort", "--wait", "9m")
    assert done.status == 0, done.text
    assert volumes(site) == []
    assert site.get("/")[0] == 200


def test_a_living_owner_on_another_machine_is_named_and_never_robbed(live: Stack) -> None:
    with holding(live, ONE, beating=True) as held:
        first = beats(live)
        for _ in range(2):
            refused = at(live, PATIENT, *QUICK)
            check_message(
                refused, 6, "on one", f"process {held.pid}", "deploy (local)", "since 20", "the lock on the engine"
            )
        shown = at(live, TWO, "status")
        assert f"@one (pid {held.pid}): deploy (local), since 20" in shown.out, shown.text
        wait_for(lambda: beats(live) != first and len(beats(live)) <= 2, "the next heartbeat")
        longer = time.monotonic() + 90 * 3 * SCALE + 3
        wait_for(lambda: time.monotonic() > longer, "longer than its silence might be")
        check_message(at(live, {**TWO, "scale": 3 * SCALE}, *QUICK), 6, "on one")
        assert held.poll() is None


def test_of_another_machine_only_silence_is_taken_for_death(live: Stack) -> None:
    with holding(live, ONE, beating=True) as held:
        held.kill()
        held.wait()
        check_message(at(live, PATIENT, *QUICK, RELEASE="a"), 6, "on one", f"process {held.pid}")
        waited = at(live, TWO, *QUICK, "--wait", "9m", RELEASE="a")
        assert waited.status == 0, waited.text
        assert "taken over from" in waited.out and f"on one (process {held.pid})" in waited.out
        assert "no heartbeat for 9 s" in waited.out
    assert live.get("/")[2] == b"release a\n"


def test_a_killed_one_of_this_boot_is_taken_over_at_once(live: Stack) -> None:
    with holding(live, {"scale": 1}) as held:
        held.send_signal(signal.SIGKILL)
        held.wait()
        assert volumes(live)
        done = live.nself(*QUICK, RELEASE="b")
    assert f"(process {held.pid})" in done.out and "its process is gone" in done.out
    assert "Wait for the lock" not in done.out
    told = live.nself("audit", "list", "--json").out
    assert "lock-take-over" in told and f"(process {held.pid})" in told


def test_one_of_an_earlier_boot_is_taken_over_when_it_is_quiet(live: Stack) -> None:
    with holding(live, {"boot": "earlier", "scale": SCALE}, beating=True) as held:
        here = {"scale": SCALE, "flock": False}
        check_message(at(live, {**here, "scale": 1}, *QUICK), 6, f"process {held.pid}")
        held.kill()
        held.wait()
        done = at(live, here, *QUICK, "--wait", "9m", RELEASE="c")
    assert done.status == 0 and "its machine was started anew" in done.out, done.text


def test_waiting_ends_with_its_time_or_with_the_lock(live: Stack) -> None:
    with holding(live, ONE, beating=True) as held:
        start = time.monotonic()
        in_vain = at(live, PATIENT, *QUICK, "--wait", "3s")
        check_message(in_vain, 6, "on one", "Waited for")
        assert time.monotonic() - start >= 3
        assert "[done]" not in in_vain.out
        waiting = start_at(live, PATIENT, *QUICK, "--wait", "9m", RELEASE="d")
        assert waiting.stdout is not None
        assert "waiting up to 9m" in waiting.stdout.readline()
        held.send_signal(signal.SIGINT)
        said = waiting.communicate(timeout=600)[0]
    assert waiting.returncode == 0, said
    assert "taken over" not in said and live.get("/")[2] == b"release d\n"


def test_ctrl_c_ends_the_waiting_and_leaves_nothing(live: Stack) -> None:
    with holding(live, ONE) as held:
        there = volumes(live)
        waiting = start_at(live, PATIENT, *QUICK, "--wait", "9m")
        assert waiting.stdout is not None
        assert "waiting up to 9m" in waiting.stdout.readline()
        waiting.send_signal(signal.SIGINT)
        said = waiting.communicate(timeout=600)[0]
        assert waiting.returncode == 130 and "before anything was changed" in said, said
        assert [v for v in volumes(live) if "-beat-" not in v] == [v for v in there if "-beat-" not in v]
        assert held.poll() is None


def test_a_run_whose_lock_was_taken_stops_without_one_more_effect(live: Stack) -> None:
    with holding(live, ONE, beating=True) as held:
        wait_for(lambda: "Health check" in live.nself("status").out, "a step that writes nothing for long", 240)
        held.send_signal(signal.SIGSTOP)
        done = at(live, TWO, "abort", "--wait", "9m")
        assert done.status == 0 and "no heartbeat for 9 s" in done.out, done.text
        before = live.containers()
        held.send_signal(signal.SIGCONT)
        said = held.communicate(timeout=600)[0]
        assert held.returncode == 6, said
    assert [c["Id"] for c in live.containers()] == [c["Id"] for c in before]
    assert live.nself("status", "--json").json["under_way"] is None


def test_a_lock_that_a_hand_removed_is_made_again(live: Stack) -> None:
    with holding(live, ONE, beating=True) as held:
        docker("volume", "rm", "--force", *volumes(live))
        wait_for(lambda: len(volumes(live)) >= 2, "the lock, made anew")
        check_message(at(live, PATIENT, *QUICK), 6, f"process {held.pid}")
        held.send_signal(signal.SIGINT)
        assert held.wait(timeout=600) == 130


def test_another_directory_of_the_same_project_is_refused(live: Stack) -> None:
    other = tiny(init=False)
    try:
        twin = Stack(other.root, live.name, live.port)
        check_message(twin.nself("init", "--yes", check=False), 1, str(live.root), "reads", "Deploy from")
        shutil.copy(live.root / "nginx/site.conf", twin.root / "nginx/site.conf")
        refused = twin.nself(*QUICK, check=False, RELEASE="x")
        check_message(refused, 1, str(live.root), "reads", "Deploy from")
    finally:
        other.remove()


def test_without_an_engine_commands_say_so_and_a_warm_way_back_goes_on_as_far_as_it_can(live: Stack) -> None:
    nowhere = {"DOCKER_HOST": "unix:///nowhere.sock"}
    check_message(live.nself(*QUICK, check=False, **nowhere), 2, "can't be reached")
    live.nself(*QUICK, "--standby", "10m", RELEASE="e")
    back = live.nself("rollback", check=False, **nowhere)
    assert "going on without the lock on the engine" in back.out, back.text
