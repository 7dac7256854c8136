"""How words are read: sub-commands, targets, options in any order; and what is said about wrong ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from nself_deploy.cli import main as program
from nself_deploy.cli import observe, release, setup
from nself_deploy.cli.options import value_options

Call = tuple[str, dict[str, Any]]


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Which command was called with which parameters; none of them is performed."""
    calls: list[Call] = []
    for module, name in (
        (release, "run"),
        (release, "plan"),
        (release, "rollback"),
        (release, "promote"),
        (release, "pause"),
        (observe, "status"),
        (observe, "history"),
        (setup, "init"),
    ):
        command = getattr(module, name)
        monkeypatch.setattr(command, "callback", lambda _name=name, **words: calls.append((_name, words)))
    return calls


@pytest.mark.parametrize(
    ("words", "command", "expected"),
    [
        ("deploy", "run", {"target": None, "directory": ".", "yes": False}),
        ("deploy prod --yes", "run", {"target": "prod", "yes": True}),
        ("deploy --force prod", "run", {"target": "prod", "yes": True}),
        ("deploy -y production", "run", {"target": "production", "yes": True}),
        ("deploy local --strategy blue-green", "run", {"target": "local", "strategy": "blue-green"}),
        ("deploy --strategy=blue-green", "run", {"target": None, "strategy": "blue-green"}),
        ("deploy --drain 5s --standby 0 --dry-run", "run", {"drain": "5s", "standby": "0", "dry_run": True}),
        ("deploy --health-timeout 9s --min-uptime 1s", "run", {"health_timeout": "9s", "min_uptime": "1s"}),
        ("deploy status", "status", {"directory": ".", "as_json": False}),
        ("deploy -C dir status", "status", {"directory": "dir"}),
        ("deploy status -C dir --json", "status", {"directory": "dir", "as_json": True}),
        ("deploy --json -C dir status", "status", {"directory": "dir", "as_json": True}),
        ("deploy -C status", "run", {"directory": "status", "target": None}),
        ("deploy -C status status", "status", {"directory": "status"}),
        ("deploy --strategy plan plan staging", "plan", {"strategy": "plan", "target": "staging"}),
        ("deploy plan prod", "plan", {"target": "prod"}),
        ("deploy --to 20261122T213000-3fa9c2d1 rollback", "rollback", {"to": "20261122T213000-3fa9c2d1"}),
        ("deploy rollback prod -y", "rollback", {"target": "prod", "yes": True, "to": ""}),
        ("deploy --strategy canary --canary 5 --soak 2m", "run", {"canary": "5", "soak": "2m", "keep_failed": False}),
        ("deploy --steps 5,50,100 --bake 1m --keep-failed", "run", {"steps": "5,50,100", "keep_failed": True}),
        ("deploy --error-threshold 2 plan", "plan", {"error_threshold": "2"}),
        ("deploy promote --full", "promote", {"full": True, "accept": False, "reason": ""}),
        ("deploy --reason why promote --accept-inconclusive", "promote", {"accept": True, "reason": "why"}),
        ("deploy pause --json", "pause", {"as_json": True}),
        ("deploy --limit 3 history", "history", {"limit": 3}),
        ("deploy history", "history", {"limit": 20, "releases": False}),
        ("deploy history --releases", "history", {"releases": True}),
        ("deploy init --yes", "init", {"yes": True, "dry_run": False}),
        ("deploy init --dry-run --json", "init", {"yes": False, "dry_run": True, "as_json": True}),
    ],
)
def test_words_reach_their_command(words: str, command: str, expected: dict[str, Any], called: list[Call]) -> None:
    assert program.main(words.split()) == 0
    assert [name for name, _ in called] == [command]
    assert called[0][1].items() >= expected.items()


@pytest.mark.parametrize("argv", ["nself-deploy status", "/usr/local/bin/nself-deploy status", "nself deploy status"])
def test_both_programs_know_the_commands(argv: str, called: list[Call], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", argv.split())
    with pytest.raises(SystemExit) as stop:
        program.run()

    assert stop.value.code == 0
    assert [name for name, _ in called] == ["status"]


@pytest.mark.parametrize("argv", ["nself-deploy", "nself deploy"])
def test_without_a_command_it_is_a_deploy(argv: str, called: list[Call], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", argv.split())
    with pytest.raises(SystemExit):
        program.run()

    assert [name for name, _ in called] == ["run"]


@pytest.mark.parametrize("words", ["deploy --help", "deploy -h", "deploy prod --help", "deploy --json -h"])
def test_help_is_that_of_the_whole_group(words: str, called: list[Call], capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(words.split()) == 0

    out = capsys.readouterr().out
    assert not called
    assert "Options of a deploy:" in out and "rollback" in out and "Exit status:" in out


def test_help_of_a_command_is_its_own(called: list[Call], capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["deploy", "rollback", "--help"]) == 0

    out = capsys.readouterr().out
    assert not called
    assert out.startswith("Usage: nself deploy rollback [OPTIONS] [TARGET]")
    assert "--to RELEASE" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("deploy --bogus", "error: No such option '--bogus'.\n  -> See nself deploy --help."),
        ("deploy prod status", "unexpected extra argument (status)\n  -> See nself deploy --help."),
        ("deploy status --limit 3", "-> See nself deploy status --help."),
        ("deploy history --limit 0", "-> See nself deploy history --help."),
        ("deploy --drain", "error: Option '--drain' requires an argument.\n  -> See nself deploy --help."),
        ("bogus", "error: No such command 'bogus'.\n  -> See nself --help."),
    ],
)
def test_a_wrong_word_is_status_1_and_one_message(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(words.split()) == 1

    out, err = capsys.readouterr()
    assert out == ""
    assert said in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("statuss", "error: There is no command and no target 'statuss'.\n  -> Did you mean status? Targets: local, "),
        (
            "rollback dev",
            "error: There is no command and no target 'dev'.\n  -> Targets: local, staging, prod. Commands: ",
        ),
        (
            "--strategy rolling",
            "can't deploy with the strategy rolling yet.\n  -> Use --strategy blue-green or canary.",
        ),
        ("--strategy bluegreen", "error: --strategy: 'bluegreen' is not a strategy"),
        ("--drain never", "error: --drain: 'never' is not a duration"),
    ],
)
def test_what_cannot_be_deployed_is_refused_before_anything_is_read(
    words: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["deploy", "-C", str(tmp_path / "nowhere"), *words.split()]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--dry-run", "error: --dry-run: --dry-run does not go with --rollback; nothing was done."),
        ("--strategy canary", "error: --strategy: --strategy does not go with --rollback"),
        ("--keep-failed", "error: --keep-failed: --keep-failed does not go with --rollback"),
        ("--wait 5s", "error: --wait: --wait does not go with --rollback"),
        ("staging --env production", "error: --env: Is it staging or production?"),
    ],
)
def test_a_rollback_of_one_service_refuses_what_it_would_not_heed(
    words: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["deploy", "--rollback", "--service", "web", "-C", str(tmp_path), *words.split()]
    assert program.main(call) == 1
    assert said in capsys.readouterr().err


def test_prod_needs_a_yes_where_nobody_can_be_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["deploy", "production", "-C", str(tmp_path / "nowhere")]) == 4
    assert capsys.readouterr().err == "error: prod needs a yes.\n  -> Add --yes when nobody can be asked.\n"


def test_the_command_tree_is_made_of_commands() -> None:
    group = program.deploy
    assert isinstance(group, click.Group)
    context = click.Context(group, info_name="deploy")

    commands = [group.get_command(context, name) for name in group.list_commands(context)]
    assert {type(command).__name__ for command in commands} == {"Command", "PartsGroup"}
    assert group.get_command(context, "nonsense") is None


def test_a_directory_without_a_compose_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["deploy", "plan", "-C", str(tmp_path)]) == 1

    err = capsys.readouterr().err
    assert err.startswith(f"error: {tmp_path}: There is no Compose file")
    assert "-> Run nself in the directory of the Compose file, or name it with -C." in err


def test_every_option_with_a_value_is_known_where_commands_are_looked_for() -> None:
    """Else the value of one that stands before its command would be taken for the command."""
    with click.Context(program.deploy) as ctx:
        words = {word for command in commands(program.deploy, ctx) for word in valued(command)}
    assert words <= value_options()


def commands(group: click.Group, ctx: click.Context) -> Iterator[click.Command]:
    """All commands below a group."""
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        yield command
        if isinstance(command, click.Group):
            yield from commands(command, ctx)


def valued(command: click.Command) -> Iterator[str]:
    """The words of options that are followed by a value."""
    for option in command.params:
        if isinstance(option, click.Option) and not option.is_flag and not option.count:
            yield from option.opts
