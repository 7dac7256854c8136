"""What is not a port and must be under our control too: real time, random names; and pure functions, remembered."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import msgspec

from nself_deploy.adapters import docker_lock
from nself_deploy.app import baking, judging, lifecycle, runner, standby, traffic
from nself_deploy.core.nginx_tree import compile_tree
from nself_deploy.core.slots import compile_slot
from tests.simulation import router
from tests.simulation.locks import watched
from tests.simulation.world import SimWorld

_LIMIT = 3000
_trees: dict[bytes, dict[str, str]] = {}
_models: dict[bytes, dict[str, Any]] = {}


@contextlib.contextmanager
def deterministic(world: SimWorld) -> Iterator[None]:
    """While a history is played, nothing depends on anything but its schedule."""
    clock = SimpleNamespace(monotonic=lambda: world.now)
    names = SimpleNamespace(token_hex=lambda count: f"{world.number():0{2 * count}x}", randbelow=world.random.randrange)
    with (
        patch.object(runner, "time", clock),
        patch.object(runner, "secrets", names),
        patch.object(judging, "secrets", names),
        patch.object(baking, "secrets", names),
        patch.object(docker_lock, "secrets", names),
        patch.object(standby, "held", watched),
        patch.object(traffic, "compile_tree", remembered_tree),
        patch.object(router, "compile_tree", remembered_tree),
        patch.object(traffic, "fingerprint", remembered_print),
        patch.object(router, "fingerprint", remembered_print),
        patch.object(lifecycle, "compile_slot", remembered_slot),
    ):
        yield


def remembered_tree(spec: Any) -> dict[str, str]:
    """`compile_tree`, once for each spec."""
    return _kept(_trees, msgspec.msgpack.encode(spec), lambda: compile_tree(spec))


def remembered_print(files: dict[str, str]) -> str:
    """A fingerprint of files that `remembered_tree` gave: tree.conf says it."""
    return files["tree.conf"].rpartition('"')[0].rpartition('"')[2].removesuffix("\\n")


def remembered_slot(release: Any, *rest: Any) -> dict[str, Any]:
    """`compile_slot`, once for each release and network."""
    project, slot, networks, addresses, shared = rest
    known = (release, project, slot, networks, sorted(addresses.items()), sorted(shared))
    return _kept(_models, msgspec.msgpack.encode(known), lambda: compile_slot(release, *rest))


def _kept(kept: dict[bytes, Any], key: bytes, make: Callable[[], Any]) -> Any:
    if key not in kept:
        if len(kept) >= _LIMIT:
            kept.clear()
        kept[key] = make()
    return kept[key]
