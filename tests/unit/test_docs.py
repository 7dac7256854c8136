"""The documents say what is: every command, option, key and exit status; no link leads nowhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import nself_deploy
from nself_deploy.app.doctor import FindingLine, RepairLine, Report
from nself_deploy.app.inspect import RunStatus, SlotStatus, Status
from nself_deploy.app.replaying import Replay, RunReplay
from nself_deploy.cli.main import deploy, nself
from nself_deploy.core.alerts import Taken
from nself_deploy.core.audit import AuditEvent
from nself_deploy.core.audit import Report as AuditReport
from nself_deploy.core.audit_delivery import SinkLine
from nself_deploy.core.breaker import BreakerLine
from nself_deploy.core.deploy_keys import KeyLine
from nself_deploy.core.document import Document
from nself_deploy.core.plan_document import PlanDocument, ServiceLine, SettingLine
from nself_deploy.core.replay import Difference
from nself_deploy.core.rollback import RollbackDocument, RollbackUIState, ServiceRollback
from nself_deploy.core.settings import _KINDS, KNOWN_TARGETS
from nself_deploy.core.state import BlueGreenState, RollbackState, StrategyState
from nself_deploy.core.step_lines import StepLine
from nself_deploy.core.watch_document import AlertLine as WatchedAlert
from nself_deploy.core.watch_document import ObjectiveLine, WatchDocument
from nself_deploy.core.web import AlertLine, ServedLine
from nself_deploy.errors import Exit
from tests.unit.house import ROOT, files, shown

DOCS = ROOT / "docs"
MARKDOWN = [p for p in files(".") if p.suffix == ".md"]


def read(name: str) -> str:
    return (DOCS / name).read_text()


def section(text: str, heading: str) -> str:
    """What stands below a heading, up to the next one of any level."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


def first_cells(text: str) -> list[str]:
    """The words in code marks in the first cells of a table's rows."""
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return [word for cell in rows for word in re.findall(r"`([^`]+)`", cell)]


def commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """The commands of `nself deploy`, and itself, as their headings call them."""
    assert isinstance(deploy, click.Group)
    top = click.Context(nself, info_name="nself", help_option_names=["-h", "--help"])
    context = click.Context(deploy, info_name="deploy", parent=top)
    run = deploy.get_command(context, "run")
    assert run is not None
    yield "nself deploy [TARGET]", run, context
    for name in deploy.list_commands(context):
        command = deploy.get_command(context, name)
        assert command is not None
        own = click.Context(command, info_name=name, parent=context)
        yield f"nself deploy {name}{words_of(command, own)}", command, own
        if isinstance(command, click.Group):
            for part, inner in command.commands.items():
                below = click.Context(inner, info_name=part, parent=own)
                yield f"nself deploy {name} {part}{words_of(inner, below)}", inner, below


def words_of(command: click.Command, context: click.Context) -> str:
    """What a command is given beside options."""
    return "".join(f" {p.make_metavar(context)}" for p in command.params if isinstance(p, click.Argument))


COMMANDS = list(commands())


@pytest.mark.parametrize(("heading", "command", "context"), COMMANDS, ids=[c[0] for c in COMMANDS])
def test_every_command_and_option_is_documented_and_has_help(
    heading: str, command: click.Command, context: click.Context
) -> None:
    text = read("reference/cli.md")
    below = section(text, heading)

    assert command.help and command.help.rstrip().endswith(".")
    for option in (p for p in command.get_params(context) if isinstance(p, click.Option)):
        assert option.help, option.name
        everywhere = option.opts in (["--json"], ["-C"]) or "--help" in option.opts
        where = text.split("## ", 1)[0] if everywhere else below
        value = "" if option.is_flag else f" {option.make_metavar(context)}"
        for word in option.opts:
            assert f"`{word}{value}`" in where or f"`{word}`" in where, f"{heading}: {word}{value}"


def test_the_lists_of_commands_have_short_sentences() -> None:
    shorts = [command.short_help or "" for heading, command, _ in COMMANDS if heading.split()[-1] != "[TARGET]"]

    assert [s for s in shorts if not s.endswith(".") or len(s) > 70] == []


def test_every_exit_status_is_documented_with_what_to_do() -> None:
    table = section(read("reference/cli.md"), "Exit status")
    rows = {int(found[0]): found[1] for found in re.findall(r"^\| (\d+) \| (.+) \|$", table, re.MULTILINE)}

    assert set(rows) == {int(status) for status in Exit}
    assert all("exit-statuses.md#" in row or "Reserved" in row for status, row in rows.items() if status)


def test_every_variable_of_a_setting_is_documented() -> None:
    documented = set(first_cells(section(read("reference/cli.md"), "Environment")))

    assert {kind.environment for kind in _KINDS.values() if kind.environment} <= documented


@pytest.mark.parametrize(
    ("heading", "keys"),
    [
        ("The deploy document", Document.__struct_fields__),
        ("A step", StepLine.__struct_fields__),
        ("The status document", Status.__struct_fields__),
        ("A slot", SlotStatus.__struct_fields__),
        ("A run", RunStatus.__struct_fields__),
        ("An audit event", AuditEvent.__struct_fields__),
        ("The audit check", AuditReport.__struct_fields__),
        ("An audit sink", SinkLine.__struct_fields__),
        ("A deploy key", KeyLine.__struct_fields__),
        ("A breaker", BreakerLine.__struct_fields__),
        ("A line of serve", ServedLine.__struct_fields__),
        ("The state of a rollback", ServiceRollback.__struct_fields__),
        ("An answer to an alert", AlertLine.__struct_fields__),
        ("The doctor document", Report.__struct_fields__),
        ("The replay document", Replay.__struct_fields__),
        ("A replayed run", RunReplay.__struct_fields__),
        ("A difference", Difference.__struct_fields__),
        ("A finding", FindingLine.__struct_fields__),
        ("A repair", RepairLine.__struct_fields__),
        ("The init document", ("files", "routes", "override", "notes", "done")),
        (
            "The rollback document",
            [k for k in RollbackDocument.__struct_fields__ if k not in Document.__struct_fields__],
        ),
        ("The watch document", [k for k in WatchDocument.__struct_fields__ if k not in Document.__struct_fields__]),
        ("An objective", ObjectiveLine.__struct_fields__),
        ("An alert", WatchedAlert.__struct_fields__),
        ("The plan document", [k for k in PlanDocument.__struct_fields__ if k not in Document.__struct_fields__]),
    ],
)
def test_the_keys_of_json_documents_are_those(heading: str, keys: tuple[str, ...]) -> None:
    assert first_words(section(read("reference/json.md"), heading)) == list(keys)


def first_words(text: str) -> list[str]:
    """The first word in code marks of each row of a table."""
    return re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE)


@pytest.mark.parametrize(("key", "struct"), [("services", ServiceLine), ("settings", SettingLine)])
def test_the_keys_of_a_plans_lists_are_those(key: str, struct: type[ServiceLine | SettingLine]) -> None:
    row = next(line for line in read("reference/json.md").splitlines() if line.startswith(f"| `{key}` | list of"))

    assert [f"`{name}`" in row for name in struct.__struct_fields__] == [True] * len(struct.__struct_fields__)


@pytest.mark.parametrize("struct", [StrategyState, BlueGreenState, RollbackState])
def test_the_keys_of_state_files_are_documented(struct: type) -> None:
    documented = first_cells(section(read("reference/files.md"), "For other programs"))

    assert set(struct.__struct_fields__) <= set(documented)


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub and others make them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower().replace("`", "")).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("path", MARKDOWN, ids=[shown(p) for p in MARKDOWN])
def test_no_link_leads_nowhere(path: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", path.read_text()):
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path

        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("path", MARKDOWN, ids=[shown(p) for p in MARKDOWN])
def test_documents_use_commands_that_exist(path: Path) -> None:
    known = {heading.split()[2] for heading, *_ in COMMANDS} | set(KNOWN_TARGETS) | {"production"}
    for word in re.findall(r"(?:^|`)(?:[A-Z_]+=\S+ )*nself deploy ([a-z][a-z-]+)", path.read_text(), re.MULTILINE):
        assert word in known, f"{shown(path)}: nself deploy {word}"


def test_the_python_in_the_readme_is_python_and_uses_public_names() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)

    assert blocks
    for block in blocks:
        compile(block, "README.md", "exec")
        for names in re.findall(r"from nself_deploy import (.+)", block):
            assert set(names.split(", ")) <= set(nself_deploy.__all__)


def test_the_changelog_knows_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()

    assert "## [Unreleased]" in text
    assert re.search(rf"^## \[?(Unreleased|{re.escape(nself_deploy.__version__)})\]?", text, re.MULTILINE)
    for line in re.findall(r"^- .+(?:\n  .+)*", section(text, "Added"), re.MULTILINE):
        assert line.rstrip().endswith("."), line


def test_every_state_of_a_rollback_is_documented() -> None:
    assert first_cells(section(read("how-to/rollback.md"), "One service, by a program")) == list(RollbackUIState)


def test_what_becomes_of_an_alert_is_documented() -> None:
    assert set(first_cells(section(read("how-to/serve.md"), "Alertmanager"))) == {"outcome", *Taken}
