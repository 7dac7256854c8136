"""Lines of an access log as the router writes them, for tests."""

from __future__ import annotations

import json

from nself_deploy.core.log_line import Rules
from nself_deploy.core.log_moves import Move
from nself_deploy.core.model import Slot, Split
from nself_deploy.core.nginx_flags import bucket_slot

BEGAN = 1_800_000_000.0
TENTH = Split(Slot.BLUE, Slot.GREEN, 10)
RULES = Rules(Slot.GREEN, (Move(TENTH),), began=BEGAN, salt="r2")


def line(at: float = 1.0, hundredth: int = 50, **words: object) -> bytes:
    """A line that is written so many seconds after the beginning; the slot is that of the bucket at 10 %."""
    values: dict[str, object] = {
        "time": round(BEGAN + at, 3),
        "slot": bucket_slot(TENTH, hundredth).value,
        "route": "web_8000",
        "bucket": f"{hundredth:02d}",
        "client": f"{hundredth:02d}0000",
        "method": "GET",
        "status": "200",
        "request_time": 0.013,
        "upstream_addr": "10.213.0.2:8000",
        "upstream_status": "200",
        "upstream_connect_time": "0.001",
        "upstream_header_time": "0.011",
        "upstream_response_time": "0.012",
        "bytes_sent": 345,
        "request_id": "0123456789abcdef0123456789abcdef",
    }
    assert set(words) <= set(values)
    return json.dumps({**values, **words}, separators=(",", ":")).encode() + b"\n"
