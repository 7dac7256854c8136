"""The user's nginx configuration as nginx sees it: one tree with the includes in place."""

from __future__ import annotations

import fnmatch
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from nself_deploy.core.nginx_syntax import Node, Word, parse
from nself_deploy.errors import ConfigError

_DEPTH = 20
_USUAL = ("conf.d/*.conf", "http.d/*.conf", "sites-enabled/*")
"""What the main files of nginx's images and packages include, where we can't see such a main file."""


@dataclass(frozen=True)
class Sources:
    """The files that nginx reads.

    Args:
        main: the file it begins with, as nginx sees it.
        files: path as nginx sees it -> text. What is missing here is not looked at (mime.types and the like).
        shown: path as nginx sees it -> name for the user; only these files may be changed. The others belong to
            an image or a package.
    """

    main: str
    files: Mapping[str, str]
    shown: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Block:
    """One directive in the place where nginx meets it; a file that is included twice has its directives twice."""

    node: Node
    parent: Block | None
    children: list[Block] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The directive."""
        return self.node.name

    @property
    def args(self) -> list[str]:
        """Its parameters."""
        return self.node.args

    def find(self, *names: str) -> list[Block]:
        """Direct children with one of these names."""
        return [child for child in self.children if child.name in names]

    def walk(self) -> Iterator[Block]:
        """All directives below, in the order in which nginx reads them."""
        for child in self.children:
            yield child
            yield from child.walk()

    def levels(self) -> Iterator[Block]:
        """The block and those around it, innermost first."""
        block: Block | None = self
        while block is not None:
            yield block
            block = block.parent

    def around(self, *names: str) -> Block | None:
        """The innermost enclosing block with one of these names."""
        return next((level for level in self.levels() if level is not self and level.name in names), None)

    def effective(self, name: str) -> list[Block]:
        """The lines of a directive that count here: those of the innermost level that has any (nginx never merges)."""
        return next((found for level in self.levels() if (found := level.find(name))), [])


class Config:
    """A whole configuration."""

    def __init__(self, sources: Sources) -> None:
        """Raise ConfigError when a file is not valid."""
        self.sources = sources
        self._parsed: dict[str, list[Node]] = {}
        self.root = Block(Node("", 0, [Word("", 0, 0)]), None)
        if self.knows_main:
            self._add(sources.main, self.root, 0)
        else:
            # nginx's own main file includes the user's inside http {}.
            http = Block(Node("", 0, [Word("http", 0, 0)]), self.root)
            self.root.children.append(http)
            for pattern in _USUAL:
                for path in self._included(pattern):
                    self._add(path, http, 0)

    @property
    def https(self) -> list[Block]:
        """The `http {}` block; empty when there is none."""
        return self.root.find("http")

    @property
    def knows_main(self) -> bool:
        """Whether the main file is among the sources."""
        return self.sources.main in self.sources.files

    def editable(self, file: str) -> bool:
        """Whether the file is the user's."""
        return file in self.sources.shown

    def place(self, node: Node) -> str:
        """`file:line` for the user."""
        return f"{self.sources.shown.get(node.file, node.file)}:{node.line}"

    def _add(self, path: str, parent: Block, depth: int) -> None:
        if depth > _DEPTH:
            raise ConfigError(
                "it includes itself.", "Remove one of the include lines.", where=self.sources.shown.get(path, path)
            )
        if path not in self._parsed:
            self._parsed[path] = parse(self.sources.files[path], self.sources.shown.get(path, path))
            for node in _all(self._parsed[path]):
                node.file = path
        self._place(self._parsed[path], parent, depth)

    def _place(self, nodes: list[Node], parent: Block, depth: int) -> None:
        for node in nodes:
            block = Block(node, parent)
            parent.children.append(block)
            if node.name == "include" and node.args:
                for path in self._included(node.args[0]):
                    self._add(path, parent, depth + 1)
            self._place(node.children, block, depth)

    def _included(self, pattern: str) -> list[str]:
        whole = posixpath.normpath(posixpath.join(posixpath.dirname(self.sources.main), pattern))
        parts = whole.split("/")
        return [
            path
            for path in sorted(self.sources.files)
            if len(path.split("/")) == len(parts)
            and all(_matches(name, part) for name, part in zip(path.split("/"), parts, strict=True))
        ]


def _matches(name: str, pattern: str) -> bool:
    hidden = name.startswith(".") and not pattern.startswith(".")
    return not hidden and fnmatch.fnmatchcase(name, pattern)


def _all(nodes: list[Node]) -> Iterator[Node]:
    for node in nodes:
        yield node
        yield from _all(node.children)
