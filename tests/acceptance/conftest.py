from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.robot import Robot
from tests.server import Server

StartRobot = Callable[..., Robot]


@pytest.fixture
def start_robot(server: Server, tmp_path: Path) -> Iterator[StartRobot]:
    """Start a robot under this test's server; `root` names a project root of its own."""
    robots: list[Robot] = []

    def start(market: str, *options: str, root: str = "robots", host_only: bool = False) -> Robot:
        folder = tmp_path / root
        folder.mkdir(exist_ok=True)
        robots.append(Robot(market, folder, None if host_only else server, *options))
        return robots[-1]

    yield start
    for robot in reversed(robots):
        robot.close()
