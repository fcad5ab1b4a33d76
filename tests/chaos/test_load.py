"""Fifty robots keep their markets while the server's one SQLite file is kept busy.

It takes minutes, so it runs with `--chaos-minutes` alone: ten of them ingest a whole gigabyte.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from canonical_guard import symbols
from tests.server import ROOT, Server

ROBOTS = 50
PROCESSES = 5
STREAMS = 100_000
STREAMS_A_ROBOT = STREAMS // ROBOTS
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


def write_streams(path: Path, market: str) -> None:
    """One robot's log of now: one run, and its share of all streams, each as it should be."""
    at = datetime.now(UTC).isoformat()
    with path.open("w", encoding="utf-8") as log:
        for number in range(STREAMS_A_ROBOT):
            line = {
                "ts_utc": at,
                "instrument": market,
                "stream": f"{market}{number + 1}",
                "run_id": path.stem,
                "event": "STREAM_STATE",
                "data": {"canonical_instrument": market, "execution_instrument": market},
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
    tell: Callable[[str], None],
) -> None:
    for robot in fleet:
        assert robot.stdout is not None
        assert robot.stdout.readline() == "holding\n"
    minutes: float = request.config.getoption("--chaos-minutes")
    size = int(GIGABYTE * min(1.0, minutes / 10))
    bulk = tmp_path / "robot_ENGINE.jsonl"
    write_bulk(bulk, size)
    began = time.monotonic()
    for name in fleet_names():
        market, _, scope = name.partition("@")
        streams = tmp_path / f"robot_{name}.jsonl"
        write_streams(streams, market)
        done = server.manage("ingest", str(streams), "--scope", scope, timeout=300)
        assert done.returncode == 0, done.stderr
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
    tell(
        f"{ROBOTS} robots on SQLite for {time.monotonic() - began:.0f} s: "
        f"{size / GIGABYTE:.2f} GB ingested, {sweeps} sweeps over {STREAMS:,} streams; "
        f"least time left until stop: {least} s\n{said.strip()}"
    )
    assert ingest.returncode == 0
    assert [answer["lost"] for answer in told] == [[]] * PROCESSES
