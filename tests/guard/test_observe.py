"""An observing guard reports and never stops a robot."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.guard.authority import LockAuthority
from tests.guard.conftest import Robots, eventually, is_running


def test_an_observed_robot_starts_although_the_market_is_taken(
    robots: Robots, tmp_path: Path
) -> None:
    robots.trading()
    observed = robots.start("sh", "-c", "exit 9", market="ES", options=("--observe",))
    assert observed.wait() == 9
    assert "ALREADY_ACTIVE: Observing, so starting regardless" in observed.said


def test_an_observed_robot_starts_without_any_authority(robots: Robots) -> None:
    observed = robots.start(
        "sh", "-c", "exit 9", options=("--observe",), environment={"WATCHDOG_URL": ""}
    )
    assert observed.wait() == 9


def test_an_observed_robot_outlives_a_lost_lease(robots: Robots, authority: LockAuthority) -> None:
    run, robot = robots.trading(options=("--observe",))
    authority.leases["ES"]["fencing_token"] += 1
    assert eventually(lambda: "LOCK_LOST" in run.said)
    time.sleep(1)
    assert is_running(robot)
    run.process.terminate()
    assert run.wait() == 128 + signal.SIGTERM


@pytest.mark.parametrize("victim", ["guard", "keeper"])
def test_an_observed_robot_outlives_guard_and_keeper(robots: Robots, victim: str) -> None:
    run, robot = robots.trading(options=("--observe",))
    if victim == "guard":
        run.process.kill()
    else:
        run.keeper().kill()
    time.sleep(1)
    assert is_running(robot)
