"""The guard's file compiled once, and drivers that do not outlive their test."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.guard.authority import Answer, LockAuthority
from tests.ninjatrader.driver import Driver
from tests.server import Server, Template

HERE = Path(__file__).resolve().parent
DEPLOYED = HERE.parents[1] / "deploy" / "ninjatrader"
GUARD = DEPLOYED / "CanonicalMarketGuard.cs"
COMPILER = (
    # What every NinjaScript project has, and no newer language than all of NinjaTrader 8 compiles.
    "mcs", "-langversion:5", "-warn:4", "-warnaserror", "-noconfig", "-r:System.dll",
)  # fmt: skip

StartDriver = Callable[..., Driver]


def compiled(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMPILER, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture(scope="session")
def mono() -> None:
    for program in ("mcs", "mono"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (Debian: mono-mcs, mono-runtime)")


@pytest.fixture(scope="session")
def program(mono: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The console robot with the guard's file in it."""
    made = tmp_path_factory.mktemp("ninjatrader") / "driver.exe"
    done = compiled(f"-out:{made}", GUARD, HERE / "Driver.cs")
    assert done.returncode == 0, done.stdout + done.stderr
    return made


@pytest.fixture
def start_driver(program: Path) -> Iterator[StartDriver]:
    drivers: list[Driver] = []

    def start(**environment: str) -> Driver:
        drivers.append(Driver(program, environment))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.close()


@pytest.fixture(scope="session")
def staged_drivers(program: Path) -> Iterator[Callable[[], Driver]]:
    """One for all vectors, each of which sets it anew; another where a test broke it."""
    drivers = [Driver(program)]

    def alive() -> Driver:
        if not drivers[-1].is_alive:
            drivers.append(Driver(program))
        return drivers[-1]

    yield alive
    for driver in drivers:
        driver.close()


class ShortAuthority(LockAuthority):
    """Short leases, and a place for events; `refuses_events` is a status to refuse them with."""

    def __init__(self, secure: ssl.SSLContext | None = None) -> None:
        self.events: list[dict[str, Any]] = []
        self.refuses_events = 0
        super().__init__()
        if secure is not None:
            # A handshake in the accepting thread would have one client hold up all others.
            self._server.socket = secure.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
            self.url = self.url.replace("http:", "https:")

    def answer(self, path: str, key: str | None, body: Any) -> Answer:
        if path != "/api/events":
            return super().answer(path, key, body)
        if self.refuses_events:
            return self.refuses_events, {"code": "X", "detail": "Not now."}
        self.events.extend(body)
        return 200, {"accepted": len(body), "duplicates": 0, "rejected": []}


@pytest.fixture
def authority() -> Iterator[ShortAuthority]:
    running = ShortAuthority()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def watchdog(
    mono: None, server_template: Template, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """One real server for all; each test has markets of its own there."""
    running = Server(server_template, tmp_path_factory.mktemp("watchdog") / "home")
    running.start()
    yield running
    running.stop()


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "root")
