"""How often one key, and one address with wrong keys, may ask. Counted by each web process alone.

Lease keeping is never throttled: a renewal costs one statement, and a robot without it stops.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from django.conf import settings
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

if TYPE_CHECKING:
    from rest_framework.views import APIView

MOST_CALLERS = 10_000
BURST_SECONDS = 10.0
# Wrong keys of one address: one in six seconds, after twenty at once.
FAILURES_PER_SECOND, FAILURES_AT_ONCE = 1 / 6, 20.0


@dataclass(slots=True)
class Budgets:
    """A token bucket for each caller."""

    clock: Callable[[], float] = time.monotonic
    left: dict[str, tuple[float, float]] = field(default_factory=dict)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def spend(self, caller: str, per_second: float, at_once: float) -> float:
        """Take one, and return 0; or the seconds to wait until there is one."""
        with self.guard:
            now = self.clock()
            tokens, seen = self.left.get(caller, (at_once, now))
            tokens = min(at_once, tokens + (now - seen) * per_second)
            if tokens < 1:
                self.left[caller] = (tokens, now)
                return (1 - tokens) / per_second
            if len(self.left) >= MOST_CALLERS:
                self.left.clear()
            self.left[caller] = (tokens - 1, now)
            return 0.0


BUDGETS = Budgets()


class KeyThrottle(BaseThrottle):
    """Each key its budget; a view with `reports = True` spends from a wider one of its own."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def allow_request(self, request: Request, view: APIView) -> bool:
        prefix = getattr(request.auth, "prefix", None)
        if prefix is None:
            return True
        reports = getattr(view, "reports", False) and request.method == "POST"
        rate: float = (
            settings.WATCHDOG_KEY_REPORTS_PER_SECOND
            if reports
            else settings.WATCHDOG_KEY_REQUESTS_PER_SECOND
        )
        self.seconds = _spend("reports" if reports else "requests", prefix, rate)
        return self.seconds == 0

    def wait(self) -> float:
        return self.seconds


def has_budget(prefix: str) -> bool:
    """Spend a request of this key's, where it has one left."""
    return _spend("requests", prefix, settings.WATCHDOG_KEY_REQUESTS_PER_SECOND) == 0


def _spend(what: str, prefix: str, rate: float) -> float:
    return BUDGETS.spend(f"{what} {prefix}", rate, rate * BURST_SECONDS)


def wait_after_wrong_key(address: str) -> float:
    """Count a wrong key of this address; the seconds to wait where there were too many, else 0.

    Good keys are let in all the same: whoever shares an address with a guesser keeps his lease.
    """
    return BUDGETS.spend(f"wrong keys of {address}", FAILURES_PER_SECOND, FAILURES_AT_ONCE)
