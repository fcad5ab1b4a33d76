"""A robot in another process, started through the guard as an operator would start it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.server import ROOT, Server

SCRIPT = (
    "import json, os, time\n"
    "names = ('RUN_ID', 'FENCING_TOKEN', 'CANONICAL_INSTRUMENT', 'TAKEOVER')\n"
    "told = {name.lower(): os.environ['WATCHDOG_' + name] for name in names}\n"
    "print(json.dumps(told | {'pid': os.getpid()}), flush=True)\n"
    "time.sleep(600)\n"
)


class Robot:
    """`canonical_guard run MARKET -- robot`; `told` is what the guard gave the robot."""

    def __init__(
        self, market: str, project_root: Path, server: Server | None, *options: str
    ) -> None:
        authority = ["--host-only"]
        if server is not None:
            authority = ["--server", server.url, "--api-key-file", str(server.key_file)]
        self.project_root = project_root
        environment = {k: v for k, v in os.environ.items() if not k.startswith("WATCHDOG_")}
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "canonical_guard", "run", market, *authority,
                "--project-root", str(project_root), *options,
                "--", sys.executable, "-c", SCRIPT,
            ],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        self.told: dict[str, str] = {}

    @property
    def lock_file(self) -> Path:
        return self.project_root / "runtime_locks" / "canonical_ES.lock"

    def trading(self) -> Robot:
        """Wait until the robot itself runs."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(self.refused())
        self.told = json.loads(line)
        return self

    def refused(self) -> tuple[int, str]:
        """Exit status and what the operator reads, of a robot that was not started."""
        out, err = self.process.communicate(timeout=30)
        assert out == "", "nothing of the robot may have run"
        return self.process.returncode, err

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)

    @property
    def keeper(self) -> psutil.Process:
        """The process between guard and robot."""
        parent = psutil.Process(int(self.told["pid"])).parent()
        assert parent is not None
        assert parent.pid != self.process.pid
        return parent

    def robot_is_gone(self, seconds: float = 20) -> bool:
        deadline = time.monotonic() + seconds
        while psutil.pid_exists(int(self.told["pid"])):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def close(self) -> None:
        """Whatever the test left of it: end it, and only it."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
