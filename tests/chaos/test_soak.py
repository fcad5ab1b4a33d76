"""Load, restarts and time together: nothing is lost, and nothing grows.

Briefly and gently in every run; with `--chaos-minutes 10` for ten minutes at 200 renewals and 500
events a second.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.hosts import Site, running_site
from tests.server import ROOT, Server

BRIEFLY = 12.0
SHARE = """
from identity.models import CanonicalInstrument
CanonicalInstrument.objects.filter(symbol="GC").update(exclusive_per_account=True)
"""
KEPT = """
from identity.models import IdentityEvent
print(IdentityEvent.objects.filter(event_type="SOAK_LINE").count())
"""
MEGABYTE = 1_000_000


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("DATABASE_URL", "")
    with running_site(tmp_path) as site:
        yield site


class Restarts:
    """One thing after the other is restarted, so that there is always one left of each."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.done: list[str] = []
        self.steps = [
            self.new_code_for_the_first,
            self.end_a_worker,
            self.kill_the_second,
            self.new_code_for_the_first,
        ]

    def new_code_for_the_first(self) -> None:
        web = self.site.webs[0].process
        assert web is not None
        web.send_signal(signal.SIGHUP)
        self.done.append("web reloaded")

    def kill_the_second(self) -> None:
        self.site.webs[1].stop(kill=True)
        self.site.webs[1].start()
        self.done.append("web killed")

    def end_a_worker(self) -> None:
        old = self.site.workers[0]
        old.send_signal(signal.SIGTERM)
        old.wait(60)
        self.site.workers[0] = self.site.worker(self.site.webs[0])
        self.done.append("worker restarted")


def memory(site: Site) -> dict[str, int]:
    """Resident bytes of each part with all its children."""
    parts = {f"web {number + 1}": web.process for number, web in enumerate(site.webs)}
    parts |= {f"worker {number + 1}": worker for number, worker in enumerate(site.workers)}
    return {
        name: sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))
        for name, started in parts.items()
        if started is not None
        for process in [psutil.Process(started.pid)]
    }


def count_kept(web: Server) -> int:
    done = web.manage("shell", "-v", "0", "-c", KEPT)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.timeout(1800)
def test_nothing_is_lost_and_nothing_grows(
    site: Site, request: pytest.FixtureRequest, tell: Callable[[str], None]
) -> None:
    minutes: float = request.config.getoption("--chaos-minutes")
    seconds = 60 * minutes or BRIEFLY
    renewals, events = ("200", "500") if minutes else ("50", "100")
    assert site.webs[0].manage("shell", "-v", "0", "-c", SHARE).returncode == 0
    soaker = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.soaker", str(seconds), renewals, events,
         *(web.url for web in site.webs)],
        cwd=ROOT,
        env=os.environ | {"WATCHDOG_API_KEY": site.webs[0].keys["robot"]},
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    began, restarts, busy = time.monotonic(), Restarts(site), []
    try:
        # Restarts in the first half; what grows shows itself in the second.
        for number, step in enumerate(restarts.steps, start=1):
            _until(soaker, began + number * seconds / 2 / (len(restarts.steps) + 1))
            step()
            busy.append(os.getloadavg()[0])
        _until(soaker, began + seconds * 0.6)
        before = memory(site)
        _until(soaker, began + seconds * 0.95)
        after = memory(site)
        out, _ = soaker.communicate(timeout=120)
    finally:
        if soaker.poll() is None:
            soaker.kill()
            soaker.wait()
    told = json.loads(out)
    kept = count_kept(site.webs[0])
    grown = {name: (after[name] - before[name]) / MEGABYTE for name in after}
    sizes = ", ".join(
        f"{name} {size / MEGABYTE:.0f} ({grown[name]:+.1f})" for name, size in after.items()
    )
    tell(
        f"{seconds:.0f} s on PostgreSQL and Redis at {renewals} renewals and {events} events a "
        f"second, {', '.join(restarts.done)}; load average {min(busy):.1f} to {max(busy):.1f} on "
        f"{os.cpu_count()} cores: {json.dumps(told)}; {kept} events kept; memory in MB, and what "
        f"it grew by in the last third: {sizes}"
    )
    assert told["lost"] == []
    assert told["accepted"] + told["duplicates"] == told["sent"]
    assert kept == told["sent"], "each event once"
    assert told["renewals"] > seconds * float(renewals) * 0.8, "it kept the pace"
    if minutes:
        assert max(grown.values()) < 15, "memory is flat"


def _until(soaker: subprocess.Popen[str], moment: float) -> None:
    """Wait for the moment; who soaks must not have failed meanwhile."""
    while time.monotonic() < moment:
        assert soaker.poll() is None
        time.sleep(0.1)
