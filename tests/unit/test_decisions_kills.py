"""What a person decides about a canary, and its event: both or none, also when it is killed and typed again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nself_deploy.app import asking, baking, judging
from nself_deploy.core import effects as do
from nself_deploy.core.asking import Wanted
from nself_deploy.core.canary import Consent
from nself_deploy.core.model import Slot, Split
from tests.unit.judging_scene import HALF, Scene, a_scene


async def promoted(scene: Scene, monkeypatch: pytest.MonkeyPatch, reason: str = "it is Friday") -> None:
    """`nself deploy promote` of one that waits; its process is killed before it goes on."""

    async def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(asking, "recover", dies)
    with pytest.raises(KeyboardInterrupt):
        await asking.promote_waiting(scene.world, asyncio.Event(), full=False, reason=reason)


async def test_a_promotion_that_is_typed_again_is_one_event(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = a_scene(rate=0)
    for _ in range(2):
        await promoted(scene, monkeypatch)
    assert [(e.event_type, e.reason) for e in scene.events] == [("promote", "it is Friday")]
    assert scene.session.consent == Consent("ann", "it is Friday")

    await promoted(scene, monkeypatch, "it is Saturday")  # which is another one
    assert [e.reason for e in scene.events] == ["it is Friday", "it is Saturday"]


async def test_a_consent_lasts_until_its_step_is_on_record() -> None:
    """The step's end is written after the judge has let it pass: a kill in between asks nobody for a second consent."""
    scene = a_scene(rate=0)
    recorder = judging.Recorder(scene.session)
    judging.promote(scene.world, scene.run, recorder, Consent("ann", "it is Friday"))
    for _ in range(2):
        assert "promoted by ann" in await scene.judge("judge:10")
    scene.give(HALF)

    assert scene.session.consent is None and len(scene.events) == 1


async def test_who_ends_a_bake_is_in_the_trail() -> None:
    scene = a_scene()
    await scene.sleep(1)
    scene.give(Split.all_to(Slot.GREEN))
    bake = asyncio.ensure_future(baking.bake(scene.world, scene.run, do.Bake(Slot.GREEN, 600.0)))
    answer = await asking.ask(scene.world, scene.run, Wanted.PROMOTE)

    assert answer is not None and answer.done and (await bake).startswith("ended early by ann")
    assert [(e.event_type, e.reason) for e in scene.events] == [("promote", "its bake ends early")]
