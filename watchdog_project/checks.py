"""Settings that cannot work are refused at start, not at three in the morning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections

from canonical_guard.errors import InvalidConfiguration
from canonical_guard.terms import LeaseTerms
from identity.models import CanonicalInstrument
from watchdog_project.deadman import url_objection
from watchdog_project.heartbeat import REAP, SWEEP, interval_of

_MARKETS = CanonicalInstrument._meta.db_table
DATABASES = {"sqlite", "postgresql"}
# A check of identity older than 150 seconds is stale; two sweeps lie within that.
LONGEST_INTERVAL = 75

Apps = Sequence[AppConfig] | None


@register()
def database_settings(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    """Only what the lease statements were written for."""
    found: list[CheckMessage] = []
    vendor = connections["default"].vendor
    if vendor not in DATABASES:
        found.append(
            Error(
                f"Leases cannot be kept in {vendor}.",
                hint="Let DATABASE_URL name a PostgreSQL server, or a SQLite file.",
                id="watchdog.E001",
            )
        )
    if settings.DATABASES["default"].get("ATOMIC_REQUESTS"):
        found.append(
            Error(
                "ATOMIC_REQUESTS is on: a refused acquire would take back the expiry it saw.",
                hint="Take it out of DATABASE_URL.",
                id="watchdog.E002",
            )
        )
    return found


@register()
def broker_settings(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    if settings.PRODUCTION and settings.CELERY_BROKER_URL.startswith("filesystem://"):
        return [
            Error(
                "The broker is a folder of this host, which other hosts cannot reach.",
                hint="Let CELERY_BROKER_URL name Redis or RabbitMQ.",
                id="watchdog.E003",
            )
        ]
    return []


@register()
def schedule_settings(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    """The periodic work is scheduled, in time, and never piles up."""
    return [*_unscheduled(), *_piling_up()]


def _unscheduled() -> Iterator[CheckMessage]:
    for task in (SWEEP, REAP):
        interval = interval_of(task)
        if not 0 < interval <= LONGEST_INTERVAL:
            yield Error(
                f"{task} is not scheduled at least every {LONGEST_INTERVAL} seconds.",
                hint="Set it in CELERY_BEAT_SCHEDULE; the sweep is meant to run every 60 seconds.",
                id="watchdog.E004",
            )


def _piling_up() -> Iterator[CheckMessage]:
    for name, entry in settings.CELERY_BEAT_SCHEDULE.items():
        schedule = entry["schedule"]
        options: Any = entry.get("options") or {}
        expires = options.get("expires")
        if not isinstance(schedule, timedelta):
            continue
        if expires is None or expires >= schedule.total_seconds():
            yield Error(
                f"Runs of {name!r} would pile up while no worker takes them.",
                hint="Let its `expires` be below its interval.",
                id="watchdog.E005",
            )


@register()
def retention_settings(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    """A day at least is kept, and no change is forgotten before what merely repeats it."""
    passes, changes = settings.WATCHDOG_KEEP_PASSES_DAYS, settings.WATCHDOG_KEEP_CHANGES_DAYS
    if 1 <= passes <= changes <= 36_500:
        return []
    return [
        Error(
            f"Results would be kept for {passes} days and changes for {changes}.",
            hint="Let 1 <= WATCHDOG_KEEP_PASSES_DAYS <= WATCHDOG_KEEP_CHANGES_DAYS <= 36500.",
            id="watchdog.E007",
        )
    ]


@register()
def dead_man_settings(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    """A ping that can be sent; the address itself is a secret, and not repeated here."""
    found: list[CheckMessage] = []
    if reason := url_objection(settings.WATCHDOG_DEADMAN_URL):
        found.append(
            Error(
                f"Nobody can be pinged at WATCHDOG_DEADMAN_URL. {reason}",
                hint="Set it to the address that your monitor gave you, or to nothing.",
                id="watchdog.E008",
            )
        )
    if not 0 < settings.WATCHDOG_DEADMAN_TIMEOUT <= 10:
        found.append(
            Error(
                f"A ping may take 0 to 10 seconds, not {settings.WATCHDOG_DEADMAN_TIMEOUT:g}.",
                hint="Correct WATCHDOG_DEADMAN_TIMEOUT; 3 is what it is without it.",
                id="watchdog.E009",
            )
        )
    return found


@register(Tags.security, deploy=True)
def public_status(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    if not settings.WATCHDOG_PUBLIC_STATUS:
        return []
    return [
        Warning(
            "Status and badge are answered without a key to whoever is on this host.",
            hint="Unset WATCHDOG_PUBLIC_STATUS: a proxy here could make everybody look local.",
            id="watchdog.W001",
        )
    ]


@register(Tags.database)
def lease_terms(
    app_configs: Apps, databases: Sequence[str] | None = None, **_: Any
) -> list[CheckMessage]:
    """Every market's lease is one that a robot can keep."""
    found: list[CheckMessage] = []
    # Not asked to look, or nothing is migrated yet.
    if not databases or _MARKETS not in connections["default"].introspection.table_names():
        return found
    for market, ttl in CanonicalInstrument.objects.values_list("symbol", "lease_ttl"):
        try:
            LeaseTerms.for_ttl(float(ttl))
        except InvalidConfiguration as reason:
            hint = "Correct the market's lease TTL in the admin."
            found.append(Error(f"Leases of {market}: {reason}", hint=hint, id="watchdog.E006"))
    return found
