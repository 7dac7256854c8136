"""From nginx's own lines to what is known of a canary, through the real reader."""

from __future__ import annotations

import time
from pathlib import Path
from typing import cast

import msgspec

from nself_deploy.app.judging import open_log
from nself_deploy.app.watching import catch_up
from nself_deploy.app.world import World
from nself_deploy.core.analysis import Analysis
from nself_deploy.core.canary import Session
from nself_deploy.core.log_moves import Move
from nself_deploy.core.log_position import LogPosition
from nself_deploy.core.model import Slot, Split
from nself_deploy.core.recorder import Recorder
from nself_deploy.core.verdict import Judge
from nself_deploy.wiring.logs import request_logs
from tests.unit.log_lines import TENTH, line

ALL = Split.all_to(Slot.BLUE)


class OneLog:
    """A world that has an access log, and nothing else."""

    def __init__(self, root: Path) -> None:
        self.request_log = request_logs(root)


def write(root: Path, *lines: bytes) -> None:
    directory = root / ".nself/router/log"
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "access.log").open("ab") as file:
        file.writelines(lines)


def at(began: float, seconds: float, hundredth: int, **words: object) -> bytes:
    return line(hundredth=hundredth, time=round(began + seconds, 3), **words)


def test_each_share_counts_from_its_move_to_the_next_one(tmp_path: Path) -> None:
    began = time.time() - 100
    moves = [Move(ALL), Move(TENTH, began, began + 0.02), Move(Split(Slot.BLUE, Slot.GREEN, 50), began + 20)]
    session = Session.begin(Judge.begin(Analysis()), Slot.GREEN, began, "salt", LogPosition(), moves)
    session.moved_to(moves[-1].split, began + 20.03)
    world = cast("World", OneLog(tmp_path))
    write(
        tmp_path,
        at(began, -5.0, 50),  # before the first share
        at(began, 0.01, 5),  # at the move
        at(began, 1.0, 5, upstream_status="502, 200"),  # the candidate's, rescued by the live slot
        at(began, 2.0, 70),
        at(began, 30.0, 30, slot="green"),
        b"no line at all\n",
    )
    count, problem = catch_up(open_log(world, session), Recorder(session))

    assert (problem, session.skipped) == ("", 1)
    assert session.judge.requests == [2, 1, 1, 0]
    assert session.judge.share == 0.5 and count >= 3
    before = session.position
    assert catch_up(open_log(world, session), Recorder(session)) == (0, "")
    assert session.position == before


def test_what_was_read_is_not_read_again_by_another_process(tmp_path: Path) -> None:
    began = time.time() - 100
    session = Session.begin(
        Judge.begin(Analysis()), Slot.GREEN, began, "salt", LogPosition(), [Move(ALL), Move(TENTH, began, began)]
    )
    world = cast("World", OneLog(tmp_path))
    write(tmp_path, at(began, 1.0, 5))
    catch_up(open_log(world, session), Recorder(session))
    again = msgspec.json.decode(msgspec.json.encode(session), type=Session)
    write(tmp_path, at(began, 2.0, 6), at(began, 2.0, 60))
    catch_up(open_log(world, again), Recorder(again))

    assert again.judge.requests == [2, 1, 0, 0]
