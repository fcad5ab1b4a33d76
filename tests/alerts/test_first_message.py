"""Acceptance: two robots are alive and one is refused; the message is there within three seconds.

On the embedded default: `manage.py up` with SQLite and the filesystem's broker, a real receiver.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.test_up import SEEN, Up
from tests.alerts.receivers import Receiver
from tests.server import ROOT
from watchdog_project.heartbeat import DELIVER

WITHIN = 3.0
NEWCOMERS = 6


@pytest.fixture
def up(tmp_path: Path, receiver: Receiver) -> Iterator[Up]:
    running = Up(tmp_path / "home").ready()
    subprocess.run(
        [sys.executable, "manage.py", "channel", "add", "hook", receiver.url],
        cwd=ROOT,
        env=running.environment,
        check=True,
        capture_output=True,
    )
    # Beat sends its first tasks five seconds after it started.
    running.wait_for(lambda: DELIVER in running.shell(SEEN))
    yield running
    running.end()


class Robot:
    """A robot's guard, as far as the lease goes."""

    def __init__(self, up: Up, name: str, host: str) -> None:
        self.up = up
        self.key = (up.home / "robot.key").read_text().strip()
        self.who = {"run_id": name, "nonce": secrets.token_hex(16)}
        self.asks = {
            "execution_instrument": "MES",
            "canonical_instrument": "ES",
            "host": host,
            "pid": 4711,
        }
        self.holds: dict[str, Any] = {}

    def acquire(self) -> int:
        status, body = self._post("acquire", {**self.asks, **self.who})
        self.holds = {name: body.get(name) for name in ("kind", "name", "scope", "fencing_token")}
        return status

    def renew(self) -> int:
        return self._post("renew", {**self.holds, **self.who})[0]

    def release(self) -> int:
        return self._post("release", {**self.holds, **self.who})[0]

    def _post(self, act: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        asked = urllib.request.Request(
            f"{self.up.url}/api/locks/{act}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": f"Api-Key {self.key}"},
        )
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refused:
            return refused.code, json.load(refused)


def test_an_emergency_arrives_within_three_seconds_of_the_holders_next_renewal(
    up: Up, receiver: Receiver, tell: Callable[[str], None]
) -> None:
    holder = Robot(up, "holder", "trader-1")
    assert holder.acquire() == 200
    took = []
    for number in range(NEWCOMERS):
        # Each at another moment between two looks.
        time.sleep(0.17 * number)
        assert Robot(up, f"newcomer-{number}", f"trader-{number + 2}").acquire() == 409
        assert len(receiver.got) == number, "a refusal alone is no emergency"
        assert holder.renew() == 200
        renewed_at = time.time()
        arrived = receiver.wait_for(number + 1)[number]
        took.append(arrived.at - renewed_at)
        assert arrived.title == "EMERGENCY DUPLICATE_EXECUTOR_BLOCKED ES"
        assert f"newcomer-{number}" in arrived.message
        assert f"Page: {up.url}/admin/watchdog/alert/" in arrived.message
        assert holder.renew() == 200

    alerts = [one["kind"] for one in up.status()["alerts"]]
    assert alerts == ["DUPLICATE_EXECUTOR_BLOCKED"] * NEWCOMERS
    assert holder.release() == 200
    over = receiver.wait_for(NEWCOMERS + 1)[-1]
    assert over.title.startswith(f"{NEWCOMERS} recovered: ES")

    took.sort()
    tell(
        f"two alive, one refused -> message at the receiver: {NEWCOMERS} times, median "
        f"{took[NEWCOMERS // 2]:.2f} s, longest {took[-1]:.2f} s after the holder's next renewal"
    )
    assert took[-1] <= WITHIN
