"""Whose key it was a moment ago: a robot that renews costs no look-up of its key each time."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from django.conf import settings

if TYPE_CHECKING:
    from watchdog_project.api_keys import Principal

MOST_KEYS = 10_000


@dataclass(slots=True)
class KeyMemory:
    """Good keys of this process, by the hash of the whole key, each for some seconds.

    `remembered[hash]` is who it was and the monotonic time up to which that may be relied on;
    `noted[prefix]` is when a use of the key was last written down.
    """

    clock: Callable[[], float] = time.monotonic
    remembered: dict[bytes, tuple[Principal, float]] = field(default_factory=dict)
    noted: dict[str, float] = field(default_factory=dict)

    def recall(self, key: str) -> Principal | None:
        found = self.remembered.get(_fingerprint(key))
        if found is None or self.clock() >= found[1]:
            return None
        return found[0]

    def remember(self, key: str, principal: Principal, seconds: float) -> None:
        if len(self.remembered) >= MOST_KEYS:
            self.remembered.clear()
        self.remembered[_fingerprint(key)] = (principal, self.clock() + seconds)

    def forget(self, prefix: str) -> None:
        for fingerprint, (principal, _) in list(self.remembered.items()):
            if principal.prefix == prefix:
                self.remembered.pop(fingerprint, None)

    def is_due(self, prefix: str, every: float) -> bool:
        """Whether a use is to be written down: true once in `every` seconds."""
        now = self.clock()
        last = self.noted.get(prefix)
        if last is not None and now - last < every:
            return False
        if len(self.noted) >= MOST_KEYS:
            self.noted.clear()
        self.noted[prefix] = now
        return True


MEMORY = KeyMemory()


def memory_seconds() -> float:
    """How long a key is relied on without a look, and so how late a revocation may be elsewhere."""
    return float(settings.WATCHDOG_KEY_MEMORY_SECONDS)


def forget_key(prefix: str) -> None:
    """Look at the key anew at its next use, in this process."""
    MEMORY.forget(prefix)


def _fingerprint(key: str) -> bytes:
    # A hash as the dictionary's key: comparing whole keys would take as long as they agree.
    return hashlib.sha256(key.encode()).digest()
