"""What guard and keeper say to each other: one JSON object a line, over a pipe each way.

To the keeper: first the Errand; then `{"renewed_at": s}`, `{"signal": n}`, `{"stop": true}`,
`{"done": true}`. From the keeper: `{"started": pid}` or `{"failed": errno, "why": text}`, then
`{"ended": status, "forced": bool, "late": bool}` once nothing of the robot is left: forced where it
had to be killed, late where the want of a renewal ended it. The end of a pipe is the death of its
writer.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Errand:
    """What a keeper is told at birth. Times are the holder's clock, in seconds."""

    command: list[str] | None
    """None: watch the parent process, which is the robot."""
    ends_robot: bool
    """False when the guard only observes."""
    guard_pid: int
    kill_grace: float
    """From a stop that no deadline brought, to the kill."""
    stop_after: float | None = None
    kill_after: float | None = None
    ttl: float | None = None
    renewed_at: float | None = None
    sidecar: str | None = None
    descriptor: int = -1
    record: str | None = None
    run_id: str = ""
    server: str | None = None
    api_key: str | None = None
    identity: dict[str, Any] | None = None

    def message(self) -> dict[str, Any]:
        return asdict(self)


def write_message(descriptor: int, message: dict[str, Any]) -> bool:
    """Write one message whole; False where its reader is gone or does not read any more."""
    line = json.dumps(message).encode() + b"\n"
    try:
        while line:
            line = line[os.write(descriptor, line) :]
    except OSError:
        return False
    return True


def read_messages(descriptor: int) -> Iterator[dict[str, Any]]:
    """Every message until the writer is gone; blocks meanwhile."""
    with os.fdopen(descriptor, "rb") as lines:
        for line in lines:
            message = json.loads(line)
            if isinstance(message, dict):
                yield message
