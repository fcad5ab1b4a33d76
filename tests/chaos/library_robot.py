"""A robot in Python with the guard in its own process: acts only after `check()`.

Arguments: the TTL, symbol, lock's name, project root, record, seconds to live, how to end (clean or
crash). The server and the key come from the environment. Exits with 75 where it was refused.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from canonical_guard import Guard, GuardError, LeaseLost, clock
from canonical_guard.errors import EX_LEASE_LOST
from tests.chaos.launcher import scale_this_process
from tests.chaos.record import Record


def main(
    ttl: float, symbol: str, lock: str, root: str, record_path: str, seconds: float, ending: str
) -> int:
    scale_this_process(ttl)
    record = Record(Path(record_path))
    guard = Guard(symbol, project_root=root, report=lambda event, sentence: None)
    try:
        guard.acquire()
    except GuardError as refused:
        record.write("refused", code=refused.code)
        return refused.exit_status
    token, who = guard.fencing_token, guard.run_id
    record.write(
        "granted",
        lock=lock,
        token=token,
        who=who,
        run=guard.run_id,
        pid=os.getpid(),
        at=clock.now(),
        takeover=guard.takeover,
        through="Guard in a library",
    )
    until = clock.now() + seconds
    while clock.now() < until:
        at = clock.now()
        try:
            guard.check()
        except LeaseLost:
            return EX_LEASE_LOST
        record.write("act", lock=lock, token=token, who=who, at=at)
        time.sleep(0.01)
    if ending == "crash":
        os._exit(1)
    guard.release()
    return 0


if __name__ == "__main__":
    sys.exit(
        main(
            float(sys.argv[1]),
            sys.argv[2],
            sys.argv[3],
            sys.argv[4],
            sys.argv[5],
            float(sys.argv[6]),
            sys.argv[7],
        )
    )
