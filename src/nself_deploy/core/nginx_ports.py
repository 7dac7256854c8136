"""Which ports the user's nginx files listen on: the probe server must not share one with users. Pure."""

from __future__ import annotations

import re

from nself_deploy.core.extension import KEY
from nself_deploy.core.nginx_config import Config, Sources
from nself_deploy.errors import ConfigError

_PORT = re.compile(r"(?:^|:)(\d+)$")


def check_probe_port(sources: Sources, port: int) -> None:
    """Nothing in the files listens on the probe server's port: there its answers would take the place of a site's.

    Args:
        port: 0 when a free one is chosen later.

    Raises:
        ConfigError: something does; names its line. A file is not valid.
    """
    config = Config(sources)
    for block in config.root.walk():
        if block.name == "listen" and block.args and port and listen_port(block.args[0]) == port:
            raise ConfigError(
                f"The site listens on port {port}, on which nginx is to answer the probes of nself-deploy.",
                f"Set {KEY}.router.probe_port to a port that nothing listens on.",
                where=config.place(block.node),
            )


def listen_port(word: str) -> int:
    """The port of `listen`'s first parameter; 0 for a Unix socket."""
    if word.startswith("unix:"):
        return 0
    found = _PORT.search(word) if not word.endswith("]") else None
    return int(found[1]) if found else 80
