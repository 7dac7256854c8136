"""What is asked for when one service is rolled back, and which state stands for which failure."""

from __future__ import annotations

import pytest

from nself_deploy import RollbackConfig, execute_rollback
from nself_deploy.core.rollback import STATUS, Request, RollbackUIState, checked, failed
from nself_deploy.errors import (
    ConfigError,
    DeployFailed,
    EngineError,
    Exit,
    ImageError,
    Interrupted,
    Locked,
    NselfError,
    RouterError,
    UsageError,
)


def locked(purpose: str) -> Locked:
    error = Locked("somebody is at work.")
    error.purpose = purpose
    return error


@pytest.mark.parametrize("name", ["", "a/b", "-web", "..", "we\nb", "web ", "a" * 200, ".web"])
def test_a_name_that_no_service_has_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        checked(name, "prod", "", 0)


@pytest.mark.parametrize("retries", [-1, 11])
def test_retries_out_of_range_are_refused(retries: int) -> None:
    with pytest.raises(UsageError, match="0 to 10 are possible"):
        checked("web", "prod", "", retries)


def test_defaults_and_one_line_of_reason() -> None:
    assert checked("ping_api", "prod", "a\n b", 0) == Request("ping_api", "prod", "a b", 1)
    assert checked("ping_api", "staging", "x" * 1000, 3) == Request("ping_api", "staging", "x" * 1000, 3)


def test_a_reason_that_is_too_long_is_refused_and_not_cut() -> None:
    with pytest.raises(UsageError, match=r"The reason has 1,001 characters: 1,000 are possible\."):
        checked("ping_api", "staging", "x" * 1001, 3)


@pytest.mark.parametrize(
    ("error", "state", "status"),
    [
        (locked("rollback of web (prod)"), RollbackUIState.LOADING, Exit.LOCKED),
        (locked("deploy (prod)"), RollbackUIState.ERROR, Exit.LOCKED),
        (EngineError("away"), RollbackUIState.OFFLINE, Exit.INFRASTRUCTURE),
        (RouterError("away"), RollbackUIState.ERROR, Exit.INFRASTRUCTURE),
        (ImageError("gone"), RollbackUIState.ERROR, Exit.INFRASTRUCTURE),
        (DeployFailed("ill"), RollbackUIState.ERROR, Exit.FAILED),
        (ConfigError("wrong"), RollbackUIState.ERROR, Exit.USAGE),
        (Interrupted("stopped"), RollbackUIState.ERROR, Exit.INTERRUPTED),
    ],
)
def test_which_state_a_failure_is(error: NselfError, state: RollbackUIState, status: Exit) -> None:
    assert failed(error) == (state, status)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (RollbackConfig("web", "k", environment="mars"), "no environment 'mars'"),
        (RollbackConfig("../web", "k"), "no name of a service"),
        (RollbackConfig("web", "k", max_retries=-1), "max_retries"),
    ],
)
def test_wrong_arguments_are_raised(config: RollbackConfig, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        execute_rollback(config)


async def test_it_is_not_called_from_an_event_loop() -> None:
    with pytest.raises(UsageError, match="running event loop"):
        execute_rollback(RollbackConfig("web", "k"))


def test_every_state_has_an_exit_status_of_its_own() -> None:
    assert set(STATUS) == set(RollbackUIState)
    assert len(set(STATUS.values())) == len(RollbackUIState)
