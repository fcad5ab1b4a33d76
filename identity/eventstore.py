"""Events in, each once: by the quickest way the database has, which is not the ORM's.

Runs inside its caller's transaction. Two writers of the same event: the second waits for the first
and finds it a duplicate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from django.db import IntegrityError, connection, transaction

from identity.models import EventOrigin, IdentityEvent


class EventRow(NamedTuple):
    """One event as it is stored, in the order of its columns; times are aware, `data` JSON text."""

    identity_key: str
    event_type: str
    occurred_at: datetime
    received_at: datetime
    data: str
    origin: str = EventOrigin.ROBOT.value
    market: str = ""
    scope: str = ""
    run_id: str = ""
    stream_id: str = ""
    historical: bool = False
    source_id: int | None = None
    offset: int | None = None
    fencing_token: int | None = None
    changed: bool = False


_TABLE = f'"{IdentityEvent._meta.db_table}"'
_COLUMNS = ", ".join(f'"{name}"' for name in EventRow._fields)
_HOLES = ", ".join(["%s"] * len(EventRow._fields))
_INSERT = f"INSERT INTO {_TABLE} ({_COLUMNS}) VALUES ({_HOLES})"  # noqa: S608 our own names only


def insert_events(rows: Sequence[EventRow]) -> set[str]:
    """Insert what is not there yet; returns the identity keys that were new."""
    by_key = {row.identity_key: row for row in rows}
    if not by_key:
        return set()
    if connection.vendor == "sqlite":
        return _insert_prepared(by_key)
    return _insert_copied(by_key)


def _insert_prepared(rows: Mapping[str, EventRow]) -> set[str]:
    """On SQLite: a prepared statement, which tells how many were new, not which.

    Nobody else writes meanwhile, and keys only grow, so the new ones are those behind the last.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT MAX(id) FROM {_TABLE}")  # noqa: S608 our own names only
        last = cursor.fetchone()[0] or 0
        cursor.executemany(f"{_INSERT} ON CONFLICT DO NOTHING", list(_as_text(rows.values())))
        if cursor.rowcount == len(rows):
            return set(rows)
    new = IdentityEvent.objects.filter(pk__gt=last)
    return set(new.values_list("identity_key", flat=True))


def _as_text(rows: Iterable[EventRow]) -> Iterator[tuple[Any, ...]]:
    """SQLite keeps times as text in UTC."""
    text_of: dict[datetime, str] = {}
    for row in rows:
        received_at = row.received_at
        if received_at not in text_of:
            text_of[received_at] = _text(received_at)
        yield *row[:2], _text(row.occurred_at), text_of[received_at], *row[4:]


def _insert_copied(rows: Mapping[str, EventRow]) -> set[str]:
    """On PostgreSQL: COPY, which fails where one is known; so those are looked up before it."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT identity_key FROM {_TABLE} WHERE identity_key = ANY(%s)",  # noqa: S608
            [list(rows)],
        )
        known = {key for (key,) in cursor.fetchall()}
        new = [row for key, row in rows.items() if key not in known]
        try:
            with (
                transaction.atomic(),
                connection.wrap_database_errors,
                cursor.copy(f"COPY {_TABLE} ({_COLUMNS}) FROM STDIN") as copy,
            ):
                for row in new:
                    copy.write_row(row)
        except IntegrityError:
            # Somebody else brought one of them since they were looked up.
            return _insert_one_by_one(new)
    return {row.identity_key for row in new}


def _insert_one_by_one(rows: Iterable[EventRow]) -> set[str]:
    new: set[str] = set()
    with connection.cursor() as cursor:
        # In one order, so that two who bring the same events do not wait for each other.
        for row in sorted(rows):
            cursor.execute(f"{_INSERT} ON CONFLICT DO NOTHING", row)
            if cursor.rowcount:
                new.add(row.identity_key)
    return new


def _text(at: datetime) -> str:
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    return str(at)[:-6]
