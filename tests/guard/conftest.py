"""One cast for all: a project root, an authority with short leases, robots in real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from canonical_guard import Guard
from canonical_guard.client import Authority
from tests.guard.authority import KEY, LockAuthority

REPOSITORY = Path(__file__).resolve().parents[2]


def eventually(condition: Callable[[], object], within: float = 10.0) -> bool:
    """Whether `condition` comes true in time."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(autouse=True)
def no_settings_of_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("WATCHDOG_") and name not in ("WATCHDOG_HOME", "WATCHDOG_TEST_HOME"):
            monkeypatch.delenv(name)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def authority() -> Iterator[LockAuthority]:
    running = LockAuthority()
    yield running
    running.stop()


@pytest.fixture
def client(authority: LockAuthority) -> Authority:
    return Authority(authority.url, KEY)


MakeGuard = Callable[..., Guard]


class Run:
    """One `canonical_guard` process and what it said."""

    def __init__(self, arguments: list[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "canonical_guard", *arguments],
                cwd=REPOSITORY,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def said(self) -> str:
        return self.log.read_text()

    def holds(self) -> bool:
        assert self.process.poll() is None, self.said
        return "CANONICAL_MARKET_LOCK_ACQUIRED" in self.said

    def keeper(self) -> psutil.Process:
        return psutil.Process(self.pid).children()[0]

    def wait(self, within: float = 15.0) -> int:
        return self.process.wait(within)


class Robots:
    """Starts wrapped robots below one project root; nothing of them survives the test."""

    def __init__(self, root: Path, folder: Path, authority: LockAuthority | None) -> None:
        self.root = root
        self._folder = folder
        self._authority = authority
        self._runs: list[Run] = []
        self._seen: set[psutil.Process] = set()

    def start(
        self,
        *command: str,
        market: str = "MES",
        options: tuple[str, ...] = (),
        root: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> Run:
        surroundings = dict(os.environ, **(environment or {}))
        arguments = ["run", market, "--project-root", str(root or self.root), *options]
        if self._authority is None:
            arguments.append("--host-only")
        else:
            surroundings.setdefault("WATCHDOG_URL", self._authority.url)
            surroundings.setdefault("WATCHDOG_API_KEY", KEY)
        log = self._folder / f"run-{len(self._runs)}.log"
        run = Run([*arguments, "--", *command], surroundings, log)
        self._runs.append(run)
        return run

    def trading(self, *command: str, market: str = "MES", **more: object) -> tuple[Run, int]:
        """A run whose robot writes down its process id; returns both once it is there."""
        pid_file = self._folder / f"robot-{len(self._runs)}.pid"
        script = f'echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; exec "$@"'
        wrapped = ("sh", "-c", script, "robot", *(command or ("sleep", "300")))
        run = self.start(*wrapped, market=market, **more)  # type: ignore[arg-type]
        assert eventually(pid_file.exists), run.said
        self.remember(run)
        return run, int(pid_file.read_text())

    def remember(self, run: Run) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self._seen |= set(psutil.Process(run.pid).children(recursive=True))

    def end(self) -> None:
        for run in self._runs:
            self.remember(run)
        for run in self._runs:
            with contextlib.suppress(ProcessLookupError):
                run.process.send_signal(signal.SIGKILL)
            run.process.wait()
        for process in self._seen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(self._seen, timeout=5)


@pytest.fixture
def robots(root: Path, tmp_path: Path, authority: LockAuthority) -> Iterator[Robots]:
    cast = Robots(root, tmp_path, authority)
    yield cast
    cast.end()


@pytest.fixture
def host_only_robots(root: Path, tmp_path: Path) -> Iterator[Robots]:
    cast = Robots(root, tmp_path, None)
    yield cast
    cast.end()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def guard(authority: LockAuthority, root: Path, said: list[str]) -> Iterator[MakeGuard]:
    made: list[Guard] = []

    def make(market: str = "MES 03-26", **options: Any) -> Guard:
        options = {"server": authority.url, "api_key": KEY, "project_root": root, **options}
        options.setdefault("report", lambda event, sentence: said.append(f"{event}: {sentence}"))
        options.setdefault("end_process_when_lost", False)
        made.append(Guard(market, **options))
        return made[-1]

    yield make
    for one in made:
        one.release()
