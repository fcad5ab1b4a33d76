"""Fifty robots keep their markets while the server's one SQLite file is kept busy.

It takes minutes, so it runs with `--chaos-minutes` alone: ten of them ingest a whole gigabyte.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from canonical_guard import symbols
from tests.server import ROOT, Server

ROBOTS = 50
PROCESSES = 5
STREAMS = 100_000
STREAMS_A_RUN = 10
GIGABYTE = 1_000_000_000
SHARED_MARKET = "GC"
SHARE = f"""
from identity.models import CanonicalInstrument
CanonicalInstrument.objects.filter(symbol="{SHARED_MARKET}").update(exclusive_per_account=True)
"""


def fleet_names() -> list[str]:
    """One robot a market, and as many accounts of one market as are still wanted."""
    alone = sorted(set(symbols.builtin_registry().values()) - {SHARED_MARKET})
    accounts = [f"{SHARED_MARKET}@Sim{number}" for number in range(ROBOTS - len(alone))]
    return [*alone, *accounts]


@pytest.fixture
def fleet(server: Server, tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    assert server.manage("shell", "-v", "0", "-c", SHARE).returncode == 0
    environment = os.environ | {
        "WATCHDOG_URL": server.url,
        "WATCHDOG_API_KEY": server.keys["robot"],
        "WATCHDOG_PROJECT_ROOT": str(tmp_path),
    }
    names = fleet_names()
    robots = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.fleet", *names[number::PROCESSES]],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    yield robots
    for robot in robots:
        if robot.poll() is None:
            robot.kill()
            robot.wait(30)
        for pipe in (robot.stdin, robot.stdout):
            if pipe is not None:
                pipe.close()


def write_streams(path: Path) -> None:
    """A log of `STREAMS` right streams, of now: ten a run, each run on an account of its own."""
    at = datetime.now(UTC).isoformat()
    market, execution = SHARED_MARKET, f"M{SHARED_MARKET}"
    with path.open("w", encoding="utf-8") as log:
        for number in range(STREAMS):
            run, stream = divmod(number, STREAMS_A_RUN)
            line = {
                "ts_utc": at,
                "instrument": market,
                "account": f"Sim{run}",
                "stream": f"{market}{stream + 1}",
                "run_id": f"run-{run}",
                "event": "STREAM_STATE",
                "data": {"canonical_instrument": market, "execution_instrument": execution},
            }
            log.write(json.dumps(line) + "\n")


def write_bulk(path: Path, size: int) -> None:
    """`size` bytes of lines that are about nothing in particular, each another one."""
    written, number = 0, 0
    with path.open("w", encoding="utf-8") as log:
        while written < size:
            line = {
                "ts_utc": "2026-04-01T14:00:25.2153057+00:00", "level": "WARN",
                "source": "RobotEngine", "instrument": "", "stream": "__engine__",
                "account": None, "run_id": "bulk", "event": "BROKER_NOT_FLAT",
                "message": "BROKER_NOT_FLAT",
                "data": {"number": str(number), "note": "x" * 300},
            }  # fmt: skip
            written += log.write(json.dumps(line) + "\n")
            number += 1


@pytest.mark.long
@pytest.mark.sqlite_only
@pytest.mark.timeout(3600)
def test_no_lease_is_lost_while_logs_are_ingested_and_streams_are_swept(
    server: Server,
    fleet: list[subprocess.Popen[str]],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for robot in fleet:
        assert robot.stdout is not None
        assert robot.stdout.readline() == "holding\n"
    minutes: float = request.config.getoption("--chaos-minutes")
    size = int(GIGABYTE * min(1.0, minutes / 10))
    streams, bulk = tmp_path / "robot_ES.jsonl", tmp_path / "robot_ENGINE.jsonl"
    write_streams(streams)
    write_bulk(bulk, size)
    began = time.monotonic()
    assert server.manage("ingest", str(streams), timeout=1200).returncode == 0
    ingest = subprocess.Popen(
        [sys.executable, "manage.py", "ingest", str(bulk)],
        cwd=ROOT,
        env=server.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    sweeps = 0
    while ingest.poll() is None:
        assert server.manage("sweep", timeout=600).returncode in (0, 1, 2)
        sweeps += 1
    said, _ = ingest.communicate()
    told = []
    for robot in fleet:
        out, _ = robot.communicate(timeout=120)
        told.append(json.loads(out))
    least = min(answer["least_seconds_left"] for answer in told)
    with capsys.disabled():
        print(
            f"\n{ROBOTS} robots on SQLite for {time.monotonic() - began:.0f} s: "
            f"{size / GIGABYTE:.2f} GB ingested, {sweeps} sweeps over {STREAMS:,} streams; "
            f"least time left until stop: {least} s\n{said}"
        )
    assert ingest.returncode == 0
    assert [answer["lost"] for answer in told] == [[]] * PROCESSES
