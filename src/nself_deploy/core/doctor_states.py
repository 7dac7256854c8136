"""What the JSON files for other programs have to say, by the journal and the link, and which of them don't."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import msgspec

from nself_deploy.core.doctor_facts import SLOTS, Facts
from nself_deploy.core.findings import Finding, Severity, WriteStates
from nself_deploy.core.machine import Outcome, Run
from nself_deploy.core.model import Strategy
from nself_deploy.core.slot_records import SlotRecord
from nself_deploy.core.state import (
    BLUE_GREEN_STATE_FILE,
    DEPLOY_STATE_FILE,
    ROLLBACK_STATE_DIR,
    ZERO_TIME,
    BlueGreenState,
    RollbackState,
    StrategyState,
    parse_time,
)


class States(msgspec.Struct, frozen=True):
    """The files as they have to be; None where nothing can be said."""

    blue_green: BlueGreenState | None = None
    deploy: StrategyState | None = None
    rollback: dict[str, RollbackState] = {}


def expected(facts: Facts) -> States:
    """The files as they have to be. Times that only the files knew are kept, or are those of the records."""
    if facts.journal is not None or facts.unfinished is not None or facts.live is None:
        return States()
    if facts.recorded_live != (facts.live,):
        return States()
    return States(_blue_green(facts), _deploy(facts), _rollback(facts))


def _blue_green(facts: Facts) -> BlueGreenState | None:
    old = facts.states.blue_green
    if old is None or facts.split is None:
        return None
    versions = [facts.slots[slot].release if slot in facts.slots else "" for slot in SLOTS]
    return BlueGreenState(
        active=facts.live,
        blue_version=versions[0],
        green_version=versions[1],
        canary_percent=facts.split.percent,
        last_deploy=old.last_deploy,
        last_rollback=old.last_rollback,
    )


def _deploy(facts: Facts) -> StrategyState | None:
    run, old = facts.last, facts.states.deploy
    if run is None or old is None or facts.live is None:
        return None
    success = run.outcome is Outcome.DONE
    return StrategyState(
        schema_version=old.schema_version,
        strategy=run.plan.strategy,
        target=run.plan.target,
        started_at=_time(run.started_at),
        completed_at=_completed(run, facts.slots[facts.live], old),
        success=success,
        canary_percent=old.canary_percent if _same_run(run, old) else _percent(run),
        rolled_back=run.rolled_back,
        error=old.error if _same_run(run, old) else "" if success or not run.failure else run.failure.message,
        blue_green_state_file=BLUE_GREEN_STATE_FILE,
    )


def _percent(run: Run) -> int:
    return run.percent if run.plan.strategy is Strategy.CANARY else 0


def _same_run(run: Run, old: StrategyState) -> bool:
    return old.started_at == _time(run.started_at)


def _completed(run: Run, record: SlotRecord, old: StrategyState) -> datetime:
    """When the run ended; slots get their role with the last effect of a run."""
    if _same_run(run, old) and old.completed_at != ZERO_TIME:
        return old.completed_at
    return _time(run.completed_at or record.since)


def _time(text: str) -> datetime:
    try:
        return parse_time(text)
    except ValueError:
        return ZERO_TIME


def _rollback(facts: Facts) -> dict[str, RollbackState]:
    run = facts.last
    prior = facts.releases.get(run.plan.previous_release) if run and run.outcome is Outcome.DONE else None
    if prior is None or facts.live is None:
        return {}
    at = _time(facts.slots[facts.live].since)
    found = {}
    for name, image in prior.images.items():
        old = facts.states.rollback.get(name)
        if old is None:
            continue  # it can't be read
        known = (old.prior_tag, old.prior_hash) == (image.ref, image.digest or image.id)
        found[name] = old if known else RollbackState(image.ref, image.digest or image.id, at)
    return found


def state_findings(facts: Facts) -> Iterator[Finding]:
    """Files that can't be read (never overwritten), and files that say something else than the journal."""
    for trouble in facts.states.unreadable:
        yield Finding(
            "state-unreadable",
            Severity.ERROR,
            f"{trouble.where} {trouble.what}",
            "It is one of our own files, so deploys are refused, and it is never overwritten in silence.",
            trouble.remedy,
        )
    stale = tuple(_stale(facts, expected(facts)))
    if stale:
        yield Finding(
            "state-stale",
            Severity.WARNING,
            f"{', '.join(stale)} says something else than the journal.",
            "Other programs read it; a deploy was cut short while it was written, or somebody changed it.",
            "Write it anew: nself deploy doctor --fix",
            WriteStates(stale),
        )


def _stale(facts: Facts, right: States) -> Iterator[str]:
    if right.blue_green is not None and right.blue_green != facts.states.blue_green:
        yield BLUE_GREEN_STATE_FILE
    if right.deploy is not None and right.deploy != facts.states.deploy:
        yield DEPLOY_STATE_FILE
    for name, state in sorted(right.rollback.items()):
        if state != facts.states.rollback.get(name) and facts.last is not None:
            yield f"{ROLLBACK_STATE_DIR}/{facts.last.plan.target}/{name}.json"
