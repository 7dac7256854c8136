"""The project's own files, for tests of the rules of the house."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SKIPPED = {".git", ".venv", "__pycache__", "build", "dist", "htmlcov"}


def files(*tops: str) -> Iterator[Path]:
    """All files below these directories (of the whole project without one), but for what tools leave behind."""
    for top in tops or (".",):
        for path in sorted((ROOT / top).rglob("*")):
            inside = path.relative_to(ROOT).parts
            hidden_cache = any(part.endswith(("_cache", ".egg-info")) or part == ".hypothesis" for part in inside)
            if path.is_file() and not SKIPPED.intersection(inside) and not hidden_cache:
                yield path


def python_files(*tops: str) -> list[Path]:
    """Those that are Python."""
    return [path for path in files(*tops) if path.suffix == ".py"]


def shown(path: Path) -> str:
    """Its name inside the project."""
    return str(path.relative_to(ROOT))
