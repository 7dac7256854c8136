"""Where in the user's files a key stands, for the errors about it."""

from __future__ import annotations

from collections.abc import Callable

KeyPath = tuple[str | int, ...]
Locate = Callable[[KeyPath], str]
"""From a key path in the Compose model to `docker-compose.yml:12`, the place where it is written."""


def nowhere(_path: KeyPath) -> str:
    """A `Locate` that knows no files: the key path alone."""
    return ""


def where(locate: Locate, path: KeyPath) -> str:
    """`docker-compose.yml:12: x-nself-deploy.health_timeout`, for the `where` of an error."""
    dotted = ""
    for part in path:
        dotted += f"[{part}]" if isinstance(part, int) else f".{part}" if dotted else part
    return ": ".join(text for text in (locate(path), dotted) if text)
