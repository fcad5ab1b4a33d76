"""What the console's pages cost: `python -m tests.watchdog.measure_console [MARKETS] [EVENTS]`.

Fills a database of its own (`DATABASE_URL`, an empty one, or a temporary SQLite file) and prints,
as JSON, queries and milliseconds of server time for the dashboard and a market's page.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from datetime import datetime, timedelta
from typing import Any

PAGES = {
    "dashboard": "/admin/",
    "market": "/admin/market/M000/",
    "event_list": "/admin/identity/identityevent/",
    "violations": "/admin/identity/violation/?state=open",
}
TIMES = 15
SPANS_A_MARKET = 8
BATCH = 5_000


def measure(markets: int, events: int) -> dict[str, Any]:
    """Fill, then ask for each page; milliseconds are the median and the worst of TIMES answers.

    `cpu_ms` is what this process worked for an answer: the same however busy the machine is.
    """
    from django.contrib.auth.models import User
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    _fill(markets, events)
    client = Client(HTTP_HOST="localhost")
    client.force_login(User.objects.create_superuser("measure"))
    told: dict[str, Any] = {"markets": markets, "events": events, "database": connection.vendor}
    for name, address in PAGES.items():
        client.get(address)
        with CaptureQueriesContext(connection) as queries:
            answer = client.get(address)
        count = len(queries)
        assert answer.status_code == 200
        taken, worked = [], time.process_time()
        for _ in range(TIMES):
            start = time.perf_counter()
            client.get(address)
            taken.append(1000 * (time.perf_counter() - start))
        worked = 1000 * (time.process_time() - worked) / TIMES
        told[name] = {
            "queries": count,
            "ms": round(statistics.median(taken), 1),
            "worst_ms": round(max(taken), 1),
            "cpu_ms": round(worked, 1),
            "kilobytes": round(len(answer.content) / 1024),
        }
    return told


def _fill(markets: int, events: int) -> None:
    from django.core.management import call_command
    from django.utils import timezone

    from identity.registry import seed_registry
    from watchdog_project.sessions import write_sessions

    call_command("migrate", verbosity=0, interactive=False)
    seed_registry()
    now = timezone.now()
    names = [f"M{number:03}" for number in range(markets)]
    _registered(names)
    write_sessions(now, lambda key, first, last: {first + timedelta(days=5): "08:30-15:00"})
    _watched(names, now)
    _executed(names, now)
    _heard_of(names, events, now)


def _registered(names: list[str]) -> None:
    from identity.models import CanonicalInstrument

    CanonicalInstrument.objects.bulk_create(
        [CanonicalInstrument(symbol=name, name=name, calendar_key="CME_Equity") for name in names]
    )


def _watched(names: list[str], now: datetime) -> None:
    """A third is broken, and every market's last day had its ups and downs."""
    from identity.models import EventOrigin, InvariantResult, Violation, WatchedMarket
    from watchdog_project.heartbeat import SWEEP
    from watchdog_project.models import StatusSpan, TaskHeartbeat

    TaskHeartbeat.objects.create(task=SWEEP, interval=60, finished_at=now + timedelta(seconds=50))
    rows = WatchedMarket.objects.bulk_create(
        [
            WatchedMarket(market=name, first_evidence_at=now, evidence_at=now, run_id=f"run {name}")
            for name in names
        ]
    )
    InvariantResult.objects.bulk_create(
        [
            InvariantResult(
                watched=row,
                origin=EventOrigin.SWEEP,
                passed=place % 3 != 0,
                checked_at=now,
                evidence_at=now,
                changed_at=now,
                stream_ids=[f"{row.market}1"],
            )
            for place, row in enumerate(rows)
        ]
    )
    Violation.objects.bulk_create(
        [
            Violation(
                market=name,
                code="EXECUTION_INSTRUMENT_MISSING",
                subject=f"{name}1",
                message=f"Stream {name}1 does not say where its orders go.",
                opened_at=now - timedelta(hours=1),
                last_seen_at=now,
            )
            for name in names[::3]
        ]
    )
    step = timedelta(hours=24) / SPANS_A_MARKET
    StatusSpan.objects.bulk_create(
        [
            StatusSpan(
                market=name,
                status=("OK", "STALE", "IDLE")[place % 3],
                began_at=now - step * (place + 1),
                seen_at=now - step * place,
            )
            for name in names
            for place in range(SPANS_A_MARKET)
        ]
    )


def _executed(names: list[str], now: datetime) -> None:
    from locks.models import LockEvent, LockEventType, LockRecord, LockState, Tenure

    locks = LockRecord.objects.bulk_create(
        [
            LockRecord(
                name=name,
                state=LockState.HELD,
                fencing_token=7,
                run_id=f"run {name}",
                execution_instrument=name,
                host=f"trader-{place % 20}",
                acquired_at=now,
                renewed_at=now,
                expires_at=now + timedelta(seconds=300),
            )
            for place, name in enumerate(names)
        ]
    )
    Tenure.objects.bulk_create(
        [
            Tenure(lock=lock, fencing_token=7, run_id=lock.run_id, acquired_at=now, host=lock.host)
            for lock in locks
        ]
    )
    LockEvent.objects.bulk_create(
        [
            LockEvent(
                type=LockEventType.ALREADY_ACTIVE,
                name=name,
                run_id="late",
                fencing_token=7,
                code="CANONICAL_MARKET_ALREADY_ACTIVE",
                at=now,
                last_at=now,
            )
            for name in names[::5]
        ]
    )


def _heard_of(names: list[str], events: int, now: datetime) -> None:
    from identity.models import IdentityEvent, RobotRun, Stream

    runs = RobotRun.objects.bulk_create(
        [
            RobotRun(run_id=f"run {name}", first_seen_at=now, last_seen_at=now, host="trader-1")
            for name in names
        ]
    )
    Stream.objects.bulk_create(
        [
            Stream(run=run, stream_id=f"{name}1", market=name, first_seen_at=now, last_seen_at=now)
            for run, name in zip(runs, names, strict=True)
        ]
    )
    for start in range(0, events, BATCH):
        IdentityEvent.objects.bulk_create(
            [
                IdentityEvent(
                    identity_key=f"event {number}",
                    event_type="STREAM_STATE",
                    market=names[number % len(names)],
                    run_id=f"run {names[number % len(names)]}",
                    occurred_at=now - timedelta(seconds=number % 86_400),
                    received_at=now,
                    data={"stream": "1"},
                )
                for number in range(start, min(start + BATCH, events))
            ]
        )


def main(markets: int = 500, events: int = 100_000) -> None:
    """Measure in a home of its own, so that nothing of this installation is touched."""
    with tempfile.TemporaryDirectory(prefix="watchdog-measure-") as home:
        os.environ["WATCHDOG_HOME"] = home
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "watchdog_project.settings")
        import django

        django.setup()
        print(json.dumps(measure(markets, events), indent=2))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
