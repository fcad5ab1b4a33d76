"""Periodic work leaves a sign of life, so that its silence can be seen."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, cast

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

# A task that has not finished for so many of its intervals is overdue.
OVERDUE_AFTER = 2.5
CLOCK_TOLERANCE = timedelta(seconds=60)

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Overdue:
    """A periodic task that did not finish in time, since when, and its last error."""

    task: str
    since: datetime
    error: str = ""

    @property
    def name(self) -> str:
        return name_of(self.task)


class Watcher(Protocol):
    """Whoever is told how a run goes; it must neither fail nor wait."""

    def started(self) -> None: ...
    def succeeded(self) -> None: ...
    def failed(self, failure: Exception) -> None: ...


def beat(
    task: str,
    work: Callable[[datetime], object],
    clock: Clock = timezone.now,
    watcher: Watcher | None = None,
) -> bool:
    """Do `work` at the clock's time and write down how it went; True where it went well.

    It runs under the task's own `pipeline_run` lease: where another process is at it, this one
    leaves it to that one and returns False. `finished_at` moves only with success: work that fails
    every time is as silent as work that nobody does. An exception is logged and kept in `error`;
    it never reaches the caller, since the next run is the next attempt. `watcher` is told of a
    run that this process makes, or cannot make; of one that another is at, that one tells.
    """
    started_at = clock()
    try:
        with job_lease(task.rpartition(".")[2]):
            if watcher is not None:
                watcher.started()
            _note(task, started_at=started_at)
            work(started_at)
            _note(task, finished_at=clock(), error="")
    except LockRefused as refusal:
        if refusal.status >= 500:
            _note_failure(task, refusal)
            _tell(watcher, refusal)
        logger.warning("The periodic task %s did not run: %s", task, refusal)
        return False
    except Exception as failure:
        logger.exception("The periodic task %s failed; its next run tries again.", task)
        _note_failure(task, failure)
        _tell(watcher, failure)
        return False
    if watcher is not None:
        watcher.succeeded()
    return True


def _tell(watcher: Watcher | None, failure: Exception) -> None:
    if watcher is not None:
        watcher.failed(failure)


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


def name_of(task: str) -> str:
    """The task as people say it: `sweep identity`."""
    return task.rpartition(".")[2].replace("_", " ")


def overdue_after(task: str) -> timedelta:
    """How long a task may stay unfinished; a quick one no shorter than the sweep, 150 seconds."""
    return timedelta(seconds=OVERDUE_AFTER * max(interval_of(task), interval_of(SWEEP)))


def overdue_tasks(now: datetime) -> list[Overdue]:
    """The scheduled tasks that did not finish in time; one query.

    One that never ran counts from when a sweep first found it in the schedule.
    """
    return overdue_among(TaskHeartbeat.objects.order_by("task"), now)


def overdue_among(heartbeats: Iterable[TaskHeartbeat], now: datetime) -> list[Overdue]:
    """Those of these heartbeats that are overdue at `now`. Pure."""
    found = []
    for row in heartbeats:
        since = overdue_since(row.task, row.finished_at or row.expected_since, now)
        if since is not None:
            found.append(Overdue(row.task, since, row.error))
    return found


def overdue_since(task: str, last: datetime | None, now: datetime) -> datetime | None:
    """Since when a task is overdue that finished last, or was expected, at `last`; else None."""
    if last is None or task not in _scheduled():
        return None
    if last > now + CLOCK_TOLERANCE:
        # Finished in the future, by a clock that nothing can be told from.
        return now
    due = last + overdue_after(task)
    return due if now > due else None


def expect_tasks(now: datetime) -> None:
    """Note every task of the schedule, so that one that never runs is missed as well."""
    known = set(TaskHeartbeat.objects.values_list("task", flat=True))
    TaskHeartbeat.objects.bulk_create(
        [
            TaskHeartbeat(task=task, interval=interval_of(task), expected_since=now)
            for task in _scheduled()
            if task not in known
        ],
        ignore_conflicts=True,
    )


def _scheduled() -> Sequence[str]:
    return [str(entry["task"]) for entry in settings.CELERY_BEAT_SCHEDULE.values()]
