"""Edits of users' nginx files, as data: each file below tests/golden/nginx/edits is a case.

A case has sections that begin with `=== `: the project (`=== project shop apps=web,api ...`), the files before
(`=== before NAME`), and what is expected: the difference, routes, warnings, problems. NSELF_REWRITE_GOLDENS=1 writes
what is expected from what is; read the difference before you commit it.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from nself_deploy.core.nginx_edit import EditPlan, Services, Sources, find_routes, plan_edit
from nself_deploy.errors import ConfigError

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "nginx" / "edits"
CASES = sorted(GOLDEN.glob("*.txt"))
DIRECTORY = "/var/lib/nself/router"


@dataclass(frozen=True)
class Case:
    intro: str
    options: dict[str, str]
    before: dict[str, str]
    expected: str

    @property
    def services(self) -> Services:
        def pairs(name: str) -> dict[str, str]:
            words = [w for w in self.options.get(name, "").split(",") if w]
            return {w.partition(":")[0]: w.partition(":")[2] or w for w in words}

        published = {}
        for word in filter(None, self.options.get("published", "").split(",")):
            port, service, own = word.split(":")
            published[int(port)] = (service, int(own))
        return Services(pairs("apps"), pairs("others"), published)

    @property
    def sources(self) -> Sources:
        foreign = self.options.get("foreign", "").split(",")
        main = self.options.get("main", "nginx.conf")
        shown = {f"/etc/nginx/{n}": f"nginx/{n}" for n in self.before if n not in foreign}
        return Sources(f"/etc/nginx/{main}", {f"/etc/nginx/{n}": t for n, t in self.before.items()}, shown)

    @property
    def version(self) -> tuple[int, ...]:
        return tuple(int(n) for n in self.options.get("version", "1.30.6").split("."))

    @property
    def cookie(self) -> bool:
        return "cookie" in self.options

    def plan(self, sources: Sources | None = None) -> EditPlan:
        project = self.options["project"]
        return plan_edit(sources or self.sources, self.services, project, DIRECTORY, self.version, cookie=self.cookie)

    def edited(self) -> Sources:
        edits = {edit.path: edit.new for edit in self.plan().edits}
        return replace(self.sources, files={**self.sources.files, **edits})


def read(path: Path) -> Case:
    intro, *parts = path.read_text(encoding="utf-8").split("\n=== ")
    options: dict[str, str] = {}
    before: dict[str, str] = {}
    expected = ""
    for part in parts:
        head, _, body = part.partition("\n")
        if head.startswith("project "):
            words = head.split()
            options = {"project": words[1], **dict(w.split("=", 1) for w in words[2:])}
        elif head.startswith("before "):
            before[head.removeprefix("before ")] = body + "\n"
        elif head == "expected":
            expected = body
    return Case(intro, options, before, expected)


def told(plan: EditPlan) -> str:
    lines: list[str] = []
    for edit in plan.edits:
        lines += difflib.unified_diff(
            edit.old.splitlines(), edit.new.splitlines(), edit.shown, edit.shown, lineterm="", n=2
        )
        lines += [f"why {reason}" for reason in edit.reasons]
    for route in plan.routes:
        lines.append(
            f"route {route.key} {route.service}:{route.port} {route.protocol} "
            f"keepalive={route.keepalive} from {route.source}"
        )
    lines += [f"warning {warning}" for warning in plan.warnings]
    lines += [f"problem {problem}" for problem in plan.problems]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_what_init_would_change(path: Path) -> None:
    case = read(path)
    found = told(case.plan())

    if os.environ.get("NSELF_REWRITE_GOLDENS"):
        head = path.read_text(encoding="utf-8").partition("\n=== expected\n")[0]
        path.write_text(f"{head}\n=== expected\n{found}", encoding="utf-8")
    assert found == read(path).expected


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_an_edited_file_needs_no_edit_and_says_its_routes(path: Path) -> None:
    case = read(path)
    plan = case.plan()
    again = case.plan(case.edited())
    found = find_routes(case.edited(), case.services, case.options["project"], DIRECTORY, cookie=case.cookie)

    if not plan.problems:
        assert again.edits == ()
        assert not found.problems
    kept = [(r.key, r.service, r.port, r.protocol, r.keepalive) for r in plan.routes]
    if not plan.problems:
        assert [(r.key, r.service, r.port, r.protocol, r.keepalive) for r in found.routes] == kept


def test_there_are_cases() -> None:
    assert len(CASES) >= 12


def edited_shop() -> tuple[Case, str]:
    case = read(GOLDEN / "shop.txt")
    return case, case.edited().files["/etc/nginx/conf.d/shop.conf"]


def routes_of(case: Case, text: str) -> list[str]:
    files = {**case.edited().files, "/etc/nginx/conf.d/shop.conf": text}
    found = find_routes(replace(case.sources, files=files), case.services, "shop", DIRECTORY)
    return [str(problem) for problem in found.problems]


LATER = {
    "unknown": (
        "$nself_shop_web_8000",
        "$nself_shop_wob_8000",
        "16: $nself_shop_wob_8000 leads nowhere: there is no such",
    ),
    "shared": (
        "$nself_shop_web_8000",
        "$nself_shop_db_5432",
        "16: $nself_shop_db_5432 leads nowhere: db is not an app",
    ),
    "path": (
        "$nself_shop_web_8000",
        "$nself_shop_web_8000/x",
        "16: with $nself_shop_web_8000 nginx would send /x in place",
    ),
    "fixed": (
        "http://$nself_shop_web_8000",
        "http://web:8000",
        "16: proxy_pass leads to web without a slot. Run nself",
    ),
    "include": (
        "    include /var/lib/nself/router/tree/server.conf;\n",
        "",
        "6: something is missing here: decides the slot",
    ),
    "cache": (
        "server_name _;\n",
        "server_name _;\n    open_file_cache max=9;\n",
        "10: something is missing here: a cached",
    ),
}


@pytest.mark.parametrize(("old", "new", "problem"), LATER.values(), ids=LATER.keys())
def test_later_changes_of_the_user_that_would_break_a_deploy_are_named(old: str, new: str, problem: str) -> None:
    case, text = edited_shop()

    assert routes_of(case, text) == []
    found = routes_of(case, text.replace(old, new, 1))
    assert any(text.startswith(f"nginx/conf.d/shop.conf:{problem}") for text in found), found


def test_the_default_access_log_is_repeated_only_where_nginx_would_have_used_it() -> None:
    case = read(GOLDEN / "shop.txt")
    main = "/etc/nginx/nginx.conf"
    without = "\n".join(line for line in case.edited().files[main].splitlines() if "access_log" not in line)

    def needs(files: dict[str, str]) -> bool:
        return find_routes(
            replace(case.sources, files=files), case.services, "shop", DIRECTORY
        ).needs_default_access_log

    assert not needs(dict(case.edited().files))
    assert needs({**case.edited().files, main: without})
    assert not needs({p: t for p, t in case.edited().files.items() if p != main})  # the image's main file has one


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("http {\n server { listen 80 }\n}\n", "nginx/nginx.conf:2"),
        ("http {\n", "nginx/nginx.conf:1"),
        ("http {}\n}\n", "nginx/nginx.conf:2"),
        ('http { map $a $b { "x y; } }', "nginx/nginx.conf:1"),
        ("http {\n ;\n}\n", "nginx/nginx.conf:2"),
    ],
)
def test_a_file_that_nginx_would_not_read(text: str, where: str) -> None:
    sources = Sources(
        "/etc/nginx/nginx.conf", {"/etc/nginx/nginx.conf": text}, {"/etc/nginx/nginx.conf": "nginx/nginx.conf"}
    )

    with pytest.raises(ConfigError) as caught:
        plan_edit(sources, Services({"web": "web"}), "shop", DIRECTORY)
    assert caught.value.where == where
    assert caught.value.remedy


def test_a_file_that_includes_itself() -> None:
    sources = Sources("/a.conf", {"/a.conf": "http { include a.conf; }\n"}, {"/a.conf": "a.conf"})

    with pytest.raises(ConfigError, match="includes itself"):
        plan_edit(sources, Services({}), "shop", DIRECTORY)
