"""Settings of all tests."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import HealthCheck, settings

# What tests start runs compiled, as installed programs do: compiling anew at each start takes four times as long.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


# A busy machine may take its time: no test fails on how long an example needs. Continuous integration tries the same
# examples each time, so that it says something about the change; new ones are tried wherever somebody works.
settings.register_profile(
    "nself",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
    derandomize="CI" in os.environ,
)
settings.load_profile("nself")

LONGEST = (
    "test_living_with_compose",
    "test_adoption",
    "test_doctor",
    "test_draining",
    "test_shared_services",
    "test_rollback",
    "test_crash",
    "test_faults_disk",
    "test_projects",
    "test_engine_lock",
    "test_broken_candidates",
    "test_canary",
    "test_canary_pauses",
    "test_canary_candidates",
    "test_faults_hands",
    "test_faults_router",
    "test_bad_state",
    "test_faults_abort",
    "test_datasette",
    "test_results",
    "test_faults_engine",
    "test_cut_short",
    "test_faults_answers",
    "test_two_operators",
)
"""The files of real tests that take minutes, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: several workers take a file each, and none is to be left alone with a long one."""
    places = {f"real/{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get("/".join(item.path.parts[-2:]), len(places)))
