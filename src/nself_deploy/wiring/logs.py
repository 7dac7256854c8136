"""Building the reader of the router's access log, for one canary at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from nself_deploy.app.ports import LogView, RequestLog, RequestLogs
from nself_deploy.wiring.router import ROUTER_DIR


def recent_log(root: Path) -> Callable[[int], bytes]:
    """Lines from the end of the project's access log."""

    def newest(limit: int) -> bytes:
        from nself_deploy.adapters.access_log import newest_lines

        return newest_lines(root / ROUTER_DIR / "log", limit)

    return newest


def request_logs(root: Path) -> RequestLogs:
    """Readers of the project's access log."""

    def opened(view: LogView) -> RequestLog:
        from nself_deploy.adapters.access_log import AccessLog
        from nself_deploy.core.log_line import PATIENCE_S, Rules

        moves = tuple(msgspec.structs.replace(move, until=max(move.since, move.until)) for move in view.moves)
        patience_s = PATIENCE_S if view.patience_s is None else view.patience_s
        rules = Rules(view.candidate, moves, view.began, view.salt, patience_s)
        return AccessLog(root / ROUTER_DIR / "log", lambda: rules)

    return opened
