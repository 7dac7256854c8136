"""nginx files as trees whose nodes know their place in the text, so that an edit can leave everything else alone.

Every file is parsed twice: by ngxparse, which knows nginx's grammar, and by the small tokenizer here, which knows
offsets. Where the two disagree nothing is edited.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import crossplane  # type: ignore[import-untyped]

from nself_deploy.errors import ConfigError

_SPACE = " \t\r\n"
_LUA = re.compile(r"""--\[\[.*?\]\]|--[^\n]*|\[\[.*?\]\]|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'""", re.DOTALL)
_ESCAPES = {"t": "\t", "r": "\r", "n": "\n", '"': '"', "'": "'", "\\": "\\"}


@dataclass(frozen=True)
class Word:
    """One word of a directive: its value, and where it is in the text (quotes included)."""

    value: str
    start: int
    end: int


@dataclass
class Node:
    """One directive."""

    file: str
    line: int
    words: list[Word]
    end: int = 0
    """Behind its `;` or `}`."""
    body: tuple[int, int] | None = None
    """Offsets behind `{` and of `}`; None for a directive without a block."""
    children: list[Node] = field(default_factory=list)
    comment: str = ""
    """The comment behind it on its line, without `#`."""

    @property
    def name(self) -> str:
        """The directive."""
        return self.words[0].value

    @property
    def args(self) -> list[str]:
        """Its parameters, unquoted."""
        return [word.value for word in self.words[1:]]

    @property
    def start(self) -> int:
        """Where it begins in the text."""
        return self.words[0].start

    def named(self, *names: str) -> list[Node]:
        """Its direct children with one of these names."""
        return [child for child in self.children if child.name in names]


def parse(text: str, file: str) -> list[Node]:
    """The directives of a file.

    Args:
        file: its name, for messages and in the nodes.

    Raises:
        ConfigError: it is not a valid nginx file (with file:line).
    """
    nodes = _Parser(text, file).run()
    payload = crossplane.parse_string(
        _without_code(text, nodes), filename="nginx.conf", single=True, check_ctx=False, check_args=False
    )
    for error in payload["errors"]:
        raise _invalid(str(error["error"]).split(" in ")[0], file, error["line"] or 1)
    _compare(nodes, payload["config"][0]["parsed"], file)
    return nodes


def top_level_value(text: str, name: str, file: str) -> str:
    """The first parameter of a directive at the top level of a file, empty when it isn't there."""
    return next((node.args[0] for node in parse(text, file) if node.name == name and node.args), "")


class _Parser:
    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        self._at = 0
        self._starts = [0, *(i + 1 for i, char in enumerate(text) if char == "\n")]

    def run(self) -> list[Node]:
        root = Node(self._file, 1, [Word("", 0, 0)])
        stack = [root]
        words: list[Word] = []
        for kind, word in self._tokens():
            if kind == "word":
                words.append(word)
            elif kind == "comment":
                self._attach(stack[-1], word)
            elif not words and kind != "}":
                raise _invalid(f"unexpected {kind!r}", self._file, self._line(word.start))
            elif kind == ";":
                self._close(Node(self._file, self._line(words[0].start), words), stack[-1], word.end)
                words = []
            elif kind == "{":
                node = Node(self._file, self._line(words[0].start), words, body=(word.end, word.end))
                stack[-1].children.append(node)
                words = []
                if node.name.endswith("_by_lua_block"):
                    self._skip_code(node)
                else:
                    stack.append(node)
            elif words or len(stack) == 1:
                what = f'no ";" behind {words[0].value!r}' if words else 'unexpected "}"'
                raise _invalid(what, self._file, self._line((words[0] if words else word).start))
            else:
                node = stack.pop()
                node.body, node.end = (node.body[0] if node.body else word.start, word.start), word.end
        if words or len(stack) > 1:
            what = f'no ";" behind {words[0].value!r}' if words else f'no "}}" for {stack[-1].name!r}'
            raise _invalid(what, self._file, self._line((words[0] if words else stack[-1].words[0]).start))
        return root.children

    def _close(self, node: Node, parent: Node, end: int) -> None:
        node.end = end
        parent.children.append(node)

    def _attach(self, parent: Node, word: Word) -> None:
        last = parent.children[-1] if parent.children else None
        if last is not None and last.end and "\n" not in self._text[last.end : word.start] and not last.comment:
            last.comment = word.value.strip()

    def _line(self, offset: int) -> int:
        low, high = 0, len(self._starts)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._starts[middle] <= offset else (low, middle)
        return low + 1

    def _tokens(self) -> Iterator[tuple[str, Word]]:
        text = self._text
        while self._at < len(text):
            start = self._at
            char = text[start]
            if char in _SPACE:
                self._at += 1
            elif char == "#":
                self._at = text.find("\n", start) if "\n" in text[start:] else len(text)
                yield "comment", Word(text[start + 1 : self._at], start, self._at)
            elif char in ";{}":
                self._at += 1
                yield char, Word(char, start, self._at)
            elif char in "\"'":
                yield "word", self._quoted(char)
            else:
                yield "word", self._bare()

    def _quoted(self, quote: str) -> Word:
        start = self._at
        value: list[str] = []
        self._at += 1
        while self._at < len(self._text) and self._text[self._at] != quote:
            value.append(self._char())
        if self._at >= len(self._text):
            raise _invalid(f"no closing {quote}", self._file, self._line(start))
        self._at += 1
        return Word("".join(value), start, self._at)

    def _bare(self) -> Word:
        start = self._at
        value: list[str] = []
        while self._at < len(self._text):
            char = self._text[self._at]
            if char in _SPACE or char == ";" or (char == "{" and not (value and value[-1] == "$")):
                break
            if char == "{":  # ${name}
                end = self._text.find("}", self._at)
                value.append(self._text[self._at : end + 1])
                self._at = end + 1
                continue
            value.append(self._char())
        return Word("".join(value), start, self._at)

    def _char(self) -> str:
        char = self._text[self._at]
        follows = self._text[self._at + 1 : self._at + 2]
        if char == "\\" and follows:
            self._at += 2
            return _ESCAPES.get(follows, char + follows)
        self._at += 1
        return char

    def _skip_code(self, node: Node) -> None:
        depth = 1
        while depth and self._at < len(self._text):
            word = _LUA.match(self._text, self._at)
            piece = word[0] if word else self._text[self._at]
            depth += {"{": 1, "}": -1}.get(piece, 0)
            self._at += len(piece)
        node.body, node.end = (node.body[0] if node.body else self._at, self._at - 1), self._at


def _compare(nodes: list[Node], parsed: list[dict[str, Any]], file: str) -> None:
    theirs = [item for item in parsed if item["directive"] != "#"]
    for ours, other in zip(nodes, theirs, strict=False):
        if ours.name != other["directive"] or ours.line != other["line"]:
            raise _unclear(file, ours.line)
        if not ours.name.endswith("_by_lua_block"):
            _compare(ours.children, other.get("block") or [], file)
    if len(nodes) != len(theirs):
        raise _unclear(file, nodes[-1].line if nodes else 1)


def _without_code(text: str, nodes: list[Node]) -> str:
    """The text with Lua replaced by spaces, for a parser that doesn't know Lua."""
    for node in nodes:
        if node.name.endswith("_by_lua_block") and node.body:
            code = text[node.body[0] : node.body[1]]
            text = text[: node.body[0]] + "".join(char if char == "\n" else " " for char in code) + text[node.body[1] :]
        text = _without_code(text, node.children)
    return text


def _invalid(what: str, file: str, line: int) -> ConfigError:
    return ConfigError(f"nginx would not read it: {what}.", "Mend it; nginx -t says more.", where=f"{file}:{line}")


def _unclear(file: str, line: int) -> ConfigError:
    return ConfigError(
        "it can be read in two ways.",
        "Write this directive in a plainer way (quotes, braces, semicolon).",
        where=f"{file}:{line}",
    )
