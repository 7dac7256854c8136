"""A rollback that a person asks for is remembered by the circuit breakers when it ends; if they can't, it is said."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nself_deploy.adapters.journal import Journal
from nself_deploy.app.result import Confirm
from nself_deploy.app.world import World
from nself_deploy.core.plan import Plan
from nself_deploy.errors import NselfError

Complete = Callable[[], Awaitable[None]]


def confirmed(world: World, confirm: Confirm) -> Confirm:
    """The same question, and a look at the breakers after it."""

    def ask(plan: Plan) -> None:
        confirm(plan)
        _look(world)

    return ask


def completed(world: World, complete: Complete) -> Complete:
    """What follows when users are back, and a look at the breakers before it."""

    async def go() -> None:
        _look(world)
        await complete()

    return go


def _look(world: World) -> None:
    """Breakers that can't be read stop nothing: it is said, and the rollback goes on."""
    store = world.store
    assert isinstance(store, Journal)
    try:
        store.guards.breakers()
    except NselfError as error:
        world.note(f"the circuit breakers do not hear of this rollback: {error.what}")
