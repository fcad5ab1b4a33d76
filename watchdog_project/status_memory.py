"""The status as it was told a moment ago: however many ask, each process looks once a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from django.conf import settings

MOST_QUESTIONS = 1000


@dataclass(frozen=True, slots=True)
class Told:
    """An answer's entity tag and body, and the monotonic time up to which it may be told again."""

    tag: str
    body: bytes
    until: float


@dataclass(slots=True)
class StatusMemory:
    """Answers of this process by the question's query string.

    An answer says itself when it was made (`snapshot_utc`), and is never told again later than
    WATCHDOG_STATUS_SECONDS after: so much later a status may turn stale or red than it would have.
    No look at the database would do it cheaper, since STALE comes from the passing of time alone.
    """

    clock: Callable[[], float] = time.monotonic
    answers: dict[str, Told] = field(default_factory=dict)
    turn: threading.Lock = field(default_factory=threading.Lock)

    def recall(self, question: str) -> Told | None:
        """What may still be told."""
        found = self.answers.get(question)
        return found if found is not None and self.clock() < found.until else None

    def tell(self, question: str, look: Callable[[], tuple[str, bytes]]) -> Told:
        """What may still be told, or else what `look` finds; of many that ask, one looks.

        The others wait for him no longer than an answer lives: an outage is met by all at once.
        """
        seconds = float(settings.WATCHDOG_STATUS_SECONDS)
        is_our_turn = self.turn.acquire(timeout=seconds)
        try:
            found = self.recall(question)
            if found is None:
                # Counted from before the look, however long it takes.
                until = self.clock() + seconds
                found = Told(*look(), until)
                if len(self.answers) >= MOST_QUESTIONS:
                    self.answers.clear()
                self.answers[question] = found
            return found
        finally:
            if is_our_turn:
                self.turn.release()


STATUS = StatusMemory()
