"""Files for a container, as the archive that the engine unpacks."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Mapping

FILE_MODE = 0o644


def archive(files: Mapping[str, bytes], links: Mapping[str, str]) -> bytes:
    """A tar archive to unpack at `/`: files (absolute path -> content), then symbolic links (path -> target).

    Raises:
        ValueError: a path isn't absolute.
    """
    buffer = io.BytesIO()
    now = int(time.time())
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, content in sorted(files.items()):
            entry = _entry(path, now)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        for path, target in sorted(links.items()):
            entry = _entry(path, now)
            entry.type = tarfile.SYMTYPE
            entry.linkname = target
            tar.addfile(entry)
    return buffer.getvalue()


def _entry(path: str, now: int) -> tarfile.TarInfo:
    if not path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"{path!r} is not an absolute path")
    entry = tarfile.TarInfo(path.lstrip("/"))
    entry.mode = FILE_MODE
    entry.mtime = now
    return entry
