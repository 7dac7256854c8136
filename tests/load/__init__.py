"""Load from the client's view: every request is sent once, and what became of it is counted.

    with LoadProcess(LoadMix.standard(rate=300), "http://127.0.0.1:8080") as load:   # a process of its own
        load.wait_requests(300)
        at = load.mark("flip confirmed")
        report = load.stop()
    assert report.failed == 0, report.table()
    assert not report.wrong_after("flip confirmed", "v2")

`Load` is the same within an event loop. Nothing is retried, so a request that met a closing keep-alive connection is a
failed one; before a kept connection is used again it is looked at (one `recv` with `MSG_PEEK`), as careful clients do.
"""

from tests.load.client import Load
from tests.load.mix import Kind, Limits, LoadError, LoadMix, Paths, Stream, Target
from tests.load.process import LoadProcess
from tests.load.records import Answer, Failure, Outcome
from tests.load.report import Report, Snapshot

__all__ = [
    "Answer",
    "Failure",
    "Kind",
    "Limits",
    "Load",
    "LoadError",
    "LoadMix",
    "LoadProcess",
    "Outcome",
    "Paths",
    "Report",
    "Snapshot",
    "Stream",
    "Target",
]
