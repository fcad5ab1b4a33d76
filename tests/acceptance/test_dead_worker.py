"""Acceptance: a worker dies; the badge turns STALE and the world outside is no longer pinged."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.identity.cast import complete
from tests.server import ROOT, Server, Template
from tests.watchdog.pings import Monitor, a_monitor
from watchdog_project.management.commands.up import programs

PATIENCE = 60.0
SWEEP_SECONDS = 2.0


class Installation:
    """Web, worker and beat as `up` runs them, without what would start a dead one again."""

    def __init__(self, template: Template, home: Path, monitor: Monitor) -> None:
        self.server = Server(template, home)
        self.server.environment |= {
            "WATCHDOG_SWEEP_SECONDS": str(SWEEP_SECONDS),
            "WATCHDOG_DEADMAN_URL": monitor.url,
        }
        self.commands = {
            program.name: program.command for program in programs("127.0.0.1", self.server.port)
        }
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        with (self.server.home / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                list(self.commands[name]),
                cwd=ROOT,
                env=self.server.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        process.kill()
        process.wait(30)

    def stop(self) -> None:
        for name in list(self.running):
            self.kill(name)
        self.server.stop()

    def told(self) -> dict[str, Any]:
        status, body = self.server.request("GET", "/api/watchdog/status", role="reader")
        assert status == 200
        return dict(body)

    def badge(self) -> str:
        return str(self.server.request("GET", "/api/watchdog/badge.svg", role="reader")[1])

    def wait_for(self, happened: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while not happened(told := self.told()):
            logs = [path.read_text()[-2000:] for path in self.server.home.glob("*.log")]
            assert time.monotonic() < deadline, (told, *logs)
            time.sleep(0.1)
        return told


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    with a_monitor() as monitor:
        yield monitor


@pytest.fixture
def installation(
    server_template: Template, tmp_path: Path, monitor: Monitor
) -> Iterator[Installation]:
    with ExitStack() as ending:
        running = Installation(server_template, tmp_path / "home", monitor)
        ending.callback(running.stop)
        running.server.start()
        running.start("worker")
        running.start("beat")
        yield running


def test_a_worker_is_killed_and_the_badge_turns_stale_and_the_ping_stops(
    installation: Installation, monitor: Monitor, tell: Callable[[str], None]
) -> None:
    order = complete(at=datetime.now(UTC))
    assert installation.server.request("POST", "/api/events", order)[1]["accepted"] == 1
    installation.wait_for(
        lambda told: told["status"] == "OK" and "IDENTITY OK" in installation.badge()
    )
    assert monitor.pings[0] == "/start"

    # Between two sweeps, so that none is under way.
    monitor.wait_for(monitor.pings.count("") + 1)
    installation.kill("worker")
    pinged = list(monitor.pings)
    killed_at = time.monotonic()
    told = installation.wait_for(lambda told: told["status"] == "STALE")
    stale_after = time.monotonic() - killed_at

    assert told["sweep"]["overdue"] is True
    assert "sweep identity" in told["overdue_tasks"]
    assert "IDENTITY STALE" in installation.badge()
    assert installation.server.request("GET", "/readyz", role=None)[1]["sweep"] == "overdue"
    assert stale_after < 2.5 * SWEEP_SECONDS + 3
    tell(f"worker killed, sweeps every {SWEEP_SECONDS:g} s: STALE after {stale_after:.1f} s")
    assert len(monitor.pings) <= len(pinged) + 1, "at most one was under way"
    assert monitor.pings.count("") >= 2

    installation.start("worker")
    installation.wait_for(lambda told: told["status"] == "OK")
    monitor.wait_for(pinged.count("") + 1)


@pytest.mark.parametrize("name", ["worker", "beat", "check"])
def test_with_an_address_that_cannot_be_pinged_no_program_starts(
    server_template: Template, tmp_path: Path, name: str
) -> None:
    commands = {program.name: list(program.command) for program in programs("127.0.0.1", 0)}
    commands["check"] = [sys.executable, "manage.py", "check"]
    done = subprocess.run(
        commands[name],
        cwd=ROOT,
        env=server_template.environment(tmp_path, server_template.copy(tmp_path))
        | {"WATCHDOG_DEADMAN_URL": "hc.example/0c7b6a3e-secret"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1
    assert "watchdog.E008" in done.stderr
    assert "0c7b6a3e-secret" not in done.stderr + done.stdout
