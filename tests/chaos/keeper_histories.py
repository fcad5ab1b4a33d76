"""Directed histories of real guards, keepers and robots, each on a market and a host of its own."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from canonical_guard import clock
from tests.chaos.record import Record
from tests.chaos.scaled_server import ScaledServer

ROBOT = Path(__file__).resolve().parent / "robot.py"
START_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class KeeperCase:
    """What the robot is like, whom to strike how, and the mutant that this tells from a keeper."""

    mutant: str
    ways: str
    robot_lives: float
    guard: signal.Signals | None = None
    keeper: signal.Signals | None = None


CASES = [
    KeeperCase("waits_for_the_guard", "stubborn", 60, guard=signal.SIGSTOP),
    KeeperCase("asks_only", "stubborn", 60, guard=signal.SIGKILL),
    KeeperCase("leaves_grandchildren", "detached", 0.3),
    KeeperCase(
        "leaves_the_robot_untied", "stubborn", 60, guard=signal.SIGKILL, keeper=signal.SIGKILL
    ),
    KeeperCase(
        "leaves_the_group_unwatched",
        "stubborn family",
        60,
        guard=signal.SIGKILL,
        keeper=signal.SIGKILL,
    ),
]


class KeeperHistory:
    """Play one case on one market; `mutant` is "-" for the keeper as it is."""

    def __init__(
        self, case: KeeperCase, mutant: str, market: str, server: ScaledServer, folder: Path
    ) -> None:
        self._case = case
        self._mutant = mutant
        self._market = market
        self._server = server
        self._root = folder / market
        self._record = Record(folder / "record")
        self._seen: set[psutil.Process] = set()
        self.struck_at = 0.0

    def play(self) -> None:
        guard = self._trading()
        try:
            keeper = psutil.Process(guard.pid).children()[0]
            self._seen |= set(keeper.children(recursive=True)) | {keeper}
            self.struck_at = clock.now()
            for number, process in ((self._case.guard, guard), (self._case.keeper, keeper)):
                if number is not None:
                    process.send_signal(number)
            self._heir()
        finally:
            guard.send_signal(signal.SIGKILL)
            guard.wait()
            for process in self._seen:
                with suppress(psutil.NoSuchProcess):
                    process.kill()

    def _trading(self) -> subprocess.Popen[bytes]:
        """A guard whose robot acts; started again where a loaded machine made it too late."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            guard = self._started()
            while guard.poll() is None and time.monotonic() < until:
                if self._acts():
                    return guard
                time.sleep(0.01)
            guard.kill()
            guard.wait()
        raise AssertionError(f"no robot of {self._market} came to trade")

    def _acts(self) -> bool:
        return any(
            line["kind"] == "act" and line["lock"] == self._market for line in self._record.lines()
        )

    def _started(self) -> subprocess.Popen[bytes]:
        robot = [sys.executable, "-I", "-S", str(ROBOT), str(self._record.path), self._market]
        robot += [self._case.ways, str(self._case.robot_lives), "0"]
        guard = ["tests.chaos.launcher", self._server.environment["WATCHDOG_CHAOS_TTL"]]
        guard += [self._mutant, "run", self._market, "--project-root", str(self._root)]
        return subprocess.Popen(
            [sys.executable, "-m", *guard, "--", *robot],
            env=os.environ
            | {"WATCHDOG_URL": self._server.url, "WATCHDOG_API_KEY": self._server.keys["robot"]},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _heir(self) -> None:
        """Another host asks until the market is its own, and acts for a moment."""
        run, nonce = f"heir-{secrets.token_hex(8)}", secrets.token_hex(16)
        grant = self._asked_until_granted(run, nonce)
        which = {"lock": self._market, "token": grant["fencing_token"], "who": run}
        told = {"run": run, "pid": os.getpid(), "takeover": grant["takeover"]}
        self._record.write("granted", **which, **told, at=clock.now(), through="another host")
        for _ in range(2):
            self._record.write("act", **which, at=clock.now())
            time.sleep(0.15)
        held = {name: grant[name] for name in ("kind", "name", "scope", "fencing_token")}
        self._server.request("POST", "/api/locks/release", {**held, "run_id": run, "nonce": nonce})

    def _asked_until_granted(self, run: str, nonce: str) -> dict[str, Any]:
        request = {
            "execution_instrument": self._market,
            "canonical_instrument": self._market,
            "run_id": run,
            "nonce": nonce,
            "host": "another",
        }
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            status, answer = self._server.request("POST", "/api/locks/acquire", request)
            if status == 200:
                return dict(answer)
            time.sleep(0.05)
        raise AssertionError(f"nobody can have {self._market} any more")
