"""Acceptance: `manage.py up` on the embedded default, as somebody meets it who knows nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.server import ROOT, free_port

PATIENCE = 90.0

FASTER_BEAT = """
from django_celery_beat.models import IntervalSchedule, PeriodicTask
second, _ = IntervalSchedule.objects.get_or_create(every=1, period="seconds")
for task in PeriodicTask.objects.filter(interval__isnull=False):
    task.interval = second
    task.save()
"""
SEEN = """
import json
from watchdog_project.models import TaskHeartbeat
print(json.dumps({beat.task: beat.finished_at.isoformat() for beat in TaskHeartbeat.objects.all()
    if beat.finished_at}))
"""


class Up:
    """One `up` in a state folder of its own, its lines collected as they come."""

    def __init__(self, home: Path, *options: str, port: int | None = None) -> None:
        self.home = home
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("DATABASE_URL", "CELERY_BROKER_URL")
        } | {"WATCHDOG_HOME": str(home)}
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "up", "--port", str(self.port), *options],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self.family: list[psutil.Process] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            self.lines.extend(lines)

    @property
    def said(self) -> str:
        return "".join(self.lines)

    def wait_for(self, happened: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        deadline = time.monotonic() + seconds
        while not (result := happened()):
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.1)
        return result

    def ready(self) -> Up:
        self.wait_for(lambda: "Ctrl-C ends everything" in self.said)
        self.family = psutil.Process(self.process.pid).children(recursive=True)
        return self

    def status(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/api/watchdog/status", timeout=10) as answer:
            return dict(json.load(answer))

    def shell(self, script: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", "shell", "-v", "0", "-c", script],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def end(self, number: int = signal.SIGINT) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(30)
        self._reader.join(30)
        return status

    def left_behind(self, seconds: float = 15) -> list[psutil.Process]:
        _, alive = psutil.wait_procs(self.family, timeout=seconds)
        return alive


@pytest.fixture
def start_up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(*options: str, **more: Any) -> Up:
        started.append(Up(tmp_path / "home", *options, **more))
        return started[-1]

    yield start
    for up in started:
        up.end()


@pytest.fixture
def robot_logs(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    at = datetime.now(UTC).isoformat()
    lines = [
        {
            "ts_utc": at, "instrument": "MES", "stream": "ES1", "run_id": "run-1",
            "event": "ORDER_SUBMITTED", "message": "", "data": {"order": str(number)},
        }
        for number in range(50)
    ]  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "robot_MES.jsonl").write_text(text)
    return folder


def test_from_nothing_to_the_first_real_alarm_and_the_same_after_a_restart(
    start_up: Callable[..., Up], robot_logs: Path
) -> None:
    up = start_up("--robot-logs", str(robot_logs)).ready()

    password = re.search(r"Log in as 'operator' with the password (\S+)", up.said)
    assert password, up.said
    key = up.home / "robot.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    up.wait_for(lambda: up.status()["ingest"]["accepted"] == 50)
    told = up.status()
    assert told["status"] == "VIOLATION"
    (row,) = told["markets"]
    assert sum(v["count"] for v in row["identity"]["violations"]) == 50
    first_key = key.read_text()
    assert up.end() == 0
    assert up.left_behind(0) == [], "Ctrl-C leaves nothing behind"

    again = start_up("--robot-logs", str(robot_logs)).ready()
    assert "password" not in again.said, "it is shown once"
    assert key.read_text() == first_key
    again.wait_for(lambda: again.status()["sweep"]["last_finished_at"])
    assert again.status()["ingest"]["accepted"] == 50, "each line once"
    assert password[1] not in again.said


def test_the_demo_shows_a_refusal_and_a_stream_that_goes_wrong_and_is_mended(
    start_up: Callable[..., Up],
) -> None:
    up = start_up("--demo").ready()

    def market() -> tuple[str, str]:
        rows = up.status()["markets"]
        return (rows[0]["identity"]["status"], rows[0]["lock"]["state"]) if rows else ("", "")

    up.wait_for(lambda: market() == ("OK", "HELD"))
    up.wait_for(lambda: re.search("rival .*CANONICAL_MARKET_ALREADY_ACTIVE", up.said))
    up.wait_for(lambda: market() == ("VIOLATION", "HELD"))
    assert "executes 'MNQ'" in up.status()["last_identity_violations"][0]
    up.wait_for(lambda: market() == ("OK", "HELD"))


def test_sweep_and_reaper_run_from_beat(start_up: Callable[..., Up]) -> None:
    up = start_up().ready()
    up.shell(FASTER_BEAT)

    def seen_to_run_twice() -> bool:
        for task in ("sweep_identity", "reap_stale_locks"):
            times = {at for seen in history for name, at in seen.items() if task in name}
            if len(times) < 3:
                history.append(json.loads(up.shell(SEEN)))
                return False
        return True

    history: list[dict[str, str]] = []
    up.wait_for(seen_to_run_twice)


def test_the_worker_writes_the_market_sessions_of_a_new_installation(
    start_up: Callable[..., Up],
) -> None:
    up = start_up().ready()

    up.wait_for(lambda: "Wrote the market sessions of 6 calendars" in up.said)

    days = "from watchdog_project.models import SessionDay; print(SessionDay.objects.count())"
    assert int(up.shell(days)) == 6 * 66


def test_a_program_that_dies_is_started_again(start_up: Callable[..., Up]) -> None:
    up = start_up().ready()
    (web,) = [
        child
        for child in up.family
        if "granian" in " ".join(child.cmdline())
        and "leash" not in " ".join(child.cmdline())
        and "leash" in " ".join((child.parent() or child).cmdline())
    ]
    web.kill()
    up.wait_for(lambda: re.search(r"web +\| ended with status", up.said))

    def answers() -> bool:
        try:
            return bool(up.status())
        except OSError:
            return False

    up.wait_for(answers)


def test_killing_up_itself_leaves_nothing_behind(start_up: Callable[..., Up]) -> None:
    up = start_up().ready()
    assert len(up.family) >= 4
    up.end(signal.SIGKILL)
    assert up.left_behind() == []


def test_a_port_in_use_is_said_before_anything_is_made(
    start_up: Callable[..., Up], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        up = start_up(port=taken.getsockname()[1])
        assert up.process.wait(30) == 1
        up.end()
    assert re.search(r"Cannot listen on 127\.0\.0\.1 port \d+ .*--port", up.said)
    assert "Traceback" not in up.said
    assert not (tmp_path / "home" / "robot.key").exists()


def test_a_log_folder_that_does_not_exist_is_said(start_up: Callable[..., Up]) -> None:
    up = start_up("--robot-logs", "/no/such/folder")
    assert up.process.wait(30) == 1
    up.end()
    assert "--robot-logs /no/such/folder: there is no such folder" in up.said
    assert "Traceback" not in up.said


def test_a_second_up_on_the_same_state_folder_is_refused(start_up: Callable[..., Up]) -> None:
    start_up().ready()
    second = start_up()
    assert second.process.wait(30) == 1
    second.end()
    assert "is running already" in second.said
    assert "Traceback" not in second.said
