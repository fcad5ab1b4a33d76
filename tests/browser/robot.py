"""A robot that forgets who it is: its order says neither which market nor which product."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from tests.server import Server


def report_incomplete_order(server: Server, instrument: str = "MES", stream: str = "ES1") -> None:
    status, answer = server.request(
        "POST",
        "/api/events",
        {
            "event_id": uuid.uuid4().hex,
            "ts_utc": datetime.now(UTC).isoformat(),
            "source": "RobotEngine",
            "instrument": instrument,
            "stream": stream,
            "run_id": "run-1",
            "event": "ORDER_SUBMITTED",
            "data": {},
        },
    )
    assert (status, answer.get("accepted")) == (200, 1), answer
