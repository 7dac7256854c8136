"""Where the container engine is: found as the docker command finds it."""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nself_deploy.errors import EngineError

DEFAULT_HOST = "unix:///var/run/docker.sock"


@dataclass(frozen=True)
class EngineAddress:
    """One engine."""

    host: str
    """`unix:///path` or `tcp://host:port`."""
    origin: str
    """What named it, in words."""
    tls_dir: Path | None = None
    """Directory of `ca.pem`, `cert.pem` and `key.pem`; None without TLS."""
    verify: bool = True
    """Whether the engine's certificate is checked."""

    @property
    def socket(self) -> str:
        """The path of the Unix socket, empty for TCP."""
        return self.host.removeprefix("unix://") if self.host.startswith("unix://") else ""

    def ssl_context(self) -> ssl.SSLContext:
        """The context for an engine with TLS.

        Raises:
            EngineError: a certificate can't be read.
        """
        if self.tls_dir is None:
            raise ValueError(f"{self.host} is used without TLS")
        try:
            ca = self.tls_dir / "ca.pem"
            context = ssl.create_default_context(cafile=str(ca) if ca.exists() else None)
            if not self.verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if (self.tls_dir / "cert.pem").exists():
                context.load_cert_chain(self.tls_dir / "cert.pem", self.tls_dir / "key.pem")
        except OSError as error:  # ssl.SSLError is one
            raise EngineError(
                f"the certificates for the container engine can't be read: {error}.",
                "Check DOCKER_CERT_PATH, or the docker context.",
                where=str(self.tls_dir),
            ) from error
        return context


def find_engine(environ: Mapping[str, str], home: Path) -> EngineAddress:
    """The engine that `docker` would talk to: DOCKER_HOST, else the current context, else the default socket.

    Raises:
        EngineError: the context can't be read, or it names a kind of address that can't be used.
    """
    directory = Path(environ.get("DOCKER_CONFIG") or home / ".docker")
    host = environ.get("DOCKER_HOST", "")
    if host:
        tls = Path(environ.get("DOCKER_CERT_PATH") or directory) if environ.get("DOCKER_TLS_VERIFY") else None
        return _usable(EngineAddress(host, "DOCKER_HOST", tls))
    context, origin = environ.get("DOCKER_CONTEXT", ""), "DOCKER_CONTEXT"
    if not context:
        config = directory / "config.json"
        context, origin = str(_json(config).get("currentContext") or "") if config.exists() else "", str(config)
    if context in ("", "default"):
        return EngineAddress(DEFAULT_HOST, "Docker's default")
    return _usable(_context(directory / "contexts", context, origin))


def _context(directory: Path, name: str, origin: str) -> EngineAddress:
    key = hashlib.sha256(name.encode()).hexdigest()
    meta = directory / "meta" / key / "meta.json"
    if not meta.exists():
        raise EngineError(
            f"there is no docker context {name!r} (named by {origin}).",
            "Choose one of `docker context ls` with `docker context use`.",
        )
    endpoint = (_json(meta).get("Endpoints") or {}).get("docker") or {}
    if not endpoint.get("Host"):
        raise EngineError(f"docker context {name!r} has no address of an engine.", "Make it anew.", where=str(meta))
    tls = directory / "tls" / key / "docker"
    return EngineAddress(
        str(endpoint["Host"]),
        f"docker context {name!r}",
        tls if tls.is_dir() else None,
        verify=not endpoint.get("SkipTLSVerify"),
    )


def _usable(address: EngineAddress) -> EngineAddress:
    if address.host.startswith(("unix:///", "tcp://")):
        return address
    raise EngineError(
        f"the container engine's address {address.host!r} (from {address.origin}) can't be used here.",
        "Use unix:///path or tcp://host:port; for ssh:// forward the engine's socket with `ssh -L` and use that.",
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EngineError(
            f"docker's own file can't be read: {error}.", "Repair or remove it.", where=str(path)
        ) from error
    return value if isinstance(value, dict) else {}
