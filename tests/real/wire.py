"""A wire to the real container engine that a test can cut: a Unix socket that forwards every byte, until it doesn't."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from nself_deploy.adapters.docker_host import find_engine


class Wire:
    """`host` is what DOCKER_HOST has to be for commands to go through it."""

    def __init__(self) -> None:
        self._engine = find_engine(os.environ, Path.home()).socket
        assert self._engine, "the engine of the tests is reached over a Unix socket"
        self._directory = Path(tempfile.mkdtemp(prefix="nself-wire-"))
        self._path = self._directory / "docker.sock"
        self.host = f"unix://{self._path}"
        self._lock = threading.Lock()
        self._ends: set[socket.socket] = set()
        self._served: list[threading.Thread] = []
        self._cut = False
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen(64)
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def cut(self) -> None:
        """The engine is gone: every connection breaks, and nobody listens any more."""
        with self._lock:
            self._cut = True
            for end in (self._listener, *self._ends):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        for thread in (self._accepting, *self._served):
            thread.join(10)
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.cut()
        shutil.rmtree(self._directory)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                served = threading.Thread(target=self._serve, args=(near,), daemon=True)
                self._served.append(served)
                served.start()

    def _serve(self, near: socket.socket) -> None:
        """One connection, to its end both ways."""
        with near, socket.socket(socket.AF_UNIX) as far:
            far.connect(self._engine)
            with self._lock:
                if self._cut:
                    return
                self._ends |= {near, far}
            back = threading.Thread(target=_pump, args=(far, near), daemon=True)
            back.start()
            _pump(near, far)
            back.join()
            with self._lock:
                self._ends -= {near, far}


def _pump(source: socket.socket, target: socket.socket) -> None:
    """One direction; its end is passed on, so that an attached stream may end one way and go on the other."""
    with contextlib.suppress(OSError):
        while piece := source.recv(1 << 16):
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
