"""What nginx's generated files and we agree on: flag files of a split, names below our directory, words of the probes.

Apart from the text of those files, since a move and a question to the router need no more of them.
"""

from __future__ import annotations

from nself_deploy.core.model import Slot, Split

LINK = "tree"
"""Below our directory: the link through which nginx reads the files."""
RECORDING = "recording"
"""Below our directory: the file that is there while our access log is kept."""
READABLE = "splits/.readable"
"""Below our directory: the file by which nginx's workers find out whether they can read it."""

BUCKETS = 100
CANDIDATE, LIVE = "candidate", "live"
"""The buckets of requests for which a tester chose the slot."""
ASKED = frozenset({CANDIDATE, LIVE})
FLAG_DIRS = {Slot.GREEN: "g", Slot.PLAIN: "p"}
"""Below a split's directory: one file for each bucket that goes to the slot."""
SHIELD_DIR = "s"
"""Below a split's directory: one file, named like the slot that is shielded."""

LADDER = tuple(2**step for step in range(11))
"""1, 2, 4 ... 1024."""
INFLIGHT_HEADER = "X-Nself-Inflight"
HOST_HEADER = "X-Nself-Host"


def bucket_slot(split: Split, bucket: int) -> Slot:
    """The slot of a bucket (0 to 99); the candidate's buckets are always the first ones, so they only grow."""
    return split.candidate if split.candidate is not None and bucket < split.percent else split.base


def split_files(split: Split) -> list[str]:
    """The flag files of a split, below `splits/<Split.name>/`: `g/NN` for green, `p/NN` for plain, none for blue.

    Two more are for testers: the slot that they mean by candidate and by live, which is the only one where one is.
    `s/<slot>` is there when what fails on that slot is answered by the other one.
    """
    found = {f"{bucket:02d}": bucket_slot(split, bucket) for bucket in range(BUCKETS)}
    found |= {CANDIDATE: bucket_slot(split, 0), LIVE: bucket_slot(split, BUCKETS - 1)}
    shield = [f"{SHIELD_DIR}/{split.candidate}"] if split.shielded else []
    return [f"{FLAG_DIRS[slot]}/{bucket}" for bucket, slot in found.items() if slot in FLAG_DIRS] + shield
