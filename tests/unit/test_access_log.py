"""The access log read from real files: rotated, cut, torn, missing, or not ours to read."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from nself_deploy.adapters import access_log
from nself_deploy.adapters.access_log import CHUNK, AccessLog
from nself_deploy.core.log_clock import Tick
from nself_deploy.core.log_line import LINE_LIMIT
from nself_deploy.core.log_position import LogPosition, LogRead
from nself_deploy.errors import ConfigError
from tests.unit.hardship import in_child
from tests.unit.log_lines import BEGAN, RULES, line


class Log:
    """A directory with a log, and its reader."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "access.log"
        self.reader = self.another()

    def another(self) -> AccessLog:
        return AccessLog(self.directory, lambda: RULES, lambda: Tick(BEGAN + 100_000, 1.0))

    def write(self, *lines: bytes, path: Path | None = None) -> None:
        with (path or self.path).open("ab") as file:
            file.write(b"".join(lines))

    def put_aside(self, name: str = "access.log.1", *, quiet: bool = True) -> Path:
        aside = self.directory / name
        self.path.rename(aside)
        if quiet:
            self.calm(aside)
        return aside

    @staticmethod
    def calm(path: Path) -> None:
        """As if it had been written some time ago."""
        long_ago = time.time() - access_log.QUIET_S - 1
        os.utime(path, (long_ago, long_ago))


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    monkeypatch.setattr(access_log, "QUIET_S", 900.0)  # no pause of this machine passes for a quiet file
    return Log(tmp_path)


def times(read: LogRead) -> list[float]:
    return [request.at for request in read.requests]


def test_what_is_added(log: Log) -> None:
    log.write(line(1), line(2))
    start = log.reader.end()
    assert start == LogPosition(log.path.stat().st_ino, 2 * len(line(1)))

    assert log.reader.read(start) == LogRead((), start, size=start.offset)
    log.write(line(3), line(4, 5))
    found = log.reader.read(start)

    assert times(found) == [3, 4]
    assert [request.candidate for request in found.requests] == [False, True]
    assert found.size == found.position.offset == log.path.stat().st_size
    assert log.reader.read(start) == found, "reading changes nothing"
    assert log.reader.read(found.position).requests == ()


def test_a_line_that_is_not_whole_waits(log: Log) -> None:
    text = line(2)
    log.write(line(1), text[:100])
    end = log.reader.end()
    assert end.offset == len(line(1))

    found = log.reader.read(LogPosition())
    assert (times(found), found.position.offset) == ([1], len(line(1)))
    log.write(text[100:-1])
    assert log.reader.read(found.position).requests == ()
    log.write(b"\n")
    assert times(log.reader.read(found.position)) == [2]


def test_a_line_without_end_is_not_waited_for(log: Log) -> None:
    log.write(line(1), b"x" * (LINE_LIMIT + 1))
    found = log.reader.read(log.reader.read(LogPosition()).position)
    assert (found.skipped, found.skipped_bytes, found.position.offset) == (1, LINE_LIMIT + 1, found.size)

    log.write(b"x" * (1 << 20), b"\n", line(2))
    found = log.reader.read(found.position)
    assert (times(found), found.skipped, found.problem) == ([2], 1, "")


def test_a_log_that_is_not_there_yet(log: Log) -> None:
    assert log.reader.end() == LogPosition()
    assert log.reader.read(LogPosition()) == LogRead((), LogPosition())

    log.write(line(1))
    found = log.reader.read(LogPosition())
    assert (times(found), found.problem) == ([1], "")


def test_a_directory_that_is_not_there_yet(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")

    assert log.reader.read(log.reader.end()) == LogRead((), LogPosition())


def test_a_rotation_loses_nothing(log: Log) -> None:
    log.write(line(1))
    found = log.reader.read(LogPosition())
    log.write(line(2))
    aside = log.put_aside(quiet=False)
    log.write(line(3), path=aside)
    found = log.reader.read(found.position)
    assert times(found) == [2, 3]

    log.write(line(6))
    log.write(line(4), path=aside)
    found = log.reader.read(found.position)
    assert times(found) == [4], "a worker has not opened the new one"
    log.write(line(5), path=aside)
    log.calm(aside)
    found = log.reader.read(found.position)
    assert times(found) == [5]
    found = log.reader.read(found.position)
    assert (times(found), found.problem, found.position.inode) == ([6], "", log.path.stat().st_ino)


def test_a_new_reader_goes_on_in_a_file_that_was_put_aside(log: Log) -> None:
    log.write(line(1), line(2))
    start = LogPosition(log.path.stat().st_ino, len(line(1)))
    log.put_aside("access.log.2")
    log.write(line(3), line(4)[:50])
    log.put_aside("access.log.1")
    log.write(line(5))

    seen, position = [], start
    for _ in range(3):
        found = log.another().read(position)
        seen += times(found)
        position = found.position
        assert not found.problem
    assert seen == [2, 3, 5]
    assert log.another().read(position).requests == ()


def test_the_torn_end_of_a_finished_file_is_skipped(log: Log) -> None:
    log.write(line(1), line(2)[:70])
    start = log.reader.read(LogPosition()).position
    log.put_aside()
    log.write(line(3))

    found = log.reader.read(start)
    assert (times(found), found.skipped, found.skipped_bytes, found.problem) == ([3], 1, 70, "")


def test_a_file_without_successor_is_waited_in(log: Log) -> None:
    log.write(line(1))
    position = log.reader.read(LogPosition()).position
    aside = log.put_aside()
    found = log.reader.read(position)
    assert (found.requests, found.position, found.problem) == ((), position, "")

    log.write(line(2), path=aside)
    assert times(log.reader.read(position)) == [2]


def test_a_clock_that_was_put_back_does_not_hold_a_rotation_up(log: Log) -> None:
    log.write(line(1))
    position = log.reader.read(LogPosition()).position
    aside = log.put_aside()
    os.utime(aside, (time.time() + 3600, time.time() + 3600))
    log.write(line(2))

    assert times(log.reader.read(position)) == [2]


def test_a_log_that_was_removed_is_no_longer_trusted(log: Log) -> None:
    log.write(line(1))
    position = log.reader.read(LogPosition()).position
    log.path.rename(log.directory / "gone")
    found = log.reader.read(position)
    assert "the rest of the old one is gone" in found.problem
    assert found.position == LogPosition()

    log.write(line(2))
    found = log.reader.read(position)
    assert "the rest of the old one is gone" in found.problem
    found = log.reader.read(found.position)
    assert found.problem == "", "it is said once, and then it can go on"


@pytest.mark.parametrize("after", [0, 1, 5], ids=["nothing", "less than before", "more than before"])
def test_a_log_that_was_emptied_under_its_reader_lacks_what_came_since_the_last_look(log: Log, after: int) -> None:
    steady = [100.0]
    reader = AccessLog(log.directory, lambda: RULES, lambda: Tick(BEGAN + 100_000, steady[0]))
    log.write(line(1), line(2))
    position = reader.read(LogPosition()).position
    steady[0] = 100.25
    os.truncate(log.path, 0)
    log.write(*(line(3 + n) for n in range(after)))

    found = reader.read(position)
    assert (times(found), found.problem, found.skipped) == ([3 + n for n in range(after)], "", 0)
    assert (found.cuts, found.lost_s) == (1, 0.25)
    log.write(line(9))
    found = reader.read(found.position)
    assert (times(found), found.cuts, found.lost_s) == ([9], 0, 0.0)


def test_what_a_log_lacks_is_not_known_when_its_end_was_never_seen(log: Log) -> None:
    steady = [100.0]
    reader = AccessLog(log.directory, lambda: RULES, lambda: Tick(BEGAN + 100_000, steady[0]))
    log.write(*[line(1)] * (CHUNK // len(line(1)) + 2))
    position = reader.read(LogPosition()).position
    os.truncate(log.path, 0)

    assert "was cut while it was read" in reader.read(position).problem


def test_a_log_that_was_cut_is_no_longer_trusted_when_nobody_looked_on(log: Log) -> None:
    log.write(line(1), line(2))
    position = log.reader.read(LogPosition()).position
    log.reader = log.another()
    os.truncate(log.path, 0)
    log.write(line(3))

    found = log.reader.read(position)
    assert "was cut while it was read" in found.problem
    log.write(line(4))
    found = log.reader.read(found.position)
    assert (times(found), found.problem) == ([4], "")


def test_a_hole_of_zeros(log: Log) -> None:
    log.write(line(1))
    os.truncate(log.path, len(line(1)) + 3 * CHUNK)
    log.write(b"\n", line(2))

    seen, skipped, position = [], 0, LogPosition()
    while position.offset < log.path.stat().st_size:
        found = log.reader.read(position)
        assert found.position.offset > position.offset and not found.problem
        seen += times(found)
        skipped += found.skipped_bytes
        position = found.position
    assert seen == [1, 2]
    assert skipped == 3 * CHUNK + 1


def test_a_large_log_is_read_in_parts(log: Log) -> None:
    count = 3 * CHUNK // len(line(1)) // 2
    log.write(*(line(round(number / 1000, 3)) for number in range(count)))
    first = log.reader.read(LogPosition())
    second = log.reader.read(first.position)

    assert 0 < len(second.requests) < len(first.requests) < count
    assert [round(at * 1000) for at in times(first) + times(second)] == list(range(count))


@pytest.mark.parametrize("what", ["directory", "pipe"])
def test_what_is_no_file(log: Log, what: str) -> None:
    if what == "directory":
        log.path.mkdir()
    else:
        os.mkfifo(log.path)

    assert "is no file" in log.reader.read(LogPosition()).problem
    with pytest.raises(ConfigError, match="is no file"):
        log.reader.end()


@pytest.mark.parametrize("which", ["file", "directory"])
def test_what_this_user_may_not_read(tmp_path: Path, which: str) -> None:
    tmp_path.chmod(0o755)
    log = Log(tmp_path / "log")
    log.directory.mkdir()
    log.write(line(1))
    (log.path if which == "file" else log.directory).chmod(0)
    try:
        read = in_child(lambda: log.reader.read(LogPosition()).problem, unprivileged=True)
        end = in_child(log.reader.end, unprivileged=True)
    finally:
        log.directory.chmod(0o755)

    for said in (read, end):
        assert "cannot read it: not readable (Permission denied)" in said
        assert "Make it readable for user id" in said
    assert end.startswith("ConfigError 1 ")


def test_rules_are_asked_at_every_look(tmp_path: Path) -> None:
    rules = [RULES]
    log = Log(tmp_path)
    reader = AccessLog(tmp_path, lambda: rules[-1], lambda: Tick(BEGAN + 10, 1.0))
    log.write(line(3))
    assert times(reader.read(LogPosition())) == [3]
    rules.append(msgspec.structs.replace(RULES, began=BEGAN + 2))
    assert times(reader.read(LogPosition())) == [1]


def test_both_clocks_are_read_within_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    steady = iter([10.0, 14.0, 20.0, 20.001])  # it stood still the first time
    wall = iter([1000.0, 1006.0])
    clocks = SimpleNamespace(monotonic=lambda: next(steady), time=lambda: next(wall))
    monkeypatch.setattr(access_log, "time", clocks)

    assert access_log.both_clocks() == Tick(1006.0, 20.0)
