"""One candidate on a real engine, under its users: what became of it, and whether that is as it must be."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.load import Answer, LoadMix, LoadProcess, Outcome, Report
from tests.load.candidates.crowd import PEOPLE, RATE, TIMEOUT_S, crowd
from tests.load.candidates.kinds import BAD_WORDS, SLACK_S, Candidate
from tests.load.candidates.onelog import differences
from tests.real import people
from tests.real.stack import Stack, docker, wait_for

PATIENCE_S = 900.0
_SEEN = 20
"""So many answers of a candidate, and it has users."""
_COUNTED = re.compile(r"(\d+) clients? w(?:ere|as) hit")
_REMEDY = re.compile(r"^  -> .|is possible\.$", re.MULTILINE)
_BROKEN_OFF = (499, 502, 504)
"""Statuses of requests that the router answered by itself, or whose client had gone."""
_ADVICE = {
    "inconclusive": ("nself deploy resume", "promote --accept-inconclusive --reason", "abort"),
    "hold": ("nself deploy resume", "abort"),
    "invalid": ("nself deploy resume", "abort"),
}
"""What a person who has to decide must be told."""


@dataclass
class Tried:
    """What became of a candidate."""

    name: str
    expected: str = ""
    verdict: str = ""
    status: int = -1
    seconds: float | None = None
    """From its first share to the verdict; None when it never had one."""
    requests: int = 0
    answered: int = 0
    """Requests that the candidate answered."""
    hit: int = 0
    """Users who saw it fail."""
    counted: int = 0
    """Of those, whom the judge says that it knew of."""
    by_us: int = 0
    """Requests that failed and should not have."""
    wrong: list[str] = field(default_factory=list)


def shop(prefix: str) -> Stack:
    """A shop that is live."""
    stack = people.shop(prefix)
    try:
        stack.nself("init", "--yes")
        stack.nself(*people.QUICK, SHOP_RELEASE="first")
    except BaseException:
        stack.remove()
        raise
    return stack


def tried(
    stack: Stack,
    candidate: Candidate,
    release: str,
    slack_s: float = SLACK_S,
    timeout_s: float = TIMEOUT_S,
    users: int = PEOPLE,
) -> Tried:
    """Give it users, and wait for its end; the shop is live and alone afterwards.

    It has to be found `slack_s` after the simulation's longest time, at the latest. Each of so many `users` waits
    `timeout_s` for an answer.
    """
    with _settings(stack, candidate.analysis):
        return _tried(stack, candidate, release, slack_s, crowd(timeout_s, users))


@contextlib.contextmanager
def _settings(stack: Stack, analysis: str) -> Iterator[None]:
    """With these in its Compose file."""
    file = stack.root / "docker-compose.yml"
    text = file.read_text()
    if analysis:
        file.write_text(f"{text}\nx-nself-deploy:\n  analysis: {{{analysis}}}\n")
    try:
        yield
    finally:
        file.write_text(text)


def _tried(stack: Stack, candidate: Candidate, release: str, slack_s: float, mix: LoadMix) -> Tried:
    live, slot = stack.release_served(), people.split(stack)
    if not candidate.users:
        process = _begun(stack, candidate, release)
        status, document, err = _ended(process)
        found = _told(candidate, slack_s, status, document, err)
    else:
        began = time.time()
        with LoadProcess(mix, stack.url) as load:
            load.wait_requests(int(RATE))
            status, document, err = _led(stack, candidate, release, load)
            load.wait_requests(int(RATE / 2))
            report = load.stop()
        found = _told(candidate, slack_s, status, document, err)
        _add_users(found, candidate, report, release, list(_lines(stack, began)), "green" if slot == "blue" else "blue")
    if candidate.kills and status == 7:
        found.wrong += differences(stack)
    if status == 7:
        stack.nself("abort")
    found.wrong += _left(stack, live if status else release)
    return found


def _begun(stack: Stack, candidate: Candidate, release: str) -> subprocess.Popen[str]:
    return stack.start_nself("--json", *candidate.words, SHOP_RELEASE=release, **candidate.env)


def _ended(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any], str]:
    try:
        out, err = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, json.loads(out or "{}"), err


def _led(stack: Stack, candidate: Candidate, release: str, load: LoadProcess) -> tuple[int, dict[str, Any], str]:
    """To its end, through what happens meanwhile."""
    process = _begun(stack, candidate, release)
    for _ in range(candidate.kills):
        _has_users(load, release)
        process.kill()
        process.communicate()
        process = stack.start_nself("resume", "--json")
    if not candidate.outage:
        return _ended(process)
    _has_users(load, release)
    docker("stop", "--time", "1", f"{stack.name}-db-1")
    try:
        return _ended(process)
    finally:
        docker("start", f"{stack.name}-db-1")
        wait_for(lambda: stack.get("/api/orders/count")[0] == 200, "the database to be back", PATIENCE_S)


def _has_users(load: LoadProcess, release: str) -> None:
    """Some more of them."""
    before = load.snapshot().per_release.get(release, 0)
    load.wait_until(
        lambda now: now.per_release.get(release, 0) >= before + _SEEN, PATIENCE_S, f"{_SEEN} answers of {release}"
    )


def _told(candidate: Candidate, slack_s: float, status: int, document: dict[str, Any], err: str) -> Tried:
    """What the deploy says of itself."""
    judged = [step["seconds"] for step in document.get("steps", ()) if step["name"].startswith("Judge")]
    count = _COUNTED.search(document.get("error") or "")
    found = Tried(candidate.name, str(candidate.found), document.get("verdict") or "", status)
    found.seconds = sum(judged) if judged and found.verdict else None
    found.counted = int(count[1]) if count else 0
    if status != candidate.status or found.verdict not in (candidate.verdicts or ("",)):
        found.wrong.append(f"exit {status}, {found.verdict or 'no verdict'}: {err.strip()[-600:]}")
    limit = candidate.found.longest + slack_s
    if candidate.found.longest and not candidate.kills and (found.seconds is None or found.seconds > limit):
        found.wrong.append(f"not found within {limit:.0f} s")
    final = 100 if status == 0 else 10 if found.verdict == "inconclusive" else 0
    if document.get("final_percent") != final:
        found.wrong.append(f"{document.get('final_percent')} % of the traffic in the end, not {final} %")
    if status == 7:
        found.wrong += [f"not told: {words}" for words in _ADVICE.get(found.verdict, ()) if words not in err]
    return found


def _lines(stack: Stack, since: float) -> Iterator[dict[str, Any]]:
    """Our access log from this time on (seconds since 1970), as far as its lines are whole."""
    path: Path = stack.root / ".nself/router/log/access.log"
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    for text in whole.splitlines():
        line: dict[str, Any] = json.loads(text)
        if line["time"] >= since:
            yield line


def _add_users(
    found: Tried, candidate: Candidate, report: Report, release: str, lines: list[dict[str, Any]], slot: str
) -> None:
    """What users saw, and whose fault it was.

    An answer names its release. One that names none is the router's: it is the candidate's fault when the router's own
    log has so many that broke off there.
    """
    failed = [a for a in report.records if a.outcome is not Outcome.OK and not _excused(candidate, a)]
    theirs = [a for a in failed if a.release == release]
    nameless = [a for a in failed if not a.release]
    broken_off = sum(line["slot"] == slot and int(line["status"]) in _BROKEN_OFF for line in lines)
    found.requests, found.answered = report.requests, report.per_release.get(release, 0)
    found.by_us = len(failed) - len(theirs) - min(len(nameless), broken_off)
    found.hit = len({a.person for a in (*theirs, *nameless)})
    if found.by_us:
        found.wrong.append(f"{found.by_us} requests failed because of us:\n{report.table()}")
    if candidate.status == 0 and failed:
        found.wrong.append(f"{len(failed)} requests failed")
    if not candidate.verdicts and found.answered:
        found.wrong.append(f"users had {found.answered} answers of it")


def _excused(candidate: Candidate, answer: Answer) -> bool:
    """Whether it failed for want of the database."""
    return candidate.outage and answer.stream == "orders" and answer.status in (500, 503)


def _left(stack: Stack, live: str) -> list[str]:
    """What is not as it should be afterwards."""
    split, served = people.split(stack), stack.releases_served()
    slots = {slot: names for slot, names in stack.slots().items() if names and slot != split}
    found = [f"the split is {split}"] if "-" in split else []
    found += [f"served by {sorted(served)}, not {live}"] if served != {live} else []
    return found + ([f"left over: {slots}"] if slots else [])


def bad_words(stack: Stack) -> Tried:
    """Ask for what can't be right: each is refused with an error that says what it is, and nothing is done."""
    found = Tried("bad input", verdict="refused", status=1)
    for words, says in BAD_WORDS:
        outcome = stack.nself("--strategy", "canary", *words, check=False, SHOP_RELEASE="bad")
        found.requests += 1
        if (
            outcome.status != 1
            or says not in outcome.err
            or "Traceback" in outcome.err
            or not _REMEDY.search(outcome.err)
        ):
            found.wrong.append(f"{' '.join(words)}: {outcome.text}")
    return found
