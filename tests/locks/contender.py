"""A process that takes and gives back the market ES as often as it can.

While it is the executor it owns a marker file; to find another's there is to be the second one.
Arguments: its name, a folder, seconds. Prints the tokens it was granted, and what it met, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import django

django.setup()

from locks.errors import LockRefused  # noqa: E402 models need a configured Django
from locks.services import release_lease, renew_lease  # noqa: E402
from tests.locks.cast import Robot  # noqa: E402


def main(name: str, folder: str, seconds: float) -> None:
    marker = Path(folder) / "executor"
    tokens: list[int] = []
    refusals: dict[str, int] = {}
    print("ready", flush=True)
    sys.stdin.readline()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        robot = Robot(f"{name}-{len(tokens)}-{time.monotonic_ns()}", pid=os.getpid())
        try:
            grant = robot.acquire()
        except LockRefused as refused:
            refusals[refused.code] = refusals.get(refused.code, 0) + 1
            continue
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        tokens.append(grant.fencing_token)
        while True:
            try:
                renew_lease(robot.holding(grant))
                marker.unlink(missing_ok=True)
                release_lease(robot.holding(grant))
                break
            except LockRefused as refused:
                if refused.status != 503:
                    raise
    print(json.dumps({"tokens": tokens, "refusals": refusals}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
