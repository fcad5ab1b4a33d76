"""A robot in any language: it never asks anybody whether it may, and acts all the time.

Arguments: the record, the lock's name, the ways that it has (any of: stubborn, family, detached),
seconds to live, the status to end with. A child of it in its own process group (family) or in a
session of its own (detached) acts as well, and longer.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    return time.clock_gettime(CLOCK)


def main(record: str, lock: str, ways: str, seconds: float, status: int) -> None:
    descriptor = os.open(record, os.O_WRONLY | os.O_APPEND)
    run, token = os.environ["WATCHDOG_RUN_ID"], int(os.environ["WATCHDOG_FENCING_TOKEN"])

    def write(kind: str, **fields: object) -> None:
        line = {"kind": kind, "lock": lock, "token": token, "who": run, **fields}
        os.write(descriptor, f"\n{json.dumps(line)}\n".encode())

    asked_to_stop = []
    if "stubborn" in ways:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: asked_to_stop.append(True))
    write(
        "granted",
        run=run,
        pid=os.getpid(),
        at=now(),
        takeover=os.environ["WATCHDOG_TAKEOVER"] == "1",
        through="canonical_guard run",
    )
    until = now() + seconds
    if ("detached" in ways or "family" in ways) and os.fork() == 0:
        if "detached" in ways:
            os.setsid()
        until += 60
    while now() < until and not asked_to_stop:
        write("act", at=now())
        time.sleep(0.01)
    os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]), int(sys.argv[5]))
