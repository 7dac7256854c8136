"""The few lines of a `.env` file that decide which Compose files a project has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from nself_deploy.adapters.durable_files import os_error
from nself_deploy.errors import ConfigError

_LINE = re.compile(r"\s*(?:export\s+)?(?P<key>[A-Za-z_][A-Za-z0-9_.]*)\s*[=:](?P<value>.*)")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def read_env_file(path: Path) -> dict[str, str]:
    """Its variables as written (one line each; Compose itself reads the file for everything else).

    Raises:
        ConfigError: it can't be read.
    """
    found: dict[str, str] = {}
    for match in filter(None, map(_LINE.match, _lines(path))):
        value = match["value"].strip()
        if value[:1] in ("'", '"') and (end := value.find(value[0], 1)) > 0:
            quote, inner = value[0], value[1:end]
            found[match["key"]] = inner.replace("$", "$$") if quote == "'" else inner
        else:
            found[match["key"]] = re.split(r"\s#", value)[0].strip()
    return found


def expand(value: str, variables: Mapping[str, str], where: str) -> str:
    """A value with `$NAME` and `${NAME}` replaced.

    Raises:
        ConfigError: it needs more of Compose's syntax than that.
    """
    if re.search(r"\$\{\w*[^\w}]", value):
        raise ConfigError(
            f"{value!r} has a default or a condition, which nself-deploy can't follow here.",
            "Write the names of the files.",
            where=where,
        )
    parts = value.split("$$")
    return "$".join(_VARIABLE.sub(lambda m: variables.get(m[1] or m[2], ""), part) for part in parts)


def with_line(path: Path, key: str, value: str, comment: str) -> str:
    """The text of the file with `key=value`: in the place of its line when it has one, else at the end.

    Raises:
        ConfigError: it can't be read.
    """
    lines = _lines(path)
    if lines and not lines[-1]:
        lines.pop()
    at = [i for i, line in enumerate(lines) if (match := _LINE.match(line)) and match["key"] == key]
    if at:
        lines[at[-1]] = f"{key}={value}"
    else:
        lines += [comment, f"{key}={value}"]
    return "\n".join(lines) + "\n"


def _lines(path: Path) -> list[str]:
    try:
        return path.read_bytes().decode("utf-8").removeprefix("\ufeff").split("\n")
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise ConfigError(f"is not UTF-8 text: {error.reason}.", "Save it as UTF-8.", where=str(path)) from error
    except OSError as error:
        raise os_error(error, path, "read") from error
