"""The periodic looks: what is wrong now, who is told, and that somebody sends it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from watchdog_project.alerts.gathering import gather_facts
from watchdog_project.alerts.outbox import write_messages
from watchdog_project.alerts.services import look

logger = logging.getLogger(__name__)

BETWEEN_LOOKS = 1.0  # seconds

Clock = Callable[[], datetime]


def watch(
    seconds: float, clock: Clock, wait: Callable[[float], object], deliver: Callable[[], object]
) -> int:
    """Look once a second for `seconds`, and once at least; returns how many messages were written.

    One task looks several times, since a message through the broker costs more than a look. Where
    messages were written, `deliver` has somebody send them; it may fail: they wait.
    """
    written = 0
    over = clock() + timedelta(seconds=seconds)
    while True:
        written += look_once(clock(), deliver)
        if clock() + timedelta(seconds=BETWEEN_LOOKS) >= over:
            return written
        wait(BETWEEN_LOOKS)


def look_once(now: datetime, deliver: Callable[[], object]) -> int:
    """One look: alerts changed, messages written, and their sending begun."""
    look(gather_facts(now))
    written = write_messages(now)
    if written:
        try:
            deliver()
        except Exception:
            logger.exception("Nobody could be found to send messages; the next beat does.")
    return written
