"""The state files that other programs read: whether they can be understood."""

from __future__ import annotations

from nself_deploy.app.world import World


def check_states(world: World, target: str) -> None:
    """The state files that a run of this target will write can be understood now.

    They are projections, and a deploy could do without: but one that is damaged, or that a newer version wrote, is
    somebody's evidence, and never overwritten in silence.

    Raises:
        StateFileError: one can't; names it.
    """
    world.states.load_deploy()
    world.states.load_blue_green()
    for service in sorted(world.project.services):
        world.states.load_rollback(target, service)
