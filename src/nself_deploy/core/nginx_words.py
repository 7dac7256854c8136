"""What nginx says when it refuses its files, or splits requests in another way. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from nself_deploy.errors import RouterFilesRefused

_REFUSAL = re.compile(r"\[emerg\] (?:\d+#\d+: )?(.+) in (\S+):(\d+)$", re.MULTILINE)


def refusal(words: str, mounts: Mapping[str, str]) -> RouterFilesRefused:
    """The error for what `nginx -t`, or nginx at its start, printed.

    Args:
        words: its output.
        mounts: of its container, destination -> source: files are named as this machine calls them.
    """
    found = _REFUSAL.search(words)
    return RouterFilesRefused(
        f"nginx refuses it: {found[1]}." if found else "nginx refuses its configuration.",
        "Correct it, then run the same command again; an nginx that runs goes on with the configuration it has.",
        where=f"{_on_this_machine(found[2], mounts)}:{found[3]}" if found else "",
        evidence=tuple(words.splitlines()),
    )


def refused(words: str) -> bool:
    """Whether it names a line of its files as the reason not to start."""
    return _REFUSAL.search(words) is not None


def differences(found: Mapping[int, str], wanted: Mapping[int, str]) -> str:
    """Which buckets go to other slots than they should: bucket -> slot, as the router says and as the split does."""
    wrong = [
        f"bucket {bucket:02d} goes to {found[bucket] or 'nowhere'} instead of {slot}"
        for bucket, slot in wanted.items()
        if found[bucket] != slot
    ]
    return ", ".join(wrong)


def _on_this_machine(path: str, mounts: Mapping[str, str]) -> str:
    for target in sorted(mounts, key=len, reverse=True):
        if path == target or path.startswith(f"{target}/"):
            return mounts[target] + path.removeprefix(target)
    return path
