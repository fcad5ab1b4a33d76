"""Many robots that do nothing but hold their markets: `MARKET[@ACCOUNT]…`, until stdin closes.

Server, key and project root come from the environment. Prints `holding` once all are held, and at
the end what came of them as one JSON line: those lost, and the least that any ever had left of the
time until it must stop trading, in seconds.
"""

from __future__ import annotations

import json
import select
import sys

from canonical_guard import Guard, LeaseLost

CHECK_EVERY = 0.1


def main(names: list[str]) -> None:
    guards = {name: _acquired(name) for name in names}
    print("holding", flush=True)
    lost: set[str] = set()
    least = float("inf")
    while not select.select([sys.stdin], [], [], CHECK_EVERY)[0]:
        for name, guard in guards.items():
            if name in lost:
                continue
            try:
                guard.check()
                least = min(least, guard.seconds_left or 0.0)
            except LeaseLost:
                lost.add(name)
    for guard in guards.values():
        guard.release()
    print(json.dumps({"lost": sorted(lost), "least_seconds_left": round(least, 2)}), flush=True)


def _acquired(name: str) -> Guard:
    market, _, account = name.partition("@")
    guard = Guard(market, account=account or None, end_process_when_lost=False)
    guard.acquire()
    return guard


if __name__ == "__main__":
    main(sys.argv[1:])
