"""How the watchdog itself is: its periodic work, the folders it follows, what it could not read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import (
    BigIntegerField,
    CharField,
    Count,
    DateTimeField,
    F,
    FloatField,
    Max,
    QuerySet,
    Sum,
    TextField,
    Value,
)
from django.db.models.functions import Cast

from identity.models import IngestError, IngestSource, LogFolder
from locks.models import LockEvent, LockEventType, LockKind
from watchdog_project.heartbeat import name_of, overdue_since
from watchdog_project.models import TaskHeartbeat

COLUMNS = ("col_kind", "col_pk", "col_name", "col_number", "col_at", "col_text")
LOOKED_BACK = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class TaskHealth:
    """A periodic task; `age` is how long ago it last finished, in seconds."""

    pk: int
    name: str
    age: float | None
    overdue: bool
    error: str


@dataclass(slots=True)
class OwnHealth:
    """`unreadable` counts lines of the last 24 hours, `refusals` attempts by (market, scope)."""

    tasks: list[TaskHealth] = field(default_factory=list)
    folder_count: int = 0
    failing_folders: list[tuple[str, str]] = field(default_factory=list)
    taken_in: int = 0
    last_event_at: datetime | None = None
    unreadable: int = 0
    refusals: dict[tuple[str, str], int] = field(default_factory=dict)


def own_health(now: datetime) -> OwnHealth:
    """All of it in one query: five kinds of rows, told apart by the first column."""
    since = now - LOOKED_BACK
    rows = _rows(TaskHeartbeat.objects, "task", F("task"), "interval", "finished_at", F("error"))
    folders = LogFolder.objects.filter(active=True)
    rows = rows.union(
        _rows(folders, "folder", F("path"), Value(0.0), "scanned_at", F("error")),
        _summed(IngestSource.objects.order_by()),
        _counted(IngestError.objects.filter(at__gte=since), "unreadable", Value(""), Value("")),
        _counted(
            LockEvent.objects.filter(
                kind=LockKind.CANONICAL_MARKET,
                type=LockEventType.ALREADY_ACTIVE,
                last_at__gte=since,
            ),
            "refused",
            F("name"),
            F("scope"),
        ),
        all=True,
    )
    health = OwnHealth()
    for kind, pk, name, number, at, text in rows:
        if kind == "task":
            health.tasks.append(_task(pk, name, at, text, now))
        elif kind == "folder":
            health.folder_count += 1
            if text:
                health.failing_folders.append((name, text))
        elif kind == "ingest":
            health.taken_in, health.last_event_at = int(number or 0), at
        elif kind == "unreadable":
            health.unreadable = int(number)
        else:
            health.refusals[name, text] = int(number)
    health.tasks.sort(key=lambda task: task.name)
    return health


def _rows(
    source: Any, kind: str, name: Any, number: Any, at: str, text: Any
) -> QuerySet[Any, tuple[Any, ...]]:
    columns: Mapping[str, Any] = {
        "col_kind": Value(kind, CharField()),
        "col_pk": Cast("pk", BigIntegerField()),
        "col_name": Cast(name, CharField()),
        "col_number": Cast(number, FloatField()),
        "col_at": F(at),
        "col_text": Cast(text, TextField()),
    }
    annotated: QuerySet[Any, tuple[Any, ...]] = source.order_by().annotate(**columns)
    return annotated.values_list(*columns)


def _counted(source: Any, kind: str, name: Any, text: Any) -> QuerySet[Any, tuple[Any, ...]]:
    grouped = source.order_by().annotate(
        col_kind=Value(kind, CharField()),
        col_name=Cast(name, CharField()),
        col_text=Cast(text, TextField()),
    )
    counted: QuerySet[Any, tuple[Any, ...]] = (
        grouped.values("col_kind", "col_name", "col_text")
        .annotate(
            col_pk=Value(0, BigIntegerField()),
            col_number=Cast(Count("pk"), FloatField()),
            col_at=Max("at", output_field=DateTimeField()),
        )
        .values_list(*COLUMNS)
    )
    return counted


def _summed(sources: Any) -> QuerySet[Any, tuple[Any, ...]]:
    """One row for everything that was taken in: how much, and the newest event's time."""
    summed: QuerySet[Any, tuple[Any, ...]] = (
        sources.annotate(
            col_kind=Value("ingest", CharField()),
            col_name=Value("", CharField()),
            col_text=Value("", TextField()),
        )
        .values("col_kind", "col_name", "col_text")
        .annotate(
            col_pk=Value(0, BigIntegerField()),
            col_number=Cast(Sum("accepted"), FloatField()),
            col_at=Max("last_event_at", output_field=DateTimeField()),
        )
        .values_list(*COLUMNS)
    )
    return summed


def _task(
    pk: int, name: str, finished_at: datetime | None, error: str, now: datetime
) -> TaskHealth:
    age = (now - finished_at).total_seconds() if finished_at else None
    return TaskHealth(
        pk=pk,
        name=name_of(name),
        age=age,
        overdue=overdue_since(name, finished_at, now) is not None,
        error=error,
    )
