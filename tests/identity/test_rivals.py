"""Processes that read the same file at once, and processes that die while they read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from identity.models import IdentityEvent, RobotRun, Violation
from identity.registry import seed_registry
from tests.identity.cast import HERE, NOW, complete, incomplete, post, write_lines
from tests.locks.rivals import all_at_once, environment

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _registry(transactional_db: None) -> None:
    seed_registry()


def manage(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def eventually(what: Callable[[], Any], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def test_processes_that_ingest_one_file_at_once_count_each_line_once(tmp_path: Path) -> None:
    lines = [incomplete("INTENT_X", number=number) for number in range(3000)]
    path = write_lines(tmp_path / "robot_ES.jsonl", lines)
    readers = [manage("ingest", str(path)) for _ in range(3)]
    for reader in readers:
        _, errors = reader.communicate(timeout=60)
        assert reader.returncode == 0, errors
    assert IdentityEvent.objects.filter(origin="robot").count() == 3000
    assert Violation.objects.get().count == 3000


def test_senders_that_post_the_same_events_at_once_count_each_once() -> None:
    lines = [incomplete("INTENT_X", event_id=str(number)) for number in range(200)]

    def send() -> int:
        return post(*lines).accepted

    accepted = all_at_once([send] * 4)
    assert sum(accepted) == 200
    assert Violation.objects.get().count == 200


def test_new_runs_streams_and_markets_of_many_senders_at_once_are_all_recorded() -> None:
    def sender(number: int) -> Callable[[], int]:
        place = type(HERE)(log=f"sender {number}")
        mine = complete("INTENT_X", run=f"run-{number}")
        shared = complete("INTENT_X", run="shared", number=number)
        return lambda: post(mine, shared, place=place).accepted

    assert all_at_once([sender(number) for number in range(6)]) == [2] * 6
    assert RobotRun.objects.count() == 7


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes fork on POSIX only")
def test_a_kill_before_any_statement_neither_loses_nor_repeats_a_line(tmp_path: Path) -> None:
    crasher = subprocess.run(
        [sys.executable, "-m", "tests.identity.crasher", str(tmp_path)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert crasher.returncode == 0, crasher.stderr
    runs = [json.loads(one) for one in crasher.stdout.splitlines()]
    assert len(runs) > 20
    assert [run["killed"] for run in runs] == [True] * (len(runs) - 1) + [False]
    for run in runs:
        assert (run["events"], run["breaches"]) == (5, 5), run


def test_tail_follows_a_folder_until_it_is_told_to_stop(tmp_path: Path) -> None:
    tail = manage("tail", str(tmp_path / "logs"))
    try:
        (tmp_path / "logs").mkdir()
        path = tmp_path / "logs" / "robot_ES.jsonl"
        write_lines(path, [complete(at=NOW, number=1)])
        eventually(lambda: IdentityEvent.objects.filter(origin="robot").count() == 1)
        with path.open("ab") as file:
            file.write(json.dumps(incomplete(number=2)).encode() + b"\n")
        eventually(lambda: Violation.objects.filter(ended_at__isnull=True).exists())
        tail.send_signal(signal.SIGTERM)
        _, errors = tail.communicate(timeout=20)
        assert tail.returncode == 0, errors
    finally:
        tail.kill()
        tail.communicate()
