"""The watch that people have: in memory, on change, one result for everything. Made to be beaten.

Each of its habits was seen in the field. It has the few verbs that the accidents need, and our own
watch behind the same verbs stands beside it.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from identity.models import EventOrigin, IdentityEvent
from identity.status import IdentityStatus, market_identities, overall
from identity.tailer import Tailer, follow_folder
from tests.identity.cast import HERE, post, swept

FORGETS_AFTER = timedelta(minutes=10)
RESULT = "IDENTITY_INVARIANTS_STATUS"


class NaiveWatch:
    """Keeps the last result in memory, for ten minutes."""

    def __init__(self) -> None:
        self.passed: bool | None = None
        self.at: datetime | None = None
        self.said: list[datetime] = []
        self.lines: list[dict[str, Any]] = []
        self.offsets: dict[Path, int] = {}

    def tell(self, record: dict[str, Any], now: datetime) -> None:
        self.lines.append(record)
        data = record["data"] or {}
        if record["event"] == RESULT:
            self._result(bool(data["pass"]), now)
        elif record["event"].startswith("ORDER_"):
            self._result("canonical_instrument" in data and "execution_instrument" in data, now)

    def check(self, now: datetime) -> None:
        """What it does every 60 seconds: no violation in what it was told, so all is well."""
        if self.passed is None:
            self._result(True, now)

    def tail(self, folder: Path, now: datetime) -> None:
        for path in sorted(folder.glob("robot_*.jsonl")):
            content = path.read_bytes()
            start = self.offsets.get(path, 0)
            if start > len(content):
                start = 0
            self.offsets[path] = len(content)
            for line in content[start:].splitlines():
                try:
                    self.tell(json.loads(line), now)
                except ValueError:
                    continue

    def verdict(self, now: datetime) -> bool | None:
        if self.at is None or now - self.at > FORGETS_AFTER:
            return None
        return self.passed

    def counted(self, event: str) -> int:
        return sum(one["event"] == event for one in self.lines)

    def results_since(self, at: datetime) -> int:
        return sum(said > at for said in self.said)

    def _result(self, passed: bool, now: datetime) -> None:
        if passed != self.passed:
            self.said.append(now)
            self.at = now
        self.passed = passed


class OurWatch:
    """The same verbs, done by the services."""

    def __init__(self) -> None:
        self.tailer = Tailer()

    def tell(self, record: dict[str, Any], now: datetime) -> None:
        post(record, place=HERE, now=now)

    def check(self, now: datetime) -> None:
        swept(now)

    def tail(self, folder: Path, now: datetime) -> None:
        follow_folder(folder)
        self.tailer.catch_up(now)

    def verdict(self, now: datetime) -> bool | None:
        status = overall(market_identities(now))
        return {IdentityStatus.OK: True, IdentityStatus.VIOLATION: False}.get(status)

    def counted(self, event: str) -> int:
        return IdentityEvent.objects.filter(event_type=event).count()

    def results_since(self, at: datetime) -> int:
        ours = IdentityEvent.objects.filter(event_type=RESULT, origin=EventOrigin.SWEEP)
        return ours.filter(occurred_at__gt=at).count()
