"""Simulated robots for `manage.py up --demo`: they use the guard and write logs as real ones do.

`python -m watchdog_project.demo ROLE SERVER KEY_FILE FOLDER`: `robot` executes ES with MES under
the guard, `rival` tries to start a second robot on that market, again and again, and is refused.
`engine` is the robot itself; it trades nothing and writes an engine's log. Standard library only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

BEAT_SECONDS = 1.0
# Right for a while, then wrong for a while: long enough to be looked at.
RIGHT_BEATS = 20
WRONG_BEATS = 10
RIVAL_SECONDS = 15.0
STREAM = "ES1"
RIGHT_EXECUTION = "MES"
WRONG_EXECUTION = "MNQ"


class DemoRobot:
    """Writes `robot_MES.jsonl`; its stream trades the wrong instrument now and then."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "robot_MES.jsonl"
        self.run_id = os.environ.get("WATCHDOG_RUN_ID") or uuid.uuid4().hex
        self.token = os.environ.get("WATCHDOG_FENCING_TOKEN")

    def start(self) -> None:
        self.write("ENGINE_START", {})

    def beat(self, number: int) -> None:
        wrong = number % (RIGHT_BEATS + WRONG_BEATS) >= RIGHT_BEATS
        execution = WRONG_EXECUTION if wrong else RIGHT_EXECUTION
        self.write("ENGINE_TIMER_HEARTBEAT", {})
        self.write("STREAM_STATE", {"stream": STREAM, **_identities(execution)})
        if not wrong and number % 5 == 0:
            self.write("ORDER_SUBMITTED", {"stream": STREAM, "quantity": "1"} | _identities("MES"))

    def write(self, event: str, data: dict[str, Any]) -> None:
        if self.token and data:
            data = data | {"fencing_token": self.token}
        line = {
            "ts_utc": datetime.now(UTC).isoformat(),
            "level": "INFO",
            "source": "DemoRobot",
            "instrument": "ES" if data else "",
            "stream": data.get("stream", "__engine__"),
            "run_id": self.run_id,
            "event": event,
            "message": event,
            "data": data,
        }
        with self.path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")


def _identities(execution: str) -> dict[str, str]:
    return {"canonical_instrument": "ES", "execution_instrument": execution}


def command(role: str, server: str, key_file: Path, folder: Path) -> list[str]:
    """How to start `role`; its lock files and logs go below `folder`."""
    return [
        sys.executable, "-m", "watchdog_project.demo", role, server, str(key_file), str(folder)
    ]  # fmt: skip


def _guarded(market: str, words: Sequence[str], robot: Sequence[str]) -> list[str]:
    server, key_file, folder = words
    return [
        sys.executable, "-m", "canonical_guard", "run", market,
        "--server", server, "--api-key-file", key_file, "--project-root", folder, "--", *robot,
    ]  # fmt: skip


def _wait_for(server: str) -> None:
    while True:
        try:
            urllib.request.urlopen(f"{server}/healthz", timeout=2).close()  # noqa: S310 ours
        except OSError:
            time.sleep(0.2)
        else:
            return


def _run_engine(folder: Path) -> None:
    robot = DemoRobot(folder)
    robot.start()
    number = 0
    while True:
        robot.beat(number)
        number += 1
        time.sleep(BEAT_SECONDS)


def _run_rival(words: Sequence[str]) -> None:
    while True:
        time.sleep(RIVAL_SECONDS)
        subprocess.run(_guarded("ES", words, [sys.executable, "-c", "pass"]), check=False)


def main(role: str, *words: str) -> None:
    """Play one role until ended."""
    if role == "engine":
        _run_engine(Path(words[2]))
    _wait_for(words[0])
    if role == "rival":
        _run_rival(words)
    engine = command("engine", words[0], Path(words[1]), Path(words[2]))
    sys.exit(subprocess.run(_guarded("MES", words, engine), check=False).returncode)


if __name__ == "__main__":
    main(*sys.argv[1:])
