"""The moves of traffic in the last hours: those that runs made are in their journals, others are noticed."""

from __future__ import annotations

from nself_deploy.app.watching import unix_now
from nself_deploy.app.world import World
from nself_deploy.core.log_moves import Move
from nself_deploy.core.machine import Outcome, Run
from nself_deploy.core.model import Split
from nself_deploy.core.past_moves import before, moves_of
from nself_deploy.core.plan import Kind

RUNS = 20
"""So many runs of the past are known."""
_LATELY = 5


class KnownMoves:
    """What one process knows of them; runs that have ended are read once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._runs: dict[str, tuple[Split, tuple[Move, ...]]] = {}
        """Run -> the split before it, and its moves; oldest first."""
        self._open = ""
        """The run that had not ended at the last look."""

    def now(self, strays: list[Move], after: str = "") -> tuple[Move, ...]:
        """All that are known, the split before them first; none while there is no split.

        Args:
            strays: moves that no run made; one that is noticed now is added.
            after: runs up to this one are left out.
        """
        split = self._world.router.split()
        if split is None:
            return ()
        running = self._read()
        names = [*self._runs]
        found = [self._runs[name] for name in names[names.index(after) + 1 if after in names else 0 :]]
        made = sorted((*(move for _, moves in found for move in moves), *strays), key=lambda move: move.since)
        moves = (Move(found[0][0] if found and made else split), *made)
        if moves[-1].split == split or running:
            return moves
        stray = Move(split, moves[-1].until, unix_now(self._world))
        strays.append(stray)
        del strays[:-RUNS]
        return (*moves, stray)

    @property
    def newest(self) -> str:
        """The newest run, empty when there is none."""
        return next(reversed(self._runs), "")

    def _read(self) -> bool:
        """Whether a run is under way."""
        runs = self._world.store.history(_LATELY if self._runs else RUNS)
        for run in reversed(runs):
            if run.id not in self._runs or run.id == self._open:
                self._runs[run.id] = (before(run), moves_of(self._world.store.entries(run.id)))
        for gone in [*self._runs][:-RUNS]:
            del self._runs[gone]
        self._open = next((run.id for run in runs if not run.ended), "")
        return bool(self._open)


def brought(runs: list[Run], release: str) -> Run | None:
    """The deploy that brought the live release.

    None when that came back, by a rollback or because the next one was undone: it is not what was changed last.
    """
    newest = next((run for run in runs if run.ended and run.plan.steps), None)
    if newest is None or newest.plan.kind is not Kind.DEPLOY or newest.outcome is not Outcome.DONE:
        return None
    return newest if newest.plan.release == release else None
