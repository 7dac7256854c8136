"""The state files: keys as documented, never half read, never taken for a fresh install."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nself_deploy.adapters import state_files as files
from nself_deploy.core import state as states
from nself_deploy.core.model import Slot, Strategy
from nself_deploy.core.state import (
    BLUE_GREEN_STATE_FILE,
    DEPLOY_STATE_FILE,
    ZERO_TIME,
    BlueGreenState,
    RollbackState,
    StrategyState,
    decode_deploy_state,
    encode_deploy_state,
    format_time,
    parse_time,
)
from nself_deploy.errors import Exit, StateFileError, UsageError

MOMENT = datetime(2026, 11, 22, 21, 30, 0, 250_000, tzinfo=UTC)
STATE = StrategyState(
    schema_version=1,
    strategy=Strategy.CANARY,
    target="prod",
    started_at=MOMENT,
    completed_at=MOMENT,
    success=False,
    canary_percent=0,
    rolled_back=True,
    error="web: answered 503",
    blue_green_state_file=BLUE_GREEN_STATE_FILE,
)
WRITTEN_IN_GO = b"""{
  "schema_version": 1,
  "strategy": "blue-green",
  "target": "staging",
  "started_at": "2026-05-11T10:00:00.123456789+02:00",
  "completed_at": "0001-01-01T00:00:00Z",
  "success": false,
  "canary_percent": 0,
  "rolled_back": false
}"""


def deploy_file(root: Path, data: bytes) -> Path:
    path = root / DEPLOY_STATE_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_the_deploy_state_has_the_documents_keys_and_comes_back(tmp_path: Path) -> None:
    files.save_deploy_state(tmp_path, STATE)
    path = tmp_path / DEPLOY_STATE_FILE

    assert json.loads(path.read_text()) == {
        "schema_version": 1,
        "strategy": "canary",
        "target": "prod",
        "started_at": "2026-11-22T21:30:00.250000Z",
        "completed_at": "2026-11-22T21:30:00.250000Z",
        "success": False,
        "canary_percent": 0,
        "rolled_back": True,
        "error": "web: answered 503",
        "blue_green_state_file": ".nself/bluegreen/state.json",
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert files.load_deploy_state(tmp_path) == STATE


def test_empty_texts_are_left_out_and_missing_times_are_the_zero_time(tmp_path: Path) -> None:
    files.save_deploy_state(str(tmp_path), StrategyState())

    assert json.loads((tmp_path / DEPLOY_STATE_FILE).read_text()) == {
        "schema_version": 1,
        "strategy": "",
        "target": "",
        "started_at": "0001-01-01T00:00:00Z",
        "completed_at": "0001-01-01T00:00:00Z",
        "success": False,
        "canary_percent": 0,
        "rolled_back": False,
    }
    assert files.load_deploy_state(tmp_path) == StrategyState(schema_version=1)


def test_no_file_is_a_zero_value_and_makes_nothing(tmp_path: Path) -> None:
    assert files.load_deploy_state(tmp_path) == StrategyState()
    assert files.load_blue_green_state(tmp_path) == BlueGreenState()
    assert files.load_rollback_state(tmp_path, "prod", "api") == RollbackState()
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_program_in_another_zone(tmp_path: Path) -> None:
    deploy_file(tmp_path, WRITTEN_IN_GO)
    state = files.load_deploy_state(tmp_path)

    assert state.strategy is Strategy.BLUE_GREEN
    assert state.started_at == datetime(2026, 5, 11, 8, 0, 0, 123_457, tzinfo=UTC)
    assert state.completed_at == ZERO_TIME


@pytest.mark.parametrize("number", [b"", b'"schema_version": 0,'])
def test_a_file_without_a_number_is_legacy(tmp_path: Path, number: bytes) -> None:
    deploy_file(tmp_path, b'{%s "strategy": "rolling", "target": "local", "success": true}' % number)

    assert files.load_deploy_state(tmp_path) == StrategyState(strategy=Strategy.ROLLING, target="local", success=True)


def test_a_key_more_is_an_addition(tmp_path: Path) -> None:
    deploy_file(tmp_path, WRITTEN_IN_GO.replace(b'"target"', b'"colour": {"a": [1]}, "target"'))

    assert files.load_deploy_state(tmp_path).target == "staging"


def test_a_file_cut_anywhere_is_an_error_that_names_it(tmp_path: Path) -> None:
    whole = encode_deploy_state(STATE)
    for length in range(len(whole.rstrip())):
        path = deploy_file(tmp_path, whole[:length])
        with pytest.raises(StateFileError) as caught:
            files.load_deploy_state(tmp_path)
        assert str(caught.value).startswith(f"{path}: "), length
        assert caught.value.exit_status is Exit.USAGE and caught.value.remedy
        assert path.read_bytes() == whole[:length]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\0" * 400, "malformed"),
        (b"strategy: canary", "malformed"),
        (b"[]", "Expected `object`"),
        (b"null", "Expected `object`"),
        (b"{}", "no key 'strategy'"),
        (b'{"a": "\xff"}', "can't be read"),
        (b'{"a": ' * 100_000, "can't be read"),
        (WRITTEN_IN_GO + WRITTEN_IN_GO, "malformed"),
        (WRITTEN_IN_GO.replace(b'"success": false,', b""), "no key 'success'"),
        (WRITTEN_IN_GO.replace(b'"success": false', b'"success": "no"'), "$.success"),
        (WRITTEN_IN_GO.replace(b'"success": false', b'"success": null'), "$.success"),
        (WRITTEN_IN_GO.replace(b'"canary_percent": 0', b'"canary_percent": "10"'), "$.canary_percent"),
        (WRITTEN_IN_GO.replace(b'"canary_percent": 0', b'"canary_percent": 101'), "0 to 100, not 101"),
        (WRITTEN_IN_GO.replace(b'"canary_percent": 0', b'"canary_percent": -1'), "0 to 100, not -1"),
        (WRITTEN_IN_GO.replace(b'"blue-green"', b'"purple"'), "'purple'"),
        (WRITTEN_IN_GO.replace(b'"blue-green"', b"null"), "no value for 'strategy'"),
        (WRITTEN_IN_GO.replace(b'"blue-green"', b"7"), "$.strategy"),
        (WRITTEN_IN_GO.replace(b"0001-01-01T00:00:00Z", b"yesterday"), "$.completed_at"),
        (WRITTEN_IN_GO.replace(b"0001-01-01T00:00:00Z", b"2026-01-01T00:00:00"), "without a zone"),
        (WRITTEN_IN_GO.replace(b"0001-01-01T00:00:00Z", b"0001-01-01T00:00:00+02:00"), "out of range"),
        (WRITTEN_IN_GO.replace(b'"schema_version": 1', b'"schema_version": 2'), "newer version (schema_version 2"),
        (b'{"schema_version": 9, "all": "else differs"}', "newer version (schema_version 9"),
        (WRITTEN_IN_GO.replace(b'"schema_version": 1', b'"schema_version": -1'), "schema_version -1"),
        (WRITTEN_IN_GO.replace(b'"schema_version": 1', b'"schema_version": "1"'), "$.schema_version"),
        (WRITTEN_IN_GO.replace(b'"schema_version": 1', b'"schema_version": true'), "$.schema_version"),
        (b" " * (2 << 20), "larger than"),
    ],
)
def test_what_is_not_a_state_is_an_error_that_says_why(tmp_path: Path, data: bytes, words: str) -> None:
    path = deploy_file(tmp_path, data)
    with pytest.raises(StateFileError) as caught:
        files.load_deploy_state(tmp_path)

    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)
    assert caught.value.remedy


def test_a_newer_file_is_answered_with_an_upgrade(tmp_path: Path) -> None:
    deploy_file(tmp_path, b'{"schema_version": 2}')
    with pytest.raises(StateFileError) as caught:
        files.load_deploy_state(tmp_path)

    assert caught.value.remedy == "Upgrade nself-deploy on this machine."


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: StrategyState(canary_percent=101),
        lambda: BlueGreenState(canary_percent=-1),
        lambda: StrategyState(started_at=datetime(2026, 1, 1)),
        lambda: StrategyState(strategy="weighted"),  # type: ignore[arg-type]
        lambda: encode_deploy_state(StrategyState(target="a\udc80")),
        lambda: encode_deploy_state(StrategyState(target=7)),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_value_is_refused_before_it_is_written(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError):
        wrong()


def test_words_become_what_they_name() -> None:
    state = StrategyState(strategy="rolling", started_at="2026-11-22T22:30:00.25+01:00")  # type: ignore[arg-type]

    assert state.strategy is Strategy.ROLLING
    assert state.started_at == MOMENT and state.started_at.tzinfo is UTC
    assert BlueGreenState(active="green").active is Slot.GREEN  # type: ignore[arg-type]


def test_an_error_is_stored_whatever_is_in_it() -> None:
    state = StrategyState(error="caf\udce9 " + "x" * 50_000)
    stored = decode_deploy_state(encode_deploy_state(state), "x").error

    assert stored.startswith("caf? x") and stored.endswith("[cut]") and len(stored) < 17_000


def test_blue_green_and_rollback_states_come_back(tmp_path: Path) -> None:
    split = BlueGreenState(Slot.BLUE, "r1", "r2", 10, MOMENT, ZERO_TIME)
    prior = RollbackState("shop-api:1", "sha256:abc", MOMENT)
    files.save_blue_green_state(tmp_path, split)
    files.save_rollback_state(tmp_path, "prod", "api", prior)

    assert json.loads((tmp_path / BLUE_GREEN_STATE_FILE).read_text()) == {
        "active": "blue",
        "blue_version": "r1",
        "green_version": "r2",
        "canary_percent": 10,
        "last_deploy": "2026-11-22T21:30:00.250000Z",
        "last_rollback": "0001-01-01T00:00:00Z",
    }
    assert json.loads((tmp_path / ".nself/rollback-state/prod/api.json").read_text()) == {
        "prior_tag": "shop-api:1",
        "prior_hash": "sha256:abc",
        "updated_at": "2026-11-22T21:30:00.250000Z",
    }
    assert files.load_blue_green_state(tmp_path) == split
    assert files.load_rollback_state(tmp_path, "prod", "api") == prior
    assert {oct(p.stat().st_mode) for p in tmp_path.rglob("*.json")} == {"0o100600"}
    assert {oct(p.stat().st_mode) for p in tmp_path.rglob("*") if p.is_dir()} == {"0o40711", "0o40700"}


@pytest.mark.parametrize("relative", [BLUE_GREEN_STATE_FILE, ".nself/rollback-state/prod/api.json"])
@pytest.mark.parametrize("data", [b"", b"{", b"{}", b"[]", b'{"schema_version": 2}', b'{"active": "purple"}'])
def test_the_other_files_are_as_strict(tmp_path: Path, relative: str, data: bytes) -> None:
    path = tmp_path / relative
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    with pytest.raises(StateFileError) as caught:
        if "rollback" in relative:
            files.load_rollback_state(tmp_path, "prod", "api")
        else:
            files.load_blue_green_state(tmp_path)

    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\nb", "a\0b", "-a", ".hidden", "é", "x" * 129, "a "])
def test_names_that_could_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    for environment, service in ((name, "api"), ("prod", name)):
        with pytest.raises(UsageError, match="is no (environment|service) name"):
            files.save_rollback_state(tmp_path, environment, service, RollbackState())
        with pytest.raises(UsageError):
            files.load_rollback_state(tmp_path, environment, service)
    assert list(tmp_path.iterdir()) == []


def test_a_linked_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".nself").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateFileError, match="is not a directory"):
        files.save_deploy_state(tmp_path, STATE)

    assert list((tmp_path / "elsewhere").iterdir()) == []


moments = st.datetimes(
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7)), timezone(timedelta(hours=5.5))]),
    min_value=datetime(2, 1, 1),
    max_value=datetime(9998, 1, 1),
)


@given(
    st.builds(
        StrategyState,
        schema_version=st.just(1),
        strategy=st.sampled_from([*Strategy, None]),
        target=st.text(),
        started_at=moments,
        completed_at=moments,
        success=st.booleans(),
        canary_percent=st.integers(0, 100),
        rolled_back=st.booleans(),
        error=st.text(),
        blue_green_state_file=st.text(),
    )
)
def test_every_state_comes_back_as_it_was(state: StrategyState) -> None:
    assert decode_deploy_state(encode_deploy_state(state), "x") == state


@given(moments)
def test_times_are_utc_with_milliseconds(moment: datetime) -> None:
    text = format_time(moment)

    assert text.endswith("Z") and len(text) == len("2026-11-22T21:30:00.250Z")
    assert abs(parse_time(text) - moment) < timedelta(milliseconds=1)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    for decode in (decode_deploy_state, states.decode_blue_green_state, states.decode_rollback_state):
        try:
            decode(data, "x")
        except StateFileError as error:
            assert str(error).startswith("x: ")
