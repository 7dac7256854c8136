"""The engine is found as the docker command finds it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from nself_deploy.adapters.docker_host import find_engine
from nself_deploy.errors import EngineError


def context(home: Path, name: str, endpoint: dict[str, Any], *, tls: bool = False) -> None:
    """A docker context as `docker context create` leaves it."""
    key = hashlib.sha256(name.encode()).hexdigest()
    meta = home / ".docker/contexts/meta" / key
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": {"docker": endpoint}}))
    if tls:
        (home / ".docker/contexts/tls" / key / "docker").mkdir(parents=True)


def current(home: Path, name: str) -> None:
    """`docker context use NAME`."""
    (home / ".docker").mkdir(exist_ok=True)
    (home / ".docker/config.json").write_text(json.dumps({"currentContext": name}))


def test_the_default(tmp_path: Path) -> None:
    found = find_engine({}, tmp_path)

    assert (found.host, found.socket, found.tls_dir) == ("unix:///var/run/docker.sock", "/var/run/docker.sock", None)
    current(tmp_path, "default")
    assert find_engine({}, tmp_path) == found


def test_the_order(tmp_path: Path) -> None:
    """DOCKER_HOST, DOCKER_CONTEXT, the current context."""
    context(tmp_path, "lab", {"Host": "unix:///run/lab.sock"})
    context(tmp_path, "away", {"Host": "tcp://192.0.2.1:2376", "SkipTLSVerify": True}, tls=True)
    current(tmp_path, "lab")
    environ = {"DOCKER_CONTEXT": "away"}

    assert find_engine({}, tmp_path).host == "unix:///run/lab.sock"
    away = find_engine(environ, tmp_path)
    assert (away.host, away.verify, away.socket) == ("tcp://192.0.2.1:2376", False, "")
    assert away.tls_dir is not None
    assert find_engine({**environ, "DOCKER_HOST": "unix:///x.sock"}, tmp_path).host == "unix:///x.sock"


def test_tls_of_the_environment(tmp_path: Path) -> None:
    environ = {"DOCKER_HOST": "tcp://192.0.2.1:2376"}

    assert find_engine(environ, tmp_path).tls_dir is None
    assert find_engine({**environ, "DOCKER_TLS_VERIFY": "1"}, tmp_path).tls_dir == tmp_path / ".docker"
    certs = {**environ, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path / "certs")}
    assert find_engine(certs, tmp_path).tls_dir == tmp_path / "certs"
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs/ca.pem").write_text("nonsense")
    with pytest.raises(EngineError, match="certificates for the container engine can't be read"):
        find_engine(certs, tmp_path).ssl_context()


def test_what_can_not_be_used(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"'ssh://me@host' .from DOCKER_HOST. can't be used.*ssh -L"):
        find_engine({"DOCKER_HOST": "ssh://me@host"}, tmp_path)
    with pytest.raises(EngineError, match=r"no docker context 'gone' .named by DOCKER_CONTEXT.*docker context ls"):
        find_engine({"DOCKER_CONTEXT": "gone"}, tmp_path)
    context(tmp_path, "empty", {})
    with pytest.raises(EngineError, match="has no address"):
        find_engine({"DOCKER_CONTEXT": "empty"}, tmp_path)
    (tmp_path / ".docker/config.json").write_text("{")
    with pytest.raises(EngineError, match=r"config\.json: docker's own file can't be read"):
        find_engine({}, tmp_path)
    (tmp_path / "other").mkdir()
    assert find_engine({"DOCKER_CONFIG": str(tmp_path / "other")}, tmp_path).origin == "Docker's default"
