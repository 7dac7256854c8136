"""A wire to the real container engine that a test can cut, or that loses answers; else it forwards every byte."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from nself_deploy.adapters.docker_host import find_engine


class Loss(msgspec.Struct, frozen=True):
    """An answer that never arrives, though the engine did what it was asked for."""

    call: str
    """Regular expression for `METHOD PATH`."""
    number: int = 1
    """Which of the matching calls."""
    hang: bool = False
    """Whether the caller waits for ever; else its connection breaks."""


class Wire:
    """`host` is what DOCKER_HOST has to be for commands to go through it.

    Args:
        loss: the answer that is lost; None: none.
        engine: the engine's socket; that of the tests by default.
    """

    def __init__(self, loss: Loss | None = None, engine: str = "") -> None:
        self._loss = loss
        self._met = 0
        self.lost = ""
        """The call whose answer was lost."""
        self._engine = engine or find_engine(os.environ, Path.home()).socket
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
            thread.join(60)
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
            losing = threading.Event()
            back = threading.Thread(target=self._answer, args=(far, near, losing), daemon=True)
            back.start()
            self._ask(near, far, losing)
            back.join()
            with self._lock:
                self._ends -= {near, far}

    def _ask(self, near: socket.socket, far: socket.socket, losing: threading.Event) -> None:
        """Requests; the head of each begins a piece, for nobody sends a second one before the first is answered."""
        with contextlib.suppress(OSError):
            while piece := near.recv(1 << 16):
                if self._is_lost(piece):
                    losing.set()
                far.sendall(piece)
        with contextlib.suppress(OSError):
            far.shutdown(socket.SHUT_WR)

    def _is_lost(self, piece: bytes) -> bool:
        found = _REQUEST.match(piece)
        call = f"{found[1].decode()} {found[2].decode()}" if found else ""
        if self._loss is None or not call or not re.search(self._loss.call, call):
            return False
        with self._lock:
            self._met += 1
            if self._met != self._loss.number:
                return False
            self.lost = call
        return True

    def _answer(self, far: socket.socket, near: socket.socket, losing: threading.Event) -> None:
        """Answers, to their end: an attached stream may end one way and go on the other."""
        with contextlib.suppress(OSError):
            while piece := far.recv(1 << 16):
                if losing.is_set():
                    if self._loss and self._loss.hang:
                        continue
                    near.shutdown(socket.SHUT_RDWR)
                    return
                near.sendall(piece)
        with contextlib.suppress(OSError):
            near.shutdown(socket.SHUT_WR)


_REQUEST = re.compile(rb"([A-Z]+) (/\S*) HTTP/1")
