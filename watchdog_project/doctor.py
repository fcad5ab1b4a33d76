"""Is everything there that this installation needs? Each answer says what to do about it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core import checks
from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone
from kombu.exceptions import KombuError, OperationalError

from identity.models import LogFolder
from locks.models import AuthorityEpoch, KillSwitch
from locks.services import database_now
from watchdog_project.celery import app
from watchdog_project.heartbeat import REAP, SWEEP, overdue_since
from watchdog_project.models import ApiKey, TaskHeartbeat
from watchdog_project.sessions import written_until

CLOCK_SECONDS = 1.0
# Written daily for 60 days ahead: when so few are left, nobody wrote for weeks.
LEAST_DAYS_AHEAD = timedelta(days=7)
KEYS_TOLD_AHEAD = timedelta(days=14)
LEAST_FREE_BYTES = 500_000_000
BROKER_SECONDS = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """`remedy` is empty where all is well."""

    part: str
    told: str
    remedy: str = ""

    @property
    def well(self) -> bool:
        return not self.remedy


def examine() -> Iterator[Finding]:
    """One part after the other; a part whose own look fails is a finding too."""
    database = list(_looked_at("database", _database))
    mended = all(one.well for one in database)
    yield from _looked_at("settings", lambda: _settings(with_database=mended))
    yield from database
    for part, look in PARTS.items():
        if mended or part in WITHOUT_DATABASE:
            yield from _looked_at(part, look)
        else:
            yield Finding(part, "not looked at", "Mend the database first.")


def _looked_at(part: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from look()
    except Exception as failure:
        kind = type(failure).__name__
        yield Finding(part, f"could not be looked at: {kind}: {failure}", "Mend that first.")


def _settings(*, with_database: bool) -> Iterator[Finding]:
    found = [
        one
        for one in checks.run_checks(
            include_deployment_checks=settings.PRODUCTION,
            databases=["default"] if with_database else None,
        )
        if one.is_serious() or settings.PRODUCTION
    ]
    for one in found:
        yield Finding("settings", f"{one.id}: {one.msg}", one.hint or "Correct the settings.")
    if not found:
        kind = "production" if settings.PRODUCTION else "embedded, for one host"
        yield Finding("settings", f"coherent ({kind})")


def _database() -> Iterator[Finding]:
    try:
        connection.ensure_connection()
    except Error as failure:
        yield Finding("database", f"does not answer: {failure}", "Start it; look at DATABASE_URL.")
        return
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if plan:
        told = f"{len(plan)} migrations are not applied, the first is {plan[0][0]}"
        yield Finding("database", told, "Run `manage.py migrate`.")
        return
    yield Finding("database", f"{connection.vendor} answers, all migrations are applied")


def _authority() -> Iterator[Finding]:
    """Whether it grants leases now."""
    epoch = AuthorityEpoch.objects.first()
    if _is_standby():
        told = "the database is a standby: it grants nothing"
        yield Finding("authority", told, "Let DATABASE_URL name the primary.")
    elif epoch is not None and epoch.number and epoch.grants_after > database_now():
        told = (
            f"another server took over; no lease is granted before {epoch.grants_after:%H:%M:%S %Z}"
        )
        yield Finding("authority", told, "Wait; nothing is wrong.")
    elif not KillSwitch.objects.filter(market="").exists():
        told = "the kill switch for all markets is missing, which reads as engaged"
        yield Finding("authority", told, "Run `manage.py kill_switch release --reason …`.")
    else:
        yield Finding("authority", "grants leases")


def _is_standby() -> bool:
    if connection.vendor != "postgresql":
        return False
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_is_in_recovery()")
        return bool((cursor.fetchone() or (False,))[0])


def _commits() -> Iterator[Finding]:
    """Whether a grant that was told of outlives a power cut."""
    names = {"postgresql": ("fsync", "synchronous_commit"), "sqlite": ("synchronous",)}
    with connection.cursor() as cursor:
        found: dict[str, Any] = {}
        for name in names[connection.vendor]:
            ask = "SHOW" if connection.vendor == "postgresql" else "PRAGMA"
            cursor.execute(f"{ask} {name}")
            found[name] = (cursor.fetchone() or ("",))[0]
    told = ", ".join(f"{name}={value}" for name, value in found.items())
    if found.get("fsync", "on") != "on" or found.get("synchronous_commit") == "off":
        yield Finding("commits", f"a power cut can take back grants: {told}", "Set both to on.")
    elif found.get("synchronous", 2) < 2:
        remedy = "Set `PRAGMA synchronous=FULL` for the connection."
        yield Finding("commits", f"a power cut can take back grants: {told}", remedy)
    else:
        yield Finding("commits", f"grants outlive a power cut: {told}")


def _clock() -> Iterator[Finding]:
    before = time.time()
    there = database_now().timestamp()
    apart = there - (before + time.time()) / 2
    if abs(apart) > CLOCK_SECONDS:
        told = f"the database's differs from this host's by {apart:+.1f} s"
        yield Finding("clock", told, "Let NTP set both: statuses are told by this host's.")
    else:
        yield Finding("clock", f"within {max(abs(apart), 0.001):.3f} s of the database's")


def _broker() -> Iterator[Finding]:
    kind = settings.CELERY_BROKER_URL.partition("://")[0]
    try:
        with app.connection_for_write(connect_timeout=BROKER_SECONDS) as broker:
            broker.ensure_connection(max_retries=1, interval_start=1, timeout=BROKER_SECONDS)
    except (OSError, KombuError, OperationalError) as failure:
        # A broker's address can hold a password; what failed is enough.
        told = f"{kind} does not answer: {type(failure).__name__}"
        yield Finding("broker", told, "Start it; look at CELERY_BROKER_URL.")
        return
    yield Finding("broker", f"{kind} answers")


def _beat() -> Iterator[Finding]:
    now = timezone.now()
    for task in (SWEEP, REAP):
        name = task.rpartition(".")[2]
        heartbeat = TaskHeartbeat.objects.filter(task=task).first()
        finished: datetime | None = heartbeat.finished_at if heartbeat else None
        if heartbeat is None or finished is None:
            yield Finding("beat", f"{name} never finished", START)
            continue
        age = (now - finished).total_seconds()
        if overdue_since(task, finished, now) is not None:
            told = f"{name}, due every {heartbeat.interval:g} s, finished {age:.0f} s ago"
            yield Finding("beat", told + (f"; {heartbeat.error}" if heartbeat.error else ""), START)
        else:
            yield Finding("beat", f"{name} finished {max(age, 0):.0f} s ago")


def _sessions() -> Iterator[Finding]:
    until = written_until()
    if not until:
        yield Finding("sessions", "no market names a calendar, so none is known to be closed")
        return
    enough = timezone.localdate() + LEAST_DAYS_AHEAD
    short = [key for key, day in until.items() if day is None or day < enough]
    if short:
        told = f"not written: {', '.join(short)}; whether their markets trade is not known"
        yield Finding("sessions", told, "Run `manage.py sessions`; it names wrong calendar keys.")
    else:
        last = min(day for day in until.values() if day is not None)
        yield Finding("sessions", f"{len(until)} calendars are written until {last}")


START = "Start a worker (queues watchdog,sweep) and one beat, or `manage.py up`; read their logs."


def _keys() -> Iterator[Finding]:
    """A robot whose key ends stops within seconds; somebody has to know before."""
    now = timezone.now()
    in_force = ApiKey.objects.filter(revoked_at=None).exclude(expires_at__lte=now)
    ending = in_force.filter(expires_at__lte=now + KEYS_TOLD_AHEAD).order_by("expires_at")
    for key in ending:
        end = f"{timezone.localtime(key.expires_at):%Y-%m-%d %H:%M}"
        remedy = "Make another with `manage.py api_key create`, and restart its user with that."
        yield Finding("keys", f"{key.name!r} ends at {end}", remedy)
    if not ending:
        yield Finding("keys", f"{in_force.count()} in force, none ends soon")


def _folders() -> Iterator[Finding]:
    home: Path = settings.WATCHDOG_HOME
    free = shutil.disk_usage(home).free
    if not os.access(home, os.W_OK):
        yield Finding("folders", f"{home} cannot be written", "Give it to the user that runs this.")
    elif free < LEAST_FREE_BYTES:
        yield Finding("folders", f"{home} has {free / 1e6:.0f} MB left", "Make room.")
    else:
        yield Finding("folders", f"{home} can be written, {free / 1e9:.1f} GB are free")
    for name in ("secret_key", "robot.key"):
        private = home / name
        if os.name == "posix" and private.exists() and private.stat().st_mode & 0o077:
            yield Finding("folders", f"others can read {private}", f"chmod 600 {private}")
    for folder in LogFolder.objects.filter(active=True).order_by("path"):
        path = Path(folder.path)
        if not (path.is_dir() and os.access(path, os.R_OK | os.X_OK)):
            told = f"{path} cannot be read, so its robots' logs are not followed"
            yield Finding("folders", told, "Make it readable, or take it out in the admin.")
        elif folder.error:
            yield Finding("folders", f"{path}: {folder.error}", "Mend that.")
        else:
            yield Finding("folders", f"{path} is followed")


PARTS: dict[str, Callable[[], Iterator[Finding]]] = {
    "authority": _authority,
    "commits": _commits,
    "clock": _clock,
    "broker": _broker,
    "beat": _beat,
    "folders": _folders,
    "sessions": _sessions,
    "keys": _keys,
}
WITHOUT_DATABASE = {"broker"}
