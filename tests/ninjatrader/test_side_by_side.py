"""A market has one executor, whichever guard it has: C# or Python, on one host or on two."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from canonical_guard import Guard
from tests.acceptance.robot import Robot
from tests.ninjatrader.conftest import StartDriver
from tests.ninjatrader.driver import Refused
from tests.server import ROOT, Server

# A guard does not see which database its server has.
pytestmark = pytest.mark.sqlite_only

StartPython = Callable[..., Robot]


@pytest.fixture
def start_python() -> Iterator[StartPython]:
    """A robot under `canonical_guard run`; without a server it is host-only."""
    robots: list[Robot] = []

    def start(market: str, root: str, server: Server | None) -> Robot:
        robots.append(Robot(market, Path(root), server))
        return robots[-1]

    yield start
    for robot in reversed(robots):
        robot.close()


@pytest.fixture(params=["one host", "two hosts"])
def other_root(request: pytest.FixtureRequest, root: str) -> str:
    """The second robot's: the same is guarded by the host lock, another by the lease alone."""
    return root if request.param == "one host" else f"{root}-of-another-host"


def asks(watchdog: Server) -> dict[str, Any]:
    return {"server": watchdog.url, "key": watchdog.keys["robot"]}


def test_es_in_ninjatrader_is_refused_while_mes_runs_in_python(
    watchdog: Server,
    start_driver: StartDriver,
    start_python: StartPython,
    root: str,
    other_root: str,
) -> None:
    python = start_python("MES", root, watchdog).trading()
    driver = start_driver()
    with pytest.raises(Refused) as refused:
        driver.acquire("ES 03-26", root=other_root, **asks(watchdog))
    told = refused.value.told
    assert (told["code"], told["exit"]) == ("CANONICAL_MARKET_ALREADY_ACTIVE", 75)
    assert told["active"]["run_id"] == python.told["run_id"]
    assert told["active"]["execution_instrument"] == "MES"
    where = " on this host" if other_root == root else ""
    assert told["message"].startswith(
        f"ES is already executed{where} by run {python.told['run_id']}"
    )
    assert python.stop() == 128 + signal.SIGTERM
    assert driver.acquire("ES 03-26", root=other_root, **asks(watchdog))["takeover"] is False
    driver.call("release")


def test_mes_in_python_is_refused_while_es_runs_in_ninjatrader(
    watchdog: Server,
    start_driver: StartDriver,
    start_python: StartPython,
    root: str,
    other_root: str,
) -> None:
    driver = start_driver()
    held = driver.acquire("ES 03-26", root=root, **asks(watchdog))
    status, said = start_python("MES", other_root, watchdog).refused()
    assert status == 75
    assert f"by run {held['run_id']}" in said
    driver.call("release")
    python = start_python("MES", other_root, watchdog).trading()
    assert int(python.told["fencing_token"]) > held["fencing_token"]
    assert python.told["takeover"] == "0"


def test_a_refusal_on_the_host_is_known_to_the_server_too(
    watchdog: Server, start_driver: StartDriver, root: str
) -> None:
    driver = start_driver()
    driver.acquire("NKD", "first", root=root, **asks(watchdog))
    with pytest.raises(Refused):
        driver.acquire("NKD", "second", root=root, run_id="the-second", **asks(watchdog))
    _, events = watchdog.request("GET", "/api/locks/events?name=NKD")
    types = [event["type"] for event in events["results"]]
    assert "CANONICAL_MARKET_ALREADY_ACTIVE" in types
    driver.call("release", guard="first")


def test_status_of_the_python_guard_shows_who_holds_in_ninjatrader(
    start_driver: StartDriver, root: str
) -> None:
    driver = start_driver()
    held = driver.acquire("MES 03-26", root=root, host_only=True)
    (row,) = status(root)
    assert (row["market"], row["state"]) == ("ES", "HELD")
    assert row["record"]["run_id"] == held["run_id"]
    assert row["record"]["pid"] == driver.process.pid
    driver.call("release")
    assert status(root) == []


def test_a_killed_chart_is_stale_to_python_at_once(start_driver: StartDriver, root: str) -> None:
    driver = start_driver()
    driver.acquire("MES", root=root, host_only=True)
    driver.kill()
    (row,) = status(root)
    assert row["state"] == "STALE"
    with Guard("ES", project_root=root, host_only=True) as python:
        assert python.takeover is True


def test_a_killed_python_robot_is_stale_to_a_chart(start_driver: StartDriver, root: str) -> None:
    python = subprocess.Popen(
        [
            sys.executable, "-m", "canonical_guard", "run", "ES", "--host-only",
            "--project-root", root, "--", "sh", "-c", "echo trading; exec sleep 600",
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert python.stdout is not None
    assert python.stdout.readline() == b"trading\n"
    (keeper,) = psutil.Process(python.pid).children()
    family = [keeper, *keeper.children(recursive=True)]
    keeper.kill()
    python.kill()
    python.wait(20)
    python.stdout.close()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
    driver = start_driver()
    assert driver.acquire("MES", root=root, host_only=True)["takeover"] is True
    assert "CANONICAL_MARKET_LOCK_STALE" in driver.said()


def status(root: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "canonical_guard", "status", "--json", "--project-root", root],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    rows: list[dict[str, Any]] = json.loads(done.stdout)["locks"]
    return rows
