"""Periodic work leaves a sign of life, so that its silence can be seen."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import cast

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from locks.errors import LockRefused
from locks.jobs import job_lease
from watchdog_project.models import TaskHeartbeat

logger = logging.getLogger(__name__)

SWEEP = "watchdog_project.tasks.sweep_identity"
REAP = "watchdog_project.tasks.reap_stale_locks"
PRUNE = "watchdog_project.tasks.prune_history"
SESSIONS = "watchdog_project.tasks.write_market_sessions"
WATCH = "watchdog_project.tasks.watch_alerts"
DELIVER = "watchdog_project.tasks.deliver_alerts"

Clock = Callable[[], datetime]


def beat(task: str, work: Callable[[datetime], object], clock: Clock = timezone.now) -> bool:
    """Do `work` at the clock's time and write down how it went; True where it went well.

    It runs under the task's own `pipeline_run` lease: where another process is at it, this one
    leaves it to that one and returns False. `finished_at` moves only with success: work that fails
    every time is as silent as work that nobody does. An exception is logged and kept in `error`;
    it never reaches the caller, since the next run is the next attempt.
    """
    started_at = clock()
    try:
        with job_lease(task.rpartition(".")[2]):
            _note(task, started_at=started_at)
            work(started_at)
            _note(task, finished_at=clock(), error="")
    except LockRefused as refusal:
        if refusal.status >= 500:
            _note_failure(task, refusal)
        logger.warning("The periodic task %s did not run: %s", task, refusal)
        return False
    except Exception as failure:
        logger.exception("The periodic task %s failed; its next run tries again.", task)
        _note_failure(task, failure)
        return False
    return True


def beat_beside_others(
    task: str, work: Callable[[datetime], object], clock: Clock = timezone.now
) -> bool:
    """The same for work that comes every few seconds and may run twice at once: without a lease.

    It writes once, at its end.
    """
    started_at = clock()
    try:
        work(started_at)
        _note(task, started_at=started_at, finished_at=clock(), error="")
    except Exception as failure:
        logger.exception("The periodic task %s failed; its next run tries again.", task)
        _note_failure(task, failure)
        return False
    return True


def _note_failure(task: str, failure: Exception) -> None:
    try:
        _note(task, error=f"{type(failure).__name__}: {failure}"[:2000])
    except Exception:
        # Often the same outage; that nothing finishes is what the badge goes by.
        logger.exception("The heartbeat of %s could not be written either.", task)


def _note(task: str, **facts: object) -> None:
    with transaction.atomic():
        TaskHeartbeat.objects.update_or_create(
            task=task, defaults={"interval": interval_of(task), **facts}
        )


def interval_of(task: str) -> float:
    """Seconds between two runs by the settings' schedule; 0 for a task that is not in it."""
    for entry in settings.CELERY_BEAT_SCHEDULE.values():
        if entry["task"] == task:
            return cast("timedelta", entry["schedule"]).total_seconds()
    return 0.0
