"""A rollback of one service that is tried more than once: what the breaker hears of it, and what others read."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from nself_deploy.app.service_rollback import Attempt, Found, keep, load_state
from nself_deploy.core.breaker import Breaker
from nself_deploy.core.moments import Moment
from nself_deploy.core.rollback import Request
from nself_deploy.errors import GateRefused
from tests.unit.plans import a_release

NOW = Moment("2026-11-27T12:00:00.000Z", "one", 100.0)


class Store:
    """The words and breakers of a journal, in memory."""

    def __init__(self) -> None:
        self.words: dict[str, str] = {}
        self.known: Breaker | None = None
        self.set_meta, self.meta = self.words.__setitem__, self.words.get

    def transaction(self) -> Any:
        return contextlib.nullcontext()

    def breaker(self, _environment: str, _service: str) -> Breaker | None:
        return self.known

    def save_breaker(self, breaker: Breaker) -> None:
        self.known = breaker

    def rules(self) -> None:
        return None

    def add_event(self, event: Any) -> Any:
        return event


class Engine:
    """Has some images, and gives them names."""

    def __init__(self, *images: str) -> None:
        self.images, self.names = images, dict[str, str]()

    async def image(self, ref: str) -> object:
        return ref if ref in self.images else None

    async def tag(self, image_id: str, ref: str) -> None:
        self.names[ref] = image_id


async def test_a_release_that_is_made_for_it_has_names_of_its_own_for_its_images() -> None:
    """Else they go with the releases that they come from, and this one can't be gone back to any more."""
    to = a_release("made")
    here, *gone = sorted({image.id for image in to.images.values()})
    engine, kept = Engine(here), list[Any]()
    store = SimpleNamespace(
        release=lambda name: kept[0] if kept else None,
        save_release=kept.append,
        meta=lambda key: "",
    )
    world = cast("Any", SimpleNamespace(store=store, engine=engine, project=SimpleNamespace(name="shop")))
    for _ in range(2):
        await keep(world, Found(a_release("live"), to, "bad", "good", ""))

    assert kept == [to]
    assert gone and set(engine.names.values()) == {here}
    assert all(ref.startswith("nself-deploy/shop-") and ref.endswith(":made") for ref in engine.names)


def found(to: str, origin: str, version: str) -> Found:
    return Found(a_release("live"), a_release(to), origin, version, "")


def test_it_is_about_what_was_found_last_until_the_breaker_was_asked() -> None:
    store = cast("Any", Store())
    attempt = Attempt(Request("web"), found("r1", "bad", "good"), NOW, "x1")

    attempt.look_again(store, found("r2", "worse", "better"), "x1")  # an interrupted deploy was put right meanwhile
    assert attempt.refusal(store) is None and store.known is None  # nothing counts before its run begins
    attempt.begin(store, store, NOW.at)
    assert store.known is not None
    assert [(turn.origin, turn.to) for turn in store.known.turns] == [("worse", "better")]
    state = load_state(store, "prod", "web")
    assert state is not None and state.prior_version == "r2"

    attempt.look_again(store, found("r3", "worse", "better"), "x2")  # tried again: it is the same rollback
    assert attempt.refusal(store) is None
    attempt.begin(store, store, NOW.at)
    assert len(store.known.turns) == 1
    assert msgspec.json.decode(store.words["rollback:prod:web"])["prior_version"] == "r3"


def test_a_refusal_is_on_record_when_it_is_known() -> None:
    store = cast("Any", Store())
    for number in range(3):
        Attempt(Request("web"), found("r1", f"v{number}", "good"), NOW, f"x{number}").begin(store, store, NOW.at)
    attempt = Attempt(Request("web"), found("r1", "v9", "good"), NOW, "x9")
    error = attempt.refusal(store)

    assert error is not None and "too many rollbacks" in error.what and store.known.opened == NOW
    with pytest.raises(GateRefused):
        attempt.begin(store, store, NOW.at)
    assert len(store.known.turns) == 3
