"""Small changes of a text, each at the place of a directive, in the user's own layout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nself_deploy.core.nginx_config import Config
from nself_deploy.core.nginx_syntax import Node
from nself_deploy.errors import ConfigError


@dataclass(frozen=True)
class Change:
    """Replace `text[start:end]` of a file."""

    file: str
    start: int
    end: int
    new: str
    reason: str
    place: str
    """`file:line` of the directive that it is about."""


@dataclass(frozen=True)
class FileEdit:
    """What becomes of one file."""

    path: str
    """As nginx sees it."""
    shown: str
    """As the user knows it."""
    old: str
    new: str
    reasons: tuple[str, ...]
    """One line per change, each with the line of the old text."""


class Writer:
    """Makes changes that look like the text around them."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._files = config.sources.files

    def inside(self, node: Node, line: str, reason: str) -> Change:
        """A directive at the beginning of a block."""
        text = self._text(node)
        if node.body is None:
            raise ValueError(f"{node.name} has no block")
        start = node.body[0]
        end_of_line = _line_end(text, start)
        rest = text[start:end_of_line].strip()
        if node.body[1] > end_of_line and (not rest or rest.startswith("#")):
            return self._at(node, end_of_line + 1, f"{self._inner_indent(node)}{line}\n", reason)
        return self._at(node, start, f" {line}" + (" " if node.body[0] == node.body[1] else ""), reason)

    def before(self, node: Node, line: str, reason: str) -> Change:
        """A directive in front of another one."""
        text = self._text(node)
        indent = _indent(text, node.start)
        if indent is None:
            return self._at(node, node.start, f"{line} ", reason)
        return self._at(node, node.start - len(indent), f"{indent}{line}\n", reason)

    def after(self, node: Node, line: str, reason: str) -> Change:
        """A directive behind another one."""
        text = self._text(node)
        indent = _indent(text, node.start)
        end_of_line = _line_end(text, node.end)
        rest = text[node.end : end_of_line].strip()
        if indent is None or (rest and not rest.startswith("#")):
            return self._at(node, node.end, f" {line}", reason)
        if end_of_line == len(text):
            return self._at(node, end_of_line, f"\n{indent}{line}", reason)
        return self._at(node, end_of_line + 1, f"{indent}{line}\n", reason)

    def word(self, node: Node, index: int, new: str, reason: str) -> Change:
        """Another value for one word of a directive (0 is its name)."""
        word = node.words[index]
        self._text(node)
        return Change(node.file, word.start, word.end, new, reason, self._config.place(node))

    def whole(self, node: Node, new: str, reason: str) -> Change:
        """Something else in place of a directive."""
        self._text(node)
        return Change(node.file, node.start, node.end, new, reason, self._config.place(node))

    def comment(self, node: Node, words: str, reason: str) -> Change:
        """A comment behind a directive, on its line."""
        text = self._text(node)
        rest = text[node.end : _line_end(text, node.end)].strip()
        line = text[text.rfind("\n", 0, node.start) + 1 :]
        indent = line[: len(line) - len(line.lstrip(" \t"))]
        tail = "" if not rest or rest.startswith("#") else f"\n{indent}   "
        return self._at(node, node.end, f" # {words}{tail}", reason)

    def _text(self, node: Node) -> str:
        if not self._config.editable(node.file):
            raise ConfigError(
                "this has to be changed, but the file is not one of the project's.",
                "Copy it into the project and mount it into the router, then run nself deploy init again.",
                where=self._config.place(node),
            )
        return self._files[node.file]

    def _at(self, node: Node, offset: int, new: str, reason: str) -> Change:
        return Change(node.file, offset, offset, new, reason, self._config.place(node))

    def _inner_indent(self, node: Node) -> str:
        text = self._files[node.file]
        own = [_indent(text, child.start) for child in node.children if child.file == node.file]
        found = next((indent for indent in own if indent is not None), None)
        if found is not None:
            return found
        outer = _indent(text, node.start) or ""
        return outer + ("\t" if outer.startswith("\t") else "    ")


def apply(files: Mapping[str, str], shown: Mapping[str, str], changes: Iterable[Change]) -> tuple[FileEdit, ...]:
    """The files after all changes; files that stay as they are don't appear.

    Raises:
        ConfigError: two changes want the same text to become different things.
    """
    per_file: dict[str, list[Change]] = {}
    for change in dict.fromkeys(changes):
        per_file.setdefault(change.file, []).append(change)
    edits = []
    for file, found in sorted(per_file.items()):
        text, at, parts = files[file], 0, []
        for change in sorted(found, key=lambda c: (c.start, c.end)):
            if change.start < at:
                raise ConfigError(
                    "two changes overlap.", "Change it by hand as the messages say.", where=shown.get(file, file)
                )
            parts += [text[at : change.start], change.new]
            at = change.end
        new = "".join([*parts, text[at:]])
        reasons = tuple(
            dict.fromkeys(
                f"{change.place}: {change.reason}" for change in sorted(found, key=lambda c: (c.start, c.end))
            )
        )
        if new != text:
            edits.append(FileEdit(file, shown.get(file, file), text, new, reasons))
    return tuple(edits)


def _line_end(text: str, offset: int) -> int:
    found = text.find("\n", offset)
    return len(text) if found < 0 else found


def _indent(text: str, offset: int) -> str | None:
    """The white space in front of a directive; None when something else is on its line before it."""
    start = text.rfind("\n", 0, offset) + 1
    before = text[start:offset]
    return before if not before.strip() else None
