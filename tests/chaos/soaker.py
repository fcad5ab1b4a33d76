"""Many holders that renew, and reporters that report, at a fixed rate, until their time is over.

`python -m tests.chaos.soaker SECONDS RENEWALS EVENTS URL URL`, rates a second; the API key comes in
WATCHDOG_API_KEY. A request that fails is sent again to the other server, as a guard and a careful
reporter do. Prints one JSON line: what was asked, what was lost, how long answers took.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import statistics
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

LEASES = 100
RENEWING, REPORTING = 8, 2
BATCH = 50
REQUEST_TIMEOUT = 2.0
STOP_AFTER = 10.0


@dataclass
class Told:
    """What one thread saw."""

    renewals: int = 0
    retries: int = 0
    sent: int = 0
    accepted: int = 0
    duplicates: int = 0
    lost: list[str] = field(default_factory=list)
    longest_gap: float = 0.0
    took: list[float] = field(default_factory=list)


class Client:
    """One connection at a time, to whichever of the servers answers."""

    def __init__(self, servers: list[str], first: int) -> None:
        self.servers = servers
        self.at = first % len(servers)
        self.connection: http.client.HTTPConnection | None = None
        self.headers = {
            "Authorization": f"Api-Key {os.environ['WATCHDOG_API_KEY']}",
            "Content-Type": "application/json",
        }

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        """Status and answer; 0 where there was none."""
        try:
            if self.connection is None:
                netloc = urlsplit(self.servers[self.at]).netloc
                self.connection = http.client.HTTPConnection(netloc, timeout=REQUEST_TIMEOUT)
            self.connection.request("POST", path, json.dumps(body), self.headers)
            answer = self.connection.getresponse()
            status, content = answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            status, content = 0, b"null"
        if status == 0 or status >= 500:
            self._turn_to_the_other()
            return status, None
        return status, json.loads(content)

    def _turn_to_the_other(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = None
        self.at = (self.at + 1) % len(self.servers)


def hold(names: list[str], servers: list[str], number: int, until: float, every: float) -> Told:
    """Take each account's lease of GC and renew it `every` so many seconds."""
    told, client = Told(), Client(servers, number)
    bodies, last = {}, {}
    for name in names:
        run = {"run_id": f"soak-{name}", "nonce": secrets.token_hex(16)}
        request = {
            **run, "execution_instrument": "GC", "canonical_instrument": "GC", "account": name,
            "host": "soak",
        }  # fmt: skip
        before = time.monotonic()
        status, grant = client.post("/api/locks/acquire", request)
        assert status == 200, (status, grant)
        lock = {"kind": "canonical_market", "name": "GC", "scope": name}
        bodies[name] = {**lock, **run, "fencing_token": grant["fencing_token"]}
        last[name] = before
    began = time.monotonic()
    turn = 0
    while time.monotonic() < until:
        for place, name in enumerate(names):
            due = began + every * (turn + place / len(names))
            time.sleep(max(0.0, due - time.monotonic()))
            while name not in told.lost:
                before = time.monotonic()
                status, _ = client.post("/api/locks/renew", bodies[name])
                now = time.monotonic()
                if status == 200:
                    told.renewals += 1
                    told.took.append(now - before)
                    told.longest_gap = max(told.longest_gap, before - last[name])
                    last[name] = before
                    break
                told.retries += 1
                if 400 <= status < 500 or now - last[name] > STOP_AFTER:
                    told.lost.append(name)
                time.sleep(0.05)
        turn += 1
    for name in set(names) - set(told.lost):
        client.post("/api/locks/release", bodies[name])
    return told


def report(servers: list[str], number: int, until: float, every: float) -> Told:
    """Send a batch of events `every` so many seconds, each until it was taken."""
    told, client = Told(), Client(servers, number)
    began, turn = time.monotonic(), 0
    while time.monotonic() < until:
        time.sleep(max(0.0, began + every * turn - time.monotonic()))
        turn += 1
        batch = [
            {
                "event_id": f"soak-{number}-{turn}-{index}",
                "ts_utc": datetime.now(UTC).isoformat(),
                "run_id": f"soak-reporter-{number}", "instrument": "NQ", "event": "SOAK_LINE",
                "data": {"note": "x" * 100},
            }
            for index in range(BATCH)
        ]  # fmt: skip
        told.sent += len(batch)
        while True:
            before = time.monotonic()
            status, answer = client.post("/api/events", batch)
            if status == 200:
                told.accepted += answer["accepted"]
                told.duplicates += answer["duplicates"]
                told.took.append(time.monotonic() - before)
                break
            told.retries += 1
            time.sleep(0.1)
    return told


def main(seconds: float, renewals: float, events: float, servers: list[str]) -> None:
    names = [f"Sim{number}" for number in range(LEASES)]
    until = time.monotonic() + seconds
    held: list[Told] = []
    reported: list[Told] = []

    def run(kept: list[Told], work: Any, *arguments: Any) -> None:
        kept.append(work(*arguments))

    threads = [
        threading.Thread(
            target=run,
            args=(held, hold, names[n::RENEWING], servers, n, until, LEASES / renewals),
        )
        for n in range(RENEWING)
    ] + [
        threading.Thread(
            target=run, args=(reported, report, servers, n, until, BATCH * REPORTING / events)
        )
        for n in range(REPORTING)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == RENEWING, "a holder failed"
    assert len(reported) == REPORTING, "a reporter failed"
    took = sorted(second for one in held for second in one.took)
    taken = sorted(second for one in reported for second in one.took)
    answer = {
        "renewals": sum(one.renewals for one in held),
        "renewal_retries": sum(one.retries for one in held),
        "lost": sorted(name for one in held for name in one.lost),
        "longest_gap": round(max(one.longest_gap for one in held), 2),
        "renewal_ms": _quantiles(took),
        "sent": sum(one.sent for one in reported),
        "accepted": sum(one.accepted for one in reported),
        "duplicates": sum(one.duplicates for one in reported),
        "report_retries": sum(one.retries for one in reported),
        "report_ms": _quantiles(taken),
    }
    print(json.dumps(answer), flush=True)


def _quantiles(seconds: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(seconds) * 1000, 1),
        "p99": round(seconds[int(len(seconds) * 0.99)] * 1000, 1),
        "most": round(seconds[-1] * 1000, 1),
    }


if __name__ == "__main__":
    main(float(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), sys.argv[4:])
