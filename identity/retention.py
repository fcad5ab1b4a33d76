"""What was kept long enough is forgotten, in small batches that hold no writer for long.

A forgotten line stays counted: its source remembers up to where its events were pruned. What is
still needed stays, however old: how far each file was read, watched markets and their last runs,
and open violations with the runs that have yet to mend them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, QuerySet

from identity.models import (
    Claim,
    EventOrigin,
    IdentityEvent,
    IngestError,
    IngestSource,
    RobotRun,
    Stream,
    Violation,
    WatchedMarket,
)

BATCH = 500
PAUSE = 0.02  # seconds between two batches, so that whoever waits for SQLite's writer gets it
SECONDS_A_RUN = 300.0

Wait = Callable[[float], object]


@dataclass(frozen=True, slots=True)
class Keep:
    """How long to keep: results that say what the one before said, and everything else."""

    passes: timedelta = timedelta(days=7)
    changes: timedelta = timedelta(days=400)


@dataclass(slots=True)
class Pruned:
    """How many rows were forgotten; `finished` says that none was left which should have been."""

    passes: int = 0
    events: int = 0
    violations: int = 0
    errors: int = 0
    runs: int = 0
    finished: bool = False


def prune_history(
    now: datetime,
    keep: Keep,
    *,
    wait: Wait = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Pruned:
    """Forget what is older than `keep` says; an event's age counts from when it was received.

    Ends after SECONDS_A_RUN by `clock`; the next run goes on from there.
    """
    before = now - keep.changes
    pruned = Pruned()
    deadline = clock() + SECONDS_A_RUN
    steps: list[tuple[str, Iterator[int]]] = [
        ("passes", _prune_passes(now - keep.passes)),
        ("events", _prune_events(before)),
        ("violations", _prune_rows(_ended_violations(before, now))),
        ("errors", _prune_rows(IngestError.objects.filter(at__lt=before))),
        ("runs", _prune_runs(before)),
    ]
    for name, batches in steps:
        for count in batches:
            setattr(pruned, name, getattr(pruned, name) + count)
            if clock() >= deadline:
                return pruned
            wait(PAUSE)
    pruned.finished = True
    return pruned


def _prune_passes(before: datetime) -> Iterator[int]:
    quote = connection.ops.quote_name
    table = quote(IdentityEvent._meta.db_table)
    # The condition stands there in words: SQLite takes its partial index for no parameter.
    statement = (
        f"DELETE FROM {table} WHERE {quote('id')} IN (SELECT {quote('id')} FROM {table}"  # noqa: S608
        f" WHERE NOT {quote('changed')} AND {quote('origin')} = '{EventOrigin.SWEEP.value}'"
        f" AND {quote('occurred_at')} < %s ORDER BY {quote('occurred_at')} LIMIT {BATCH})"
    )
    moment = connection.ops.adapt_datetimefield_value(before)
    count = BATCH
    while count == BATCH:
        with connection.cursor() as cursor:
            cursor.execute(statement, [moment])
            count = cursor.rowcount
        yield count


def _prune_events(before: datetime) -> Iterator[int]:
    """Events in the order they came in, as far as there are old ones among them."""
    last = 0
    while True:
        rows = list(
            IdentityEvent.objects.filter(pk__gt=last)
            .order_by("pk")
            .values_list("pk", "received_at", "source_id", "offset", "occurred_at")[:BATCH]
        )
        old = [row for row in rows if row[1] < before]
        if not old:
            return
        last = rows[-1][0]
        reached: dict[int, tuple[int, datetime]] = {}
        for _, received_at, source_id, offset, occurred_at in old:
            if source_id is not None and offset is not None:
                end, until = reached.get(source_id, (0, occurred_at))
                # A time ahead of its reading would make whatever comes later look counted.
                at = min(occurred_at, received_at)
                reached[source_id] = max(end, offset + 1), max(until, at)
        with transaction.atomic():
            for source_id, (end, until) in sorted(reached.items()):
                _remember(source_id, end, until)
            IdentityEvent.objects.filter(pk__in=[row[0] for row in old]).delete()
        yield len(old)


def _remember(source_id: int, end: int, until: datetime) -> None:
    source = IngestSource.objects.select_for_update().get(pk=source_id)
    IngestSource.objects.filter(pk=source_id).update(
        pruned_to=max(end, source.pruned_to),
        pruned_until=max(until, source.pruned_until or until),
    )


def _ended_violations(before: datetime, now: datetime) -> QuerySet[Violation]:
    # What is accepted until a day ahead comes back accepted, however long ago it was mended.
    return Violation.objects.filter(ended_at__lt=before).exclude(accepted_until__gt=now)


def _prune_rows(
    rows: QuerySet[Violation] | QuerySet[IngestError] | QuerySet[Stream] | QuerySet[Claim],
) -> Iterator[int]:
    while True:
        keys = list(rows.order_by("pk").values_list("pk", flat=True)[:BATCH])
        if not keys:
            return
        rows.model._default_manager.filter(pk__in=keys).delete()
        yield len(keys)


def _prune_runs(before: datetime) -> Iterator[int]:
    """Runs that nothing is left of, with their streams and claims; counts runs only."""
    heard = IdentityEvent.objects.filter(run_id=OuterRef("run_id"))
    last_ones = WatchedMarket.objects.filter(run_id=OuterRef("run_id"))
    needed = {
        name
        for run_id, runs in Violation.objects.filter(ended_at__isnull=True).values_list(
            "run_id", "runs"
        )
        for name in (run_id, *runs)
    }
    last = 0
    while True:
        rows = list(
            RobotRun.objects.filter(~Exists(heard), ~Exists(last_ones), last_seen_at__lt=before)
            .filter(pk__gt=last)
            .order_by("pk")
            .values_list("pk", "run_id")[:BATCH]
        )
        if not rows:
            return
        last = rows[-1][0]
        keys = [pk for pk, run_id in rows if run_id not in needed]
        for batch in (Stream.objects.filter(run__in=keys), Claim.objects.filter(run__in=keys)):
            for _ in _prune_rows(batch):
                yield 0
        # Not one that was heard of meanwhile.
        gone, _ = RobotRun.objects.filter(pk__in=keys, last_seen_at__lt=before).delete()
        yield gone
