"""A rollback that a person asks for is remembered by the circuit breakers, after users are back."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from nself_deploy.adapters.journal import Journal
from nself_deploy.adapters.system import moment
from nself_deploy.app.result import Confirm, Result
from nself_deploy.app.world import World
from nself_deploy.core.plan import Plan
from nself_deploy.errors import NselfError

if TYPE_CHECKING:
    from nself_deploy.app.person_rollback import PersonTurns

Complete = Callable[[], Awaitable[None]]


class Counted:
    """One rollback. Breakers that can't be read or written stop nothing: it is said, and the rollback goes on."""

    def __init__(self, world: World) -> None:
        """A rollback in this project, under its lock."""
        self._world = world
        self._plan: Plan | None = None
        self._turns: PersonTurns | None = None

    def confirmed(self, confirm: Confirm, *, begin: bool = False) -> Confirm:
        """The same question; with `begin` it counts from the answer on."""

        def ask(plan: Plan) -> None:
            confirm(plan)
            self._plan = plan
            if begin:
                self._begin()

        return ask

    def begun(self, complete: Complete) -> Complete:
        """What follows when users are back: it counts from here on."""

        async def go() -> None:
            self._begin()
            await complete()

        return go

    def end(self, result: Result | None) -> None:
        """How it went, if it had begun."""
        if self._turns is None or result is None:
            return
        try:
            self._turns.end(result.run, moment())
        except NselfError as error:
            self._tell(error)

    def _begin(self) -> None:
        from nself_deploy.app.person_rollback import PersonTurns  # users don't wait for it

        if self._turns is not None:
            return
        store = self._world.store
        assert isinstance(store, Journal)
        assert self._plan is not None
        self._turns = PersonTurns(store.guards, store.release, f"p{secrets.token_hex(8)}")
        try:
            self._turns.begin(self._plan, moment())
        except NselfError as error:
            self._tell(error)

    def _tell(self, error: NselfError) -> None:
        self._world.note(f"the circuit breakers did not hear of this rollback: {error.what}")
