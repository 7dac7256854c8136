"""The bake: a release that serves everybody is watched for a while, before the old one is retired."""

from __future__ import annotations

import secrets

import msgspec

from nself_deploy.app.judging import BACK_S, LATE_S, LOOK_S, SAVE_S, load, open_log, save
from nself_deploy.app.slo_watch import SloWatch, bake_key
from nself_deploy.app.watching import Containers, catch_up, unix_now
from nself_deploy.app.world import World
from nself_deploy.core import audit
from nself_deploy.core import record_lines as lines
from nself_deploy.core.analysis import Analysis, Mode
from nself_deploy.core.asking import Answer, Ask, Wanted, answer_key, ask_key
from nself_deploy.core.canary import bake_words
from nself_deploy.core.effects import Bake as BakeEffect
from nself_deploy.core.evidence import RULES, Verdict
from nself_deploy.core.log_moves import Move
from nself_deploy.core.machine import Run
from nself_deploy.core.model import Split
from nself_deploy.core.recorder import Recorder, opened
from nself_deploy.core.slo import Pace
from nself_deploy.errors import Unhealthy


async def bake(world: World, run: Run, effect: BakeEffect) -> str:
    """Watch the release until its time is over; what was seen, in words.

    Raises:
        Unhealthy: more fails than is allowed, an objective's error budget burns fast, or a container broke down.
    """
    await world.router.record(on=True)
    if not world.objectives:
        return await _watched(world, run, effect, None)
    slo = SloWatch(world, world.objectives, bake_key(run.id))
    try:
        return await _watched(world, run, effect, slo)
    finally:
        await slo.close()


async def _watched(world: World, run: Run, effect: BakeEffect, slo: SloWatch | None) -> str:
    recorder = _recorder(world, run, effect)
    session = recorder.session
    baking = session.bake
    assert baking is not None
    log = open_log(world, session)
    containers = Containers(world, run, session.containers)
    saved, acts, problem = float("-inf"), session.judge.settings.mode is Mode.ENFORCE, ""
    while True:
        at = unix_now(world) - session.began - session.bake_began_s
        wrong = catch_up(log, recorder)[1]
        if wrong and not problem:
            problem = wrong
            world.note(f"the bake does not see every request: {problem}")
        if at < baking.now - BACK_S:  # the clock was set back: go on from where it was, by its new time
            recorder.tell(lines.Clock(session.began + at - baking.now))
            session.moves = [Move(session.moves[-1].split)]
            log, at = open_log(world, session), baking.now
        recorder.incidents(await containers.incidents(at))
        recorder.tell(lines.Time(at - LATE_S))
        if slo is not None and acts:
            _refuse_burning(slo)
        promoted = _answered(world, run, bake_words(baking))
        world.progress(f"{max(effect.seconds - at, 0.0):.0f} s left, {bake_words(baking)}")
        now = world.clock.monotonic()
        failed = acts and baking.decision is not None and baking.decision.verdict is Verdict.FAIL
        ends = failed or at >= effect.seconds or bool(promoted)
        if ends or now - saved >= SAVE_S:
            save(world, run, recorder)
            saved = now
        if failed and baking.decision is not None:
            what = f"The release failed with all of the traffic: {baking.decision.reason} ({bake_words(baking)})."
            raise Unhealthy(what, "Mend it, then deploy again.", evidence=(bake_words(baking),))
        if ends:
            shown = f"ended early by {promoted}" if promoted else "over"
            return f"{shown}; {bake_words(baking)}{_unseen(slo if acts else None, problem)}"
        await world.clock.sleep(LOOK_S)


def _unseen(slo: SloWatch | None, problem: str) -> str:
    """What a bake that is over does not know."""
    blind = [
        f"{one.objective.name}: {one.silence}" for one in (slo.standings() if slo is not None else ()) if one.silence
    ]
    words = f"; not all was seen: {problem}" if problem else ""
    return words + (f"; no data of {'; '.join(blind)}" if blind else "")


def _refuse_burning(slo: SloWatch) -> None:
    """The objectives have a word beside the bake's own test. A slow alert ends nothing."""
    for alert in slo.look():
        if alert.windows.pace is Pace.FAST:
            what = f"The release burns the error budget of an objective: {alert.words} ({alert.evidence})."
            raise Unhealthy(what, "Mend it, then deploy again.", evidence=(alert.evidence,))


def _recorder(world: World, run: Run, effect: BakeEffect) -> Recorder:
    """The session of the canary, or one of its own; with a bake that has begun."""
    session, now = load(world, run), unix_now(world)
    if session is not None and session.bake is not None:
        return Recorder(session)
    if session is None:
        analysis = run.plan.analysis or Analysis()
        moves = (Move(Split.all_to(effect.slot.other)), Move(Split.all_to(effect.slot), now, now))
        begun = lines.Begun(lines.FORM, RULES, analysis, (), (), effect.slot, now, moves)
        recorder = Recorder(opened(begun, secrets.token_hex(16)), begun)
        session = recorder.session
        session.position = open_log(world, session).end()
    else:
        recorder = Recorder(session)
        catch_up(open_log(world, session), recorder)
    recorder.tell(lines.Baking(effect.seconds, now - session.began))
    save(world, run, recorder)
    return recorder


def _answered(world: World, run: Run, known: str) -> str:
    """Answer another terminal; who promoted, if somebody did, in view of what is known."""
    text = world.store.meta(ask_key(run.id))
    if not text:
        return ""
    ask = msgspec.json.decode(text, type=Ask)
    done = ask.wanted is Wanted.PROMOTE
    words = "the bake ends now" if done else "it serves everybody already, and can't be paused; abort takes users back"
    with world.store.transaction():
        if done:
            world.store.add_event(audit.promoted(run, ask.by, ask.reason or "its bake ends early", (known,)))
        world.store.set_meta(ask_key(run.id), "")
        world.store.set_meta(answer_key(run.id), msgspec.json.encode(Answer(ask.id, done, words)).decode())
    return ask.by if done else ""
