"""Whatever goes wrong ends in one message, an exit status of the contract, and with --json in one document."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from nself_deploy import errors
from nself_deploy.cli import main as program
from nself_deploy.cli import observe, output
from nself_deploy.errors import Exit, NselfError

SECRET = "hunter2"


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """`nself deploy status` raises this."""

    def arrange(error: BaseException) -> None:
        def fail(**words: object) -> None:
            raise error

        monkeypatch.setattr(observe.status, "callback", fail)

    return arrange


def errors_of(kind: type[NselfError]) -> list[type[NselfError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in errors_of(child))]


@pytest.mark.parametrize("kind", [k for k in errors_of(NselfError) if k.__module__ == errors.__name__])
def test_each_error_has_its_status_and_one_message(
    kind: type[NselfError], raising: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    raising(kind("It went wrong.", "Do this.", where="a.yaml:3", evidence=("one", "two")))

    assert program.main(["deploy", "status"]) == kind.exit_status
    assert kind.exit_status is not Exit.OK
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "  one\n  two\nerror: a.yaml:3: It went wrong.\n  -> Do this.\n"


def test_with_json_the_document_is_on_stdout(
    raising: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    raising(errors.ConfigError("It went wrong.", "Do this.", where="a.yaml"))

    assert program.main(["deploy", "status", "--json"]) == 1
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["error"] == "a.yaml: It went wrong. Do this."
    assert (document["success"], document["steps"]) == (False, [])
    assert "It went wrong." in err


def test_a_name_that_is_no_text_fits_into_a_document() -> None:
    document = output.error_document(errors.ConfigError("is no directory.", where="\udcff.d"), "local", "blue-green")

    assert document.error == "\\udcff.d: is no directory."
    assert msgspec.json.encode(document)


def test_control_characters_of_others_do_not_reach_the_terminal(
    raising: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    raising(errors.DeployFailed("It\x1b[2Jwent\x9b wrong.", evidence=("web | \x1b]0;title\x07 tab\there",)))

    assert program.main(["deploy", "status"]) == 5
    err = capsys.readouterr().err
    assert not {c for c in err if not c.isprintable()} - {"\n", "\t"}
    assert "\\x1b[2J" in err and "tab\there" in err


def test_ctrl_c_is_130(raising: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]) -> None:
    raising(KeyboardInterrupt())

    assert program.main(["deploy", "status"]) == 130
    assert "error: Interrupted" in capsys.readouterr().err


# Bugs.


def test_a_bug_is_one_line_and_its_traceback_is_kept_for_the_user(
    raising: Callable[[BaseException], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".nself").mkdir()
    raising(KeyError(SECRET))

    assert program.main(["deploy", "status", "-C", str(tmp_path), "--json"]) == 1
    out, err = capsys.readouterr()
    kept = tmp_path / ".nself/traceback.txt"
    assert "error: This is a bug in nself-deploy: KeyError in " in err and str(kept) in err
    assert "Traceback" not in err and SECRET not in err + out
    assert "This is a bug" in json.loads(out)["error"]
    assert "Traceback" in kept.read_text() and SECRET in kept.read_text()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_without_a_place_for_it_the_traceback_is_shown_on_demand(
    raising: Callable[[BaseException], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raising(ZeroDivisionError())

    assert program.main(["deploy", "status", "-C", str(tmp_path)]) == 1
    assert "Set NSELF_DEPLOY_TRACEBACK=1, run it again" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []

    monkeypatch.setenv("NSELF_DEPLOY_TRACEBACK", "1")
    assert program.main(["deploy", "status", "-C", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err and "report it with the traceback above" in err


# Output that does not get through.


@pytest.fixture
def nothing_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "_LOST", [])


def test_a_reader_who_left_is_not_told(nothing_lost: None) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        output.emit(stream, "one\n")
        output.emit(stream, "two\n")

    assert output.lost_output() == ""


def test_a_full_disk_below_the_output_is_an_error(
    nothing_lost: None,
    raising: Callable[[BaseException], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        monkeypatch.setattr(observe.status, "callback", lambda **words: output.emit(full, "one\n"))
        assert program.main(["deploy", "status"]) == 2

    assert "The output could not be written: No space left on device" in capsys.readouterr().err


def test_a_stream_without_a_descriptor_is_no_trouble(nothing_lost: None) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    output.emit(Broken(), "one\n")

    assert output.lost_output() == ""
