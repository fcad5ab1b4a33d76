"""How long a market stays closed after its executor died, measured with real processes."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from canonical_guard import CanonicalMarketAlreadyActive, Guard, clock
from canonical_guard.errors import LockAuthorityUnavailable
from tests.acceptance.robot import Robot
from tests.chaos.keeper_histories import KeeperCase, KeeperHistory
from tests.chaos.record import Record
from tests.chaos.scaled_server import ScaledServer
from tests.server import Server, Template

TIMES = 2
BOTH_KILLED = KeeperCase("-", "stubborn", 60, guard=signal.SIGKILL, keeper=signal.SIGKILL)


@pytest.fixture
def robots() -> Iterator[list[Robot]]:
    started: list[Robot] = []
    yield started
    for robot in started:
        robot.close()


def death_of_all(processes: list[psutil.Process]) -> float:
    """When the last of them was gone; a zombie is gone."""
    left = list(processes)
    until = time.monotonic() + 20
    while left and time.monotonic() < until:
        left = [process for process in left if is_alive(process)]
        time.sleep(0.001)
    assert left == []
    return clock.now()


def is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def held_again(server: Server, root: Path) -> float:
    """When a robot that keeps asking on the same host may send its first order."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        guard = Guard("MES", server=server.url, api_key=server.keys["robot"], project_root=root)
        try:
            guard.acquire()
        except (CanonicalMarketAlreadyActive, LockAuthorityUnavailable):
            time.sleep(0.005)
            continue
        try:
            guard.check()
            at = clock.now()
            assert guard.takeover
        finally:
            guard.release()
        return at
    raise AssertionError("the market stayed closed")


@pytest.mark.parametrize("victim", ["robot", "guard"])
def test_after_a_kill_the_same_host_goes_on_in_less_than_a_second(
    victim: str,
    server: Server,
    robots: list[Robot],
    tmp_path: Path,
    tell: Callable[[str], None],
) -> None:
    by_a_waiting_robot, by_a_new_process = [], []
    for number in range(2 * TIMES):
        robot = Robot("MES", tmp_path, server).trading()
        robots.append(robot)
        all_of_it = [psutil.Process(robot.process.pid), robot.keeper]
        all_of_it.append(psutil.Process(int(robot.told["pid"])))
        os.kill(int(robot.told["pid"]) if victim == "robot" else robot.process.pid, signal.SIGKILL)
        if number % 2:
            dead_at = death_of_all(all_of_it[2:] if victim == "robot" else all_of_it[::2])
            by_a_waiting_robot.append(held_again(server, tmp_path) - dead_at)
        else:
            dead_at = death_of_all(all_of_it)
            heir = Robot("ES", tmp_path, server).trading()
            by_a_new_process.append(clock.now() - dead_at)
            assert heir.told["takeover"] == "1"
            heir.stop()
            robots.append(heir)
    tell(
        f"kill -9 of the {victim}, TTL and delay 15 s each:\n"
        f"  the market is held by one who keeps asking {told(by_a_waiting_robot)} later,\n"
        f"  and the robot of a guard started then runs {told(by_a_new_process)} later"
    )
    assert statistics.median(by_a_waiting_robot) < 1


def told(seconds: list[float]) -> str:
    return ", ".join(f"{second:.2f}" for second in sorted(seconds)) + " s"


@pytest.mark.timeout(300)
def test_guard_and_keeper_killed_together_close_the_market_for_ttl_and_delay_at_most(
    request: pytest.FixtureRequest,
    server_template: Template,
    tmp_path: Path,
    tell: Callable[[str], None],
) -> None:
    ttl = 15.0 if request.config.getoption("--chaos-minutes") else 3.0
    server = ScaledServer(server_template, tmp_path / "web", ttl)
    server.start()
    try:
        history = KeeperHistory(BOTH_KILLED, "-", "ES", server, tmp_path)
        history.play()
    finally:
        server.stop()
    grants = [line for line in Record(tmp_path / "record").lines() if line["kind"] == "granted"]
    closed = max(line["at"] for line in grants) - history.struck_at
    tell(
        f"guard and keeper killed together, TTL and delay {ttl:g} s each: "
        f"granted again after {closed:.2f} s"
    )
    assert closed < 2 * ttl + 1
