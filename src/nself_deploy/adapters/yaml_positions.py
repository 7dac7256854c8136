"""Where a key stands in the user's YAML files, for error messages; never what it means (that is Compose's business)."""

from __future__ import annotations

import os.path
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

from nself_deploy.core.key_places import KeyPath

MAX_BYTES = 4 << 20


class Positions:
    """A `Locate` over the user's Compose files: the last file that has the key wins, as in Compose."""

    def __init__(self, root: str, files: Sequence[str]) -> None:
        self._root = root
        self._files = tuple(files)
        self._trees: dict[str, Any] = {}

    def __call__(self, path: KeyPath) -> str:
        """`docker-compose.yml:12`, or the name alone when the line isn't found, or nothing without files."""
        found = [(_walk(self._tree(file), path), index, file) for index, file in enumerate(self._files)]
        if not found:
            return ""
        (depth, line), _, file = max(found, key=lambda entry: (entry[0][0], entry[1]))
        if not depth:
            return self.name(self._files[0])
        return f"{self.name(file)}:{line}"

    def name(self, file: str) -> str:
        """A file as people call it: relative to the project's directory when it is inside."""
        relative = os.path.relpath(file, self._root)
        return file if relative.startswith("..") else relative

    def _tree(self, file: str) -> Any:
        if file not in self._trees:
            self._trees[file] = _load(Path(file))
        return self._trees[file]


def _load(file: Path) -> Any:
    """The file with positions; None when it can't be read, which is for Compose to say, not for us."""
    try:
        if file.stat().st_size > MAX_BYTES:
            return None
        return YAML(typ="rt").load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError, ValueError):
        return None


def _walk(tree: Any, path: KeyPath) -> tuple[int, int]:
    """How deep a path exists in a tree, and the line (from 1) of the deepest key of it."""
    depth, line, node = 0, 0, tree
    for step in path:
        in_map = isinstance(node, CommentedMap) and step in node
        in_list = isinstance(node, CommentedSeq) and isinstance(step, int) and step < len(node)
        position = node.lc.data.get(step) if in_map or in_list else None
        if position is None:  # not there, or from a merged anchor: it stands elsewhere
            break
        depth, line, node = depth + 1, position[0] + 1, node[step]
    return depth, line
