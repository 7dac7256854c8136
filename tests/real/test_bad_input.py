"""What can't be right is refused before anything is done, through the real command line.

Each refusal has the contract's exit status, one message that names file, key and remedy, and changes nothing at all.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.real.contract import check_document
from tests.real.scene import check_message, check_same, edit, facts, nself_argv, refused, tiny, with_mounts
from tests.real.stack import ROOT, Stack

pytestmark = pytest.mark.real

COMPOSE = ROOT / "tests/projects/tiny/compose.yaml"


@pytest.fixture(scope="module")
def project() -> Iterator[Stack]:
    """The tiny project after `init`, before its first deploy."""
    stack = tiny()
    yield stack
    stack.remove()


@pytest.fixture
def stack(project: Stack) -> Iterator[Stack]:
    """The same; whatever a test does to its Compose file is taken back."""
    yield project
    shutil.copy(COMPOSE, project.root)


@dataclass(frozen=True)
class Case:
    """One mistake: what it changes, and how it is refused."""

    name: str
    status: int
    says: tuple[str, ...]
    change: Callable[[Stack], object] = lambda stack: None
    words: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)


def appended(text: str) -> Callable[[Stack], object]:
    return lambda stack: (stack.root / "compose.yaml").write_text(COMPOSE.read_text() + text)


def keyed(text: str) -> Callable[[Stack], object]:
    """`x-nself-deploy` with one line; that is line 30 of the file."""
    return appended(f"\nx-nself-deploy:\n  {text}\n")


def replaced(old: str, new: str) -> Callable[[Stack], object]:
    return lambda stack: edit(stack, old, new)


FILES = [
    Case("no Compose file", 1, ("There is no Compose file", "name it with -C"),
         lambda stack: (stack.root / "compose.yaml").unlink()),
    Case("invalid YAML", 1, ("compose.yaml:28: Compose refuses it: invalid YAML", "Correct it"),
         appended("  bad: [\n")),
    Case("not a Compose key", 1, ("compose.yaml: Compose refuses it: services.web Additional property imagee",
                                  "Correct it"), replaced("  web:\n", "  web:\n    imagee: x\n")),
    Case("a name that Compose refuses", 1, ("compose.yaml: Compose refuses the project's name", "COMPOSE_PROJECT_NAME"),
         env={"COMPOSE_PROJECT_NAME": "Bad Name"}),
    Case("unknown key", 1, ("compose.yaml:30: x-nself-deploy.drian: Unknown key 'drian'", "Did you mean drain?"),
         keyed("drian: 3s")),
    Case("unknown key of a service", 1, ("compose.yaml:9: services.web.x-nself-deploy.rolle: Unknown key",
                                         "Did you mean role?"),
         replaced("  web:\n", "  web:\n    x-nself-deploy: {rolle: app}\n")),
    Case("wrong type", 1, ("compose.yaml:30: x-nself-deploy.routes: 3 is not a list", "-> "), keyed("routes: 3")),
    Case("missing key", 1, ("compose.yaml:30: x-nself-deploy.routes[0]: The key 'port' is missing", "-> Add it"),
         keyed("routes: [{service: web}]")),
    Case("not a duration", 1, ("compose.yaml:30: x-nself-deploy.health_timeout: 'soon'", "write it like 30s"),
         keyed("health_timeout: soon")),
    Case("duration out of range", 1, ("compose.yaml:30: x-nself-deploy.drain: 216h is out of range", "From 1s to 1h"),
         keyed("drain: 9d")),
    Case("port out of range", 1, ("compose.yaml:30: x-nself-deploy.router.probe_port: 99999 is out of range",
                                  "at most 65535"), keyed("router: {probe_port: 99999}")),
    Case("no such strategy", 1, ("compose.yaml:30: x-nself-deploy.strategy: 'purple' is not possible",
                                 "Choose one of rolling, blue-green"), keyed("strategy: purple")),
    Case("strategy of a later version", 1, ("compose.yaml: x-nself-deploy.strategy: ", "strategy rolling yet",
                                            "Use --strategy blue-green or canary"), keyed("strategy: rolling")),
    Case("route to nothing", 1, ("compose.yaml:30: x-nself-deploy.routes[0].service", "'nobody', which does not exist",
                                 "Services: router, store, web"),
         keyed("routes: [{service: nobody, port: 80}]")),
    Case("routed and shared", 1, ("compose.yaml:30: x-nself-deploy.routes[0].service: store is a shared service",
                                  "Remove the route"), keyed("routes: [{service: store, port: 80}]")),
    Case("two routers", 1, ("services.second: Two services look like the router: router", "role: router"),
         replaced("  store:\n", "  second:\n    image: nginx:1.30-alpine\n    ports: ['127.0.0.1::80']\n  store:\n")),
    Case("two declared routers", 1, ("x-nself-deploy.role: Two services are declared as the router: router and store",
                                     "Keep the one"),
         lambda stack: (edit(stack, "  store:\n", "  store:\n    x-nself-deploy: {role: router}\n"),
                        edit(stack, "  router:\n", "  router:\n    x-nself-deploy: {role: router}\n"))),
    Case("probe port of the site", 1, ("nginx/site.conf:4: The site listens on port 80",
                                       "Set x-nself-deploy.router.probe_port"), keyed("router: {probe_port: 80}")),
    Case("nothing to deploy", 1, ("There is no app service", "role: app"),
         replaced("  web:\n", "  web:\n    x-nself-deploy: {role: shared}\n")),
]  # fmt: skip

WORDS = [
    Case("no such directory", 1, ("/nowhere: is not a directory", "Name the directory"), words=("-C", "/nowhere")),
    Case("an empty name of a directory", 1, ("-C: The name of the project's directory is empty", "leave out -C"),
         words=("-C", "")),
    Case("no such command", 1, ("There is no command and no target 'statsu'", "Did you mean status?"),
         words=("statsu",)),
    Case("no such target", 1, ("There is no command and no target 'moon'", "Targets: local, staging, prod"),
         words=("moon",)),
    Case("no target at all", 1, ("TARGET: 'Prod!' is not a target", "local, staging, prod"), words=("Prod!",)),
    Case("prod, and nobody to ask", 4, ("prod needs a yes", "Add --yes"), words=("prod",)),
    Case("production is prod", 4, ("prod needs a yes",), words=("rollback", "production")),
    Case("no such flag", 1, ("No such option '--nope'", "See nself deploy --help"), words=("--nope",)),
    Case("a word too many", 1, ("unexpected extra argument (again)", "See nself deploy status --help"),
         words=("status", "again")),
    Case("flag: strategy", 1, ("--strategy: This version can't deploy with the strategy preview", "blue-green"),
         words=("--strategy", "preview")),
    Case("flag: duration", 1, ("--drain: '2h' is out of range: 1s to 1h is possible",), words=("--drain", "2h")),
    Case("variable: strategy", 1, ("NSELF_DEPLOY_STRATEGY: This version can't deploy with the strategy rolling",
                                   "Use --strategy blue-green"), env={"NSELF_DEPLOY_STRATEGY": "rolling"}),
    Case("shares that don't grow", 1, ("--steps: 10 % after 50 % does not grow", "-> Write shares that grow to 100"),
         words=("--strategy", "canary", "--steps", "50,10,100")),
    Case("shares that don't end in 100", 1, ("x-nself-deploy.steps: it ends with 50 % of the traffic", "grow to 100"),
         keyed("steps: '10,50'"), words=("--strategy", "canary")),
    Case("variable: threshold", 1, ("NSELF_CANARY_ERROR_THRESHOLD: '101' is out of range: 0.001 to 100 is possible",),
         words=("--strategy", "canary"), env={"NSELF_CANARY_ERROR_THRESHOLD": "101"}),
    Case("threshold in the file", 1, ("x-nself-deploy.analysis", "slo_error_rate: 2.0 is out of range: 1e-05 to 0.5"),
         keyed("analysis: {slo_error_rate: 2.0}"), words=("--strategy", "canary")),
    Case("variable: percent", 1, ("NSELF_CANARY_PERCENT: '150' is out of range: 1 to 99 is possible",),
         env={"NSELF_CANARY_PERCENT": "150"}),
    Case("variable: duration", 1, ("NSELF_DEPLOY_HEALTH_TIMEOUT: 'abc' is not a duration", "write it like 30s"),
         env={"NSELF_DEPLOY_HEALTH_TIMEOUT": "abc"}),
    Case("variable of a service", 1, ("HEALTHCHECK_TIMEOUT_WEB: '2h' is out of range: 1s to 1h is possible",),
         env={"HEALTHCHECK_TIMEOUT_WEB": "2h"}),
    Case("another host", 1, ("NSELF_DEPLOY_HOST_STAGING names another host", "Set DOCKER_HOST"),
         words=("staging",), env={"NSELF_DEPLOY_HOST_STAGING": "far.example"}),
    Case("nothing to go back to", 1, ("There is no previous release to go back to", "--to"), words=("rollback",)),
    Case("no such release", 1, ("There is no release 'x'", "The newest are: none"), words=("rollback", "--to", "x")),
]  # fmt: skip

ENGINE = [
    Case("no docker command", 2, ("There is no `docker` command", "Install Docker Engine"), env={"PATH": "/nowhere"}),
    Case("no engine there", 2, ("unix:///nowhere.sock (DOCKER_HOST) can't be reached: there is no such socket",
                                "Start Docker"), env={"DOCKER_HOST": "unix:///nowhere.sock"}),
    Case("nobody listens", 2, ("tcp://127.0.0.1:9 (DOCKER_HOST) can't be reached", "Start Docker"),
         env={"DOCKER_HOST": "tcp://127.0.0.1:9"}),
    Case("no address of an engine", 2, ("'nonsense' (from DOCKER_HOST) can't be used", "Use unix:///path"),
         env={"DOCKER_HOST": "nonsense"}),
    Case("no such context", 2, ('context "mars": context not found', "check DOCKER_HOST, the docker context"),
         env={"DOCKER_HOST": "", "DOCKER_CONTEXT": "mars"}),
]  # fmt: skip


@pytest.mark.parametrize("case", [*FILES, *WORDS, *ENGINE], ids=lambda case: case.name)
def test_it_is_refused_and_nothing_is_changed(case: Case, stack: Stack) -> None:
    case.change(stack)

    refused(stack, case.status, *case.says, words=case.words, **case.env)


@pytest.mark.parametrize("command", ["", "plan", "status", "rollback"])
def test_every_command_refuses_what_init_has_still_to_change(command: str) -> None:
    stack = tiny(init=False)
    try:
        says = ("nginx/site.conf:5: proxy_pass leads to web without a slot", "Run nself deploy init")
        refused(stack, 1, *says, words=tuple(filter(None, [command])))
    finally:
        stack.remove()


def test_an_nginx_that_sends_nothing_to_the_project(stack: Stack) -> None:
    """There is nothing to switch, and `init` says what to write."""
    conf = stack.root / "nginx/site.conf"
    kept = conf.read_text()
    conf.write_text("server { listen 80; location / { return 204; } }\n")
    try:
        refused(stack, 1, "compose.yaml: Nothing is routed", "Run nself deploy init")
        refused(stack, 1, "nginx/site.conf: No request is sent to an app service (web)", "proxy_pass http://web:PORT;",
                words=("init", "--yes"))  # fmt: skip
    finally:
        conf.write_text(kept)


@pytest.mark.parametrize(
    "case", [case for case in (*FILES, *WORDS, *ENGINE) if case.name in {
        "unknown key", "prod, and nobody to ask", "no such flag", "no engine there", "flag: duration"}],
    ids=lambda case: case.name,
)  # fmt: skip
def test_with_json_there_is_one_document_on_stdout_and_the_message_on_stderr(case: Case, stack: Stack) -> None:
    case.change(stack)

    outcome = refused(stack, case.status, *case.says, words=(*case.words, "--json"), **case.env)

    document = check_document(outcome, success=False)
    assert document["target"] == ("prod" if "prod" in case.words else "local")
    assert case.says[0] in document["error"]


@pytest.mark.parametrize("command", ["plan", "init", "watch"])
def test_json_is_a_document_for_every_command(command: str, stack: Stack) -> None:
    (stack.root / "compose.yaml").unlink()

    outcome = refused(stack, 1, "There is no Compose file", words=(command, "--json"))

    assert "There is no Compose file" in json.loads(outcome.out)["error"]


def test_a_docker_without_the_compose_plug_in(stack: Stack, tmp_path: Path) -> None:
    """The real docker command, with its plug-ins out of sight."""
    places = [f"/usr{place}/docker/cli-plugins" for place in ("/lib", "/libexec", "/local/lib", "/local/libexec")]
    found = [place for place in places if Path(place).is_dir()]
    before = facts(stack)
    argv = nself_argv()
    if found:
        argv = with_mounts("\n".join(f"mount -t tmpfs none {place}" for place in found), argv)

    outcome = stack.run(*argv, check=False, DOCKER_CONFIG=str(tmp_path), HOME=str(tmp_path))

    check_message(outcome, 2, "Docker has no Compose plug-in", "Install the Compose v2 plug-in")
    check_same(before, facts(stack))
