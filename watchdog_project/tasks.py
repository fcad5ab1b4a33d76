"""The periodic work: thin doors to the services, with a sign of life each.

Each carries no data, may run twice, and comes again with the next beat, so a lost message costs
nothing. Celery's Django fix-up closes the thread's database connection before and after each.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from datetime import datetime, timedelta

from celery import shared_task
from django.conf import settings
from django.db import connection
from django.utils import timezone

from identity import retention
from locks.jobs import prune_job_history
from locks.services import reap_expired
from watchdog_project.alerts.channels import get_ready
from watchdog_project.alerts.models import Channel
from watchdog_project.alerts.outbox import deliver_due
from watchdog_project.alerts.retention import prune_alerts
from watchdog_project.alerts.watch import watch
from watchdog_project.deadman import dead_man
from watchdog_project.heartbeat import (
    DELIVER,
    PRUNE,
    REAP,
    SESSIONS,
    SWEEP,
    WATCH,
    beat,
    beat_beside_others,
    expect_tasks,
)
from watchdog_project.history import prune_statuses, sweep_markets
from watchdog_project.sessions import sessions_are_due, write_sessions

logger = logging.getLogger(__name__)

JOB_HISTORY = timedelta(days=1)
# Longer than until the next beat and its way through the broker: no second goes without a look.
WATCH_FOR = 6.5


@shared_task(name=SWEEP)
def sweep_identity() -> None:
    """Judge every watched market anew and emit its IDENTITY_INVARIANTS_STATUS."""
    beat(SWEEP, _sweep, watcher=dead_man())


@shared_task(name=REAP)
def reap_stale_locks() -> None:
    """Expire every lease past its end, and forget what jobs did long ago."""
    beat(REAP, _reap)


@shared_task(name=PRUNE)
def prune_history() -> None:
    """Forget results and evidence that were kept as long as the settings say."""
    beat(PRUNE, _prune)


@shared_task(name=SESSIONS)
def write_market_sessions() -> None:
    """Write the sessions of the coming 60 days, once a day, and at once for a new calendar."""
    beat(SESSIONS, _write_sessions)


@shared_task(name=WATCH)
def watch_alerts() -> None:
    """Look every second whether something is wrong, until the next beat looks."""
    beat_beside_others(WATCH, _watch)


@shared_task(name=DELIVER)
def deliver_alerts() -> None:
    """Send the messages that are due, old ones among them."""
    beat_beside_others(DELIVER, _deliver)


def _watch(now: datetime) -> None:
    senders: list[threading.Thread] = []

    def deliver() -> None:
        # The broker would take a second; and the next look must not wait for a slow channel.
        senders.append(threading.Thread(target=_deliver_apart, name="alerts' sender"))
        senders[-1].start()

    watch(WATCH_FOR, timezone.now, time.sleep, deliver)
    for sender in senders:
        sender.join()


def _deliver_apart() -> None:
    try:
        _deliver(timezone.now())
    except Exception:
        logger.exception("Messages could not be sent; the next beat tries again.")
    finally:
        connection.close()


def _deliver(now: datetime) -> None:
    if Channel.objects.filter(enabled=True).exists():
        get_ready()
        deliver_due(timezone.now)


def _sweep(now: datetime) -> None:
    expect_tasks(now)
    identities = sweep_markets(now)
    seen = Counter(str(identity.status) for identity in identities)
    told = ", ".join(f"{count} {status}" for status, count in seen.items()) or "none is watched"
    logger.info("Swept the watched markets: %s.", told)


def _reap(now: datetime) -> None:
    # The database's clock says what is past its end, not this worker's.
    for lock in reap_expired():
        logger.warning("The lease of %s, held by run %s, had expired.", lock, lock.run_id)
    prune_job_history(now - JOB_HISTORY)


def _prune(now: datetime) -> None:
    keep = retention.Keep(
        passes=timedelta(days=settings.WATCHDOG_KEEP_PASSES_DAYS),
        changes=timedelta(days=settings.WATCHDOG_KEEP_CHANGES_DAYS),
    )
    prune_statuses(now - keep.changes)
    prune_alerts(now - keep.changes)
    pruned = retention.prune_history(now, keep)
    logger.info(
        "Forgot %s unchanged results, %s events, %s ended violations, %s samples of lines that "
        "could not be read and %s runs.%s",
        pruned.passes,
        pruned.events,
        pruned.violations,
        pruned.errors,
        pruned.runs,
        "" if pruned.finished else " There is more; the next run goes on.",
    )


def _write_sessions(now: datetime) -> None:
    if not sessions_are_due(now):
        return
    written = write_sessions(now)
    logger.info("Wrote the market sessions of %s calendars.", len(written.until))
    for key in written.unknown:
        logger.warning(
            "There is no calendar %r: the sessions of the markets that name it are not known.", key
        )
