"""Acceptance: a web process gets new code while robots renew through it, and none notices."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from canonical_guard import symbols
from tests.server import ROOT, Server

ROBOTS = 20
RESTARTS = 2


class Asking:
    """Somebody who asks again and again; what was not answered."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.asked = 0
        self.failed: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        while not self._over.wait(0.01):
            self.asked += 1
            try:
                status, _ = self.server.request("GET", "/api/locks?page_size=1")
                if status != 200:
                    self.failed.append(str(status))
            except OSError as error:
                self.failed.append(str(error))

    def end(self) -> None:
        self._over.set()
        self._thread.join(30)


def restart(server: Server) -> None:
    """What `systemctl reload` does: new workers first, then the old ones are let go."""
    assert server.process is not None
    parent = psutil.Process(server.process.pid)
    old = set(parent.children())
    parent.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 60
    while old & set(parent.children()) or not parent.children():
        assert time.monotonic() < deadline, server.log.read_text()
        time.sleep(0.05)


def test_no_lease_is_lost_while_the_web_process_gets_new_code(
    server: Server, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    markets = sorted(set(symbols.builtin_registry().values()))[:ROBOTS]
    environment = os.environ | {
        "WATCHDOG_URL": server.url,
        "WATCHDOG_API_KEY": server.keys["robot"],
        "WATCHDOG_PROJECT_ROOT": str(tmp_path),
    }
    fleet = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.fleet", *markets],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert fleet.stdout is not None
    assert fleet.stdout.readline() == "holding\n"
    asking = Asking(server)
    try:
        for _ in range(RESTARTS):
            restart(server)
    finally:
        asking.end()
        out, _ = fleet.communicate(timeout=60)
    told = json.loads(out)
    tell(
        f"{RESTARTS} restarts under {len(markets)} robots: {len(asking.failed)} of {asking.asked} "
        f"requests failed, least time left until stop {told['least_seconds_left']} s"
    )
    assert told["lost"] == []
    assert told["least_seconds_left"] > 2
    # A connection that waited at the old worker's door may be reset; a guard then asks again.
    assert len(asking.failed) <= asking.asked / 100, asking.failed
