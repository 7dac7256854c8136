"""A site is live, and then something is wrong: its files, ours, an image, a port, the disk. Users notice nothing."""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.real.contract import check_document
from tests.real.scene import (
    FAST,
    check_message,
    check_same,
    edit,
    facts,
    nself_argv,
    refused,
    tiny,
    with_mounts,
)
from tests.real.stack import Stack

pytestmark = pytest.mark.real

PATHS = ("compose.yaml", "nginx/site.conf")
RUNS = (
    "file .nself/nself.db",
    "file .nself/audit.head",
    "file .nself/state/deploy.json",
    "file .nself/bluegreen/state.json",
)
"""What a deploy that began and was undone writes down."""


@pytest.fixture(scope="module")
def site() -> Iterator[Stack]:
    """The tiny project, live with release 1."""
    stack = tiny()
    try:
        stack.nself(*FAST)
        yield stack
    finally:
        stack.remove()


@pytest.fixture
def live(site: Stack) -> Iterator[Stack]:
    """The same; the user's files are put back afterwards, and release 1 must have stayed live."""
    kept = {path: (site.root / path).read_bytes() for path in PATHS}
    yield site
    for path, data in kept.items():
        (site.root / path).write_bytes(data)
    assert site.get("/")[2] == b"release 1\n"
    assert (site.root / ".nself/router/current").readlink() == Path("splits/blue")
    assert site.slots() == {"blue": [f"{site.name}-blue-web-1"], "green": []}


# Our own files.


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def nothing(data: bytes) -> bytes:
    return b""


def no_json(data: bytes) -> bytes:
    return b"hello\n"


def newer(data: bytes) -> bytes:
    return json.dumps({**json.loads(data), "schema_version": 99}).encode()


DAMAGES = [
    ("state/deploy.json", cut, "can't be read", "move it away"),
    ("state/deploy.json", nothing, "is empty", "move it away"),
    ("state/deploy.json", no_json, "can't be read", "move it away"),
    ("state/deploy.json", newer, "was written by a newer version (schema_version 99", "Upgrade nself-deploy"),
    ("bluegreen/state.json", cut, "can't be read", "move it away"),
    ("bluegreen/state.json", newer, "was written by a newer version", "Upgrade nself-deploy"),
    ("rollback-state/local/web.json", nothing, "is empty", "move it away"),
    ("nself.db", cut, "is damaged", "Restore it from a backup"),
    ("nself.db", nothing, "is empty", "Restore it from a backup"),
    ("nself.db", no_json, "is damaged", "Restore it from a backup"),
    ("router/secret", cut, "is damaged", "Remove it"),
]


@pytest.mark.parametrize(
    ("file", "damage", "says", "remedy"), DAMAGES, ids=[f"{file} {how.__name__}" for file, how, *_ in DAMAGES]
)
def test_a_state_file_that_can_not_be_read_is_no_fresh_install(
    live: Stack, file: str, damage: Callable[[bytes], bytes], says: str, remedy: str
) -> None:
    path = live.root / ".nself" / file
    kept = path.read_bytes() if path.exists() else None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(damage(kept or b""))
    try:
        refused(live, 1, f"{path}: {says}", remedy, words=FAST, RELEASE="2")
    finally:
        path.write_bytes(kept) if kept is not None else path.unlink()


@pytest.mark.parametrize("text", ["services: [", None], ids=["broken", "gone"])
def test_whoever_looks_needs_no_compose_file(live: Stack, text: str | None) -> None:
    """What is live is known; what would be deployed is not."""
    path = live.root / "compose.yaml"
    looks = (["status"], ["history"], ["audit", "list"], ["breaker", "status"], ["keys", "list"])
    kept, before = path.read_text(), [live.nself(*words, "--json").json for words in looks]
    path.write_text(text) if text else path.unlink()
    try:
        assert [live.nself(*words, "--json").json for words in looks] == before
        assert "requests go to blue" in live.nself("status").out
        refused(live, 1, "compose.yaml" if text else "There is no Compose file", words=("plan",))
    finally:
        path.write_text(kept)


@pytest.mark.parametrize("command", ["status", "plan", "rollback"])
def test_each_command_says_so(live: Stack, command: str) -> None:
    path = live.root / ".nself/state/deploy.json"
    kept = path.read_bytes()
    path.write_bytes(b"")
    try:
        outcome = refused(live, 1, f"{path}: is empty", words=(command, "--json"))
    finally:
        path.write_bytes(kept)
    document = json.loads(outcome.out)
    assert f"{path}: is empty" in (document["problem"] if command == "status" else document["error"])
    if command == "status":
        assert [slot["role"] for slot in document["slots"]] == ["live", "empty"]


def test_a_journal_that_is_gone_is_not_begun_anew(live: Stack) -> None:
    path = live.root / ".nself/nself.db"
    path.rename(live.root / "kept.db")
    try:
        refused(live, 1, f"{path}: is gone", "Restore it from a backup", words=FAST, RELEASE="2")
        refused(live, 1, f"{path}: is gone", words=("status",))
        assert not path.exists()
    finally:
        (live.root / "kept.db").rename(path)


@pytest.mark.parametrize("target", ["", "splits/nowhere"])
def test_a_lost_link_is_not_a_site_without_traffic(live: Stack, target: str) -> None:
    link = live.root / ".nself/router/current"
    link.unlink()
    if target:
        link.symlink_to(target)
    says = "points at 'splits/nowhere'" if target else "is gone, and it says where requests go: blue was live"
    try:
        refused(live, 1, f".nself/router/current: {says}", "ln -sfn splits/blue", words=FAST, RELEASE="2")
        refused(live, 1, f".nself/router/current: {says}", words=("status",))
    finally:
        link.unlink(missing_ok=True)
        link.symlink_to("splits/blue")


# The user's files.


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("listen 80 nonsense;", 'nginx/site.conf:4: nginx refuses it: invalid parameter "nonsense"'),
        ("lisp 80;", 'nginx/site.conf:4: nginx refuses it: unknown directive "lisp"'),
        ("listen 80", "nginx/site.conf:"),
    ],
)
def test_a_file_that_nginx_refuses_is_named(live: Stack, line: str, says: str) -> None:
    edit(live, "listen 80;", line, "nginx/site.conf")
    before = facts(live)

    outcome = live.nself(*FAST, "--json", check=False, RELEASE="2")

    check_message(outcome, 1, says, "Correct it")
    check_same(before, facts(live), but=RUNS)
    assert check_document(outcome, success=False)["rolled_back"] is False


NO_IMAGE = "    image: 127.0.0.1:9/nobody/nothing:1\n"
NEVER_HERE = "    image: nothing-here:1\n    pull_policy: never\n"
BAD_BUILD = '    build: {context: ., dockerfile_inline: "FROM busybox:1.37\\nRUN echo the reason; false"}\n'


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (NO_IMAGE, ("compose.yaml: services.web.image: image '127.0.0.1:9/nobody/nothing:1' could not be pulled",
                    "Check ")),
        (NEVER_HERE, ("compose.yaml: services.web.image: The image nothing-here:1 of service web is not on the engine",
                      "Build or pull it")),
        (BAD_BUILD, ("compose.yaml: services.web.build: The build of web failed", "the reason", "Correct the build")),
    ],
    ids=["not pulled", "not here", "not built"],
)  # fmt: skip
def test_an_image_that_can_not_be_had_is_named(live: Stack, lines: str, says: tuple[str, ...]) -> None:
    edit(live, "    image: busybox:1.37\n    pull_policy: never\n", lines)

    refused(live, 2, *says, words=FAST)


# The machine.


def test_a_directory_that_is_not_writable(live: Stack) -> None:
    before = facts(live)
    if os.geteuid() == 0:
        root = str(live.root)
        script = f"mount --bind {root} {root}; mount -o remount,ro,bind {root}; cd {root}"
        outcome = live.run(*with_mounts(script, nself_argv(*FAST)), check=False, RELEASE="2")
        looking = live.run(*with_mounts(script, nself_argv("status")), check=False)
    else:
        directories = [live.root, *(path for path in live.root.rglob("*") if path.is_dir())]
        modes = {path: path.stat().st_mode & 0o7777 for path in directories}
        for path in directories:
            path.chmod(0o555)
        try:
            outcome = live.nself(*FAST, check=False, RELEASE="2")
            looking = live.nself("status", check=False)
        finally:
            for path, mode in modes.items():
                path.chmod(mode)

    check_message(outcome, 1, f"{live.root}/.nself", "not writable", "Make it writable for user id")
    assert looking.status == 0, looking.text
    check_same(before, facts(live))


def test_a_port_that_is_taken_and_a_router_that_does_not_start() -> None:
    stack = tiny()
    try:
        with closing(socket.create_server(("127.0.0.1", stack.port))):
            outcome = stack.nself(*FAST, check=False)
            check_message(outcome, 2, f"127.0.0.1:{stack.port}", "already in use", "or publish another", "`ports`")
            assert "nothing is live; everything was undone" in outcome.err
            assert stack.slots() == {"blue": [], "green": []}

        edit(stack, "listen 80;", "listen 80 nonsense;", "nginx/site.conf")
        outcome = stack.nself(*FAST, check=False)
        check_message(outcome, 1, 'nginx/site.conf:4: nginx refuses it: invalid parameter "nonsense"', "Correct it")
        assert stack.slots() == {"blue": [], "green": []}

        edit(stack, "listen 80 nonsense;", "listen 80;", "nginx/site.conf")
        stack.nself(*FAST)
        assert stack.get("/")[2] == b"release 1\n"
    finally:
        stack.remove()


# A full disk.


@pytest.fixture(scope="module")
def on_small_disk() -> Iterator[tuple[Stack, Callable[[int], None]]]:
    """A live site and what leaves a deploy only so many bytes of disk (0: as much as it wants)."""
    stack = tiny()
    mounted = os.geteuid() == 0
    try:
        if mounted:
            kept = stack.root.parent / "kept"
            shutil.copytree(stack.root, kept)
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(stack.root)], check=True)
            shutil.copytree(kept, stack.root, dirs_exist_ok=True)
        stack.nself(*FAST)
        yield stack, lambda room: leave(stack, room) if mounted else limit(room)
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(stack.root)], check=True)
        stack.remove()


def leave(stack: Stack, room: int) -> None:
    filler = stack.root / "filler"
    filler.unlink(missing_ok=True)
    free = shutil.disk_usage(stack.root).free
    if room:
        filler.write_bytes(b"x" * (free - room))


def limit(room: int) -> None:
    """For a user who may not mount: no file may become larger."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (room or hard, hard))


@pytest.mark.parametrize("room", [4096, 65536, 140_000])
def test_a_full_disk(on_small_disk: tuple[Stack, Callable[[int], None]], room: int) -> None:
    stack, leave_only = on_small_disk
    before = {name: value for name, value in facts(stack).items() if not name.startswith("file ")}
    leave_only(room)
    try:
        outcome = stack.nself(*FAST, check=False, RELEASE=str(room))
        check_message(outcome, 2, f"{stack.root}/.nself/", "the disk is full", "Free some space")
        assert stack.get("/")[2] == b"release 1\n"
        assert stack.nself("status", check=False).status == 0
    finally:
        leave_only(0)
    stack.nself(*FAST)
    assert stack.get("/")[2] == b"release 1\n"
    check_same(before, {name: value for name, value in facts(stack).items() if not name.startswith("file ")})
