"""The record of what a judge was told and said: written while it judges, closed when its run ends."""

from __future__ import annotations

import hashlib

import msgspec

from nself_deploy.app.world import World
from nself_deploy.core import record_lines as lines
from nself_deploy.core.canary import Session
from nself_deploy.core.machine import Run
from nself_deploy.core.recorder import Recorder
from nself_deploy.errors import NselfError

KEPT = 10
"""Records that are kept, the newest ones."""


class Closed(msgspec.Struct, frozen=True):
    """What the journal knows of a record that nothing is added to any more."""

    bytes: int
    sha256: str


def closed_key(run_id: str) -> str:
    """Where that is kept."""
    return f"judge-record:{run_id}"


def write(world: World, run: Run, recorder: Recorder) -> None:
    """Write down what is not written yet, durably. What can't be written is said, and hinders nobody."""
    data, session = recorder.taken(), recorder.session
    if not data or world.judge_records is None:
        return
    if session.recorded + len(data) > lines.LIMIT:
        data = lines.encoded([lines.Full()])
        session.unrecorded = True
    try:
        session.recorded = world.judge_records.write(run.id, session.recorded, data)
    except NselfError as error:
        session.unrecorded = True
        world.note(f"what is decided from here on can't be replayed: {error}")


def close(world: World, run: Run, session: Session) -> None:
    """The run ends: its record is whole, and the oldest ones go, with what the journal knows of them.

    Raises:
        NselfError: it can't be written.
    """
    records = world.judge_records
    if records is None or not session.recorded:
        return
    last = b"" if session.unrecorded else lines.encoded([lines.Ended()])
    length = records.write(run.id, session.recorded, last)
    data = (records.read(run.id) or b"")[:length]
    closed = Closed(length, hashlib.sha256(data).hexdigest())
    world.store.set_meta(closed_key(run.id), msgspec.json.encode(closed).decode())
    for old in records.runs()[:-KEPT]:
        world.store.set_meta(closed_key(old), "")
    records.keep(KEPT)
