"""The offsets of our tokenizer, against ngxparse and against the text itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import crossplane
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nself_deploy.core.nginx_syntax import Node, parse, top_level_value

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FILES = sorted(EXAMPLES.rglob("*.conf"))

PLAIN = st.from_regex(r"[a-zA-Z0-9_/.:$@=~^*?+,-]{1,8}", fullmatch=True).filter(lambda w: not w.endswith("$"))
QUOTED = st.text(st.sampled_from("ab {};#$'\n\t/"), max_size=8).map(lambda t: f'"{t}"')
WORDS = st.lists(st.one_of(PLAIN, QUOTED), max_size=3)
NAMES = st.from_regex(r"[a-z_]{1,8}", fullmatch=True).filter(lambda n: n not in ("if", "include") and "lua" not in n)
SPACES = st.sampled_from([" ", "\n", "\t", "  # note ; { }\n", "\r\n"])


@st.composite
def directives(draw: Any, depth: int = 2) -> str:
    words = [draw(NAMES), *draw(WORDS)]
    text = draw(SPACES).join([draw(SPACES), *[w + " " for w in words]])
    if depth and draw(st.booleans()):
        inner = "".join(draw(st.lists(directives(depth=depth - 1), max_size=3)))
        return f"{text}{{{draw(SPACES)}{inner}}}{draw(SPACES)}"
    return f"{text};{draw(SPACES)}"


def same(nodes: list[Node], parsed: list[dict[str, Any]], text: str) -> None:
    for node, other in zip(nodes, [p for p in parsed if p["directive"] != "#"], strict=True):
        assert (node.name, node.line, node.args) == (other["directive"], other["line"], other["args"])
        assert text[node.start] not in " \n" and text[node.end - 1] in ";}"
        for word in node.words:
            piece = text[word.start : word.end]
            assert piece == word.value or piece[0] in "\"'"
        if node.body:
            assert text[node.body[0] - 1] == "{" and text[node.body[1]] == "}"
        same(node.children, other.get("block", []), text)


@given(st.lists(directives(), max_size=4).map("".join))
def test_both_parsers_agree_and_offsets_point_at_the_words(text: str) -> None:
    parsed = crossplane.parse_string(text, single=True, check_ctx=False, check_args=False)

    assert not parsed["errors"]
    same(parse(text, "x"), parsed["config"][0]["parsed"], text)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_real_files(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    parsed = crossplane.parse_string(text, single=True, check_ctx=False, check_args=False)

    same(parse(text, path.name), parsed["config"][0]["parsed"], text)


def test_what_stands_behind_a_directive_on_its_line_is_its_comment() -> None:
    nodes = parse("a 1; # one\nb 2;\n# two\nc { d; # three\n} # four\n", "x")

    assert [node.comment for node in nodes] == ["one", "", "four"]
    assert nodes[2].children[0].comment == "three"


def test_lua_is_left_alone() -> None:
    text = "server { content_by_lua_block { local a = { b = '}' } -- }\n } listen 80; }\nnext on;"
    nodes = parse(text, "x")

    assert [node.name for node in nodes] == ["server", "next"]
    assert [node.name for node in nodes[0].children] == ["content_by_lua_block", "listen"]


def test_a_value_at_the_top_level() -> None:
    assert top_level_value('pid "/run/my nginx.pid"; events {}', "pid", "x") == "/run/my nginx.pid"
    assert top_level_value("http { pid no; }", "pid", "x") == ""
