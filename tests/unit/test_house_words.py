"""What must not be in the project's files: places that exist on one machine only, and hosts that serve packages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.house import files, shown

FORBIDDEN = {
    "host of a registry": re.compile(
        r"""
        \b(?:[\w-]+\.)* (?: py[p]i[.]org | pyth[o]nhosted[.]org | npm[j]s[.](?:org|com) | de[b]ian[.]org
        | ub[u]ntu[.]com
        | ghcr[.]io | quay[.]io | gcr[.]io | docker[.]com | mcr[.]microsoft[.]com )\b
        | \b[\w-]+[.]docker[.]io\b | \bdocker[.]io/
        """,
        re.VERBOSE,
    ),
    "place on one machine": re.compile(r"(?<![\w.:/])/(?:work|root|home|Users)/\w"),
    "rule that is switched off altogether": re.compile(
        r"#\s*(?:ruff:\s*|flake8:\s*)?noqa\s*(?:$|[^:])|#\s*type:\s*ignore(?!\[)"
    ),
}


def complaints(path: Path) -> list[str]:
    """What is wrong in this file (a file that is no text is left out)."""
    try:
        lines = path.read_text().splitlines()
    except UnicodeDecodeError:
        return []
    return [
        f"{path.name}:{number}: {what}: {found[0].strip()}"
        for number, line in enumerate(lines, 1)
        for what, pattern in FORBIDDEN.items()
        if (found := pattern.search(line))
    ]


def test_no_file_of_the_project_has_them() -> None:
    paths = [p for p in files() if shown(p) != "LICENSE"]

    assert len(paths) > 100
    assert [f"{shown(path)} {complaint}" for path in paths for complaint in complaints(path)] == []


@pytest.mark.parametrize(
    "line",
    [
        "image: registry-1.docker." + "io/library/nginx",
        "FROM docker." + "io/nginx",
        "--index-url https://py" + "pi.org/simple",
        "deb http://deb.deb" + "ian.org/suite bookworm main",
        "cd /wo" + "rk/somewhere",
        'path = "/ho' + 'me/somebody/project"',
        "x = 1  # no" + "qa",
        "x = f()  # type: ig" + "nore",
    ],
)
def test_they_are_found(line: str, tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text(f"fine\n{line}\n")

    assert len(complaints(path)) == 1


@pytest.mark.parametrize(
    "line",
    [
        "apt-get install docker.io",
        "root:*:0:0:root:/root:/bin/sh",
        "COPY . /app/home/x",
        "x = f()  # type: ignore[arg-type]",
    ],
)
def test_words_that_only_look_like_them_are_left_alone(line: str, tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text(line)

    assert complaints(path) == []
