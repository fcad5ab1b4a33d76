"""Real guards, keepers and robots, started again and again, and killed and stopped one by one.

Started like a nursery. Some robots run under `canonical_guard run`, some
have the guard in their own process; two project roots stand for two hosts. What is not struck here
is what docs/guard.md says is not guaranteed: guard and keeper both stopped, one of them stopped and
the other killed, or both killed where a child of the robot has left its process group.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from canonical_guard import clock
from tests.chaos.nursery import told_until
from tests.chaos.record import Record

HERE = Path(__file__).resolve().parent
KILLED = {
    "guard": "SIGKILL of the guard",
    "keeper": "SIGKILL of the keeper",
    "robot": "SIGKILL of the robot",
    "both": "SIGKILL of guard and keeper at once",
}
STOPPED = {
    "guard": "SIGSTOP of the guard",
    "keeper": "SIGSTOP of the keeper",
    "robot": "SIGSTOP of the robot",
}


class Slot:
    """One place where robots are started, one after the other."""

    def __init__(self, configuration: dict[str, Any], seed: int) -> None:
        self._configuration = configuration
        self._random = random.Random(seed)
        self._may_lose_both = False
        self._process: subprocess.Popen[bytes] | None = None
        self._start_at = 0.0
        self._strike_at = float("inf")
        self._wake: list[tuple[float, psutil.Process]] = []
        self.seen: set[psutil.Process] = set()

    def attend(self, record: Record, *, start: bool) -> None:
        """Start, strike, wake: whatever is due."""
        now = clock.now()
        for due in [due for due in self._wake if due[0] <= now]:
            self._wake.remove(due)
            with suppress(psutil.NoSuchProcess):
                due[1].send_signal(signal.SIGCONT)
        if self._process is not None and self._process.poll() is not None:
            refused = self._process.returncode in (69, 75)
            self._process = None
            ttl = self._configuration["ttl"]
            self._start_at = now + self._random.uniform(0.05, 0.6 if refused else 0.1) * ttl
        if self._process is None and start and now >= self._start_at:
            self._start()
        elif self._process is not None and now >= self._strike_at:
            self._strike_at = float("inf")
            self._strike(record)

    @property
    def is_empty(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def end(self) -> None:
        """Nothing of it survives."""
        if self._process is not None:
            self.remember()
            self._process.kill()
            self._process.wait()
        for process in self.seen:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def remember(self) -> list[psutil.Process]:
        assert self._process is not None
        found: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            found = psutil.Process(self._process.pid).children(recursive=True)
        self.seen |= set(found)
        return found

    def _start(self) -> None:
        ttl, chance = self._configuration["ttl"], self._random
        seconds = str(chance.uniform(0.1, 2) * ttl)
        root = Path(self._configuration["folder"]) / chance.choice(["host-0", "host-1"])
        symbol, lock = chance.choice(self._configuration["markets"])
        ways = chance.choice(["-", "stubborn", "family", "detached"])
        is_library = chance.random() < 0.5
        self._may_lose_both = not is_library and ways != "detached"
        record = self._configuration["record"]
        if is_library:
            ending = chance.choice(["clean", "crash"])
            module = ["tests.chaos.library_robot", str(ttl), symbol, lock]
            arguments = [*module, str(root), record, seconds, ending]
        else:
            robot = [sys.executable, "-I", "-S", str(HERE / "robot.py"), record, lock, ways]
            guard = ["tests.chaos.launcher", str(ttl), "-", "run", symbol]
            robot += [seconds, chance.choice(["0", "1"])]
            arguments = [*guard, "--project-root", str(root), "--", *robot]
        environment = os.environ | {
            "WATCHDOG_URL": self._configuration["url"],
            "WATCHDOG_API_KEY": self._configuration["robot_key"],
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._strike_at = float("inf")
        if chance.random() < 0.6:
            self._strike_at = clock.now() + chance.uniform(0.2, 2) * ttl

    def _strike(self, record: Record) -> None:
        assert self._process is not None
        below = self.remember()
        keeper = next((child for child in below if child.ppid() == self._process.pid), None)
        if keeper is None:
            return
        targets = {"guard": [psutil.Process(self._process.pid)], "keeper": [keeper]}
        robots = [child for child in below if child != keeper]
        if robots:
            targets["robot"] = robots[:1]
        if self._may_lose_both and self._random.random() < 0.7:
            targets["both"] = [*targets["guard"], keeper]
        kills = self._random.random() < 0.6 or "both" in targets
        names = KILLED if kills else STOPPED
        target = self._random.choice(sorted(set(targets) & set(names)))
        at = clock.now()
        for process in targets[target]:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL if kills else signal.SIGSTOP)
                if not kills:
                    pause = self._random.uniform(0.3, 4) * self._configuration["ttl"]
                    self._wake.append((at + pause, process))
        # The robot of a guard is known by its run, which only it knows itself: a line for each
        # process, of which the first one counts.
        for position, process in enumerate([*targets["guard"], *below]):
            fault = {"fault": names[target], "at": at, "until": at, "pid": process.pid}
            record.write("fault", **fault, run=None, counted=position > 0)


def main(file: str) -> None:
    configuration = json.loads(Path(file).read_text())
    configuration["markets"] = [tuple(market) for market in configuration["markets"]]
    chance = random.Random(configuration["seed"])
    record = Record(Path(configuration["record"]))
    slots = [Slot(configuration, chance.getrandbits(64)) for _ in range(configuration["slots"])]
    parent, until = os.getppid(), told_until()
    try:
        while os.getppid() == parent and clock.now() < until + 8:
            for slot in slots:
                slot.attend(record, start=clock.now() < until)
            if clock.now() >= until and all(slot.is_empty for slot in slots):
                break
            time.sleep(0.01)
    finally:
        for slot in slots:
            slot.end()


if __name__ == "__main__":
    main(sys.argv[1])
