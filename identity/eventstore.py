"""Events in, each once: by the quickest way the database has, which is not the ORM's.

On PostgreSQL that is COPY, on SQLite a prepared statement. Neither tells which rows were there, so
that is looked up first; whoever was faster since then is met by a statement that tells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from django.db import IntegrityError, connection, transaction

from identity.models import EventOrigin, IdentityEvent

ROWS_A_STATEMENT = 500


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


def insert_events(rows: Sequence[EventRow]) -> set[str]:
    """Insert what is not there yet; returns the identity keys that were new.

    Runs inside its caller's transaction. Two writers of the same event: the second waits for the
    first and finds it a duplicate.
    """
    by_key = {row.identity_key: row for row in rows}
    known = _known(list(by_key))
    new = [row for key, row in by_key.items() if key not in known]
    if not new:
        return set()
    if connection.vendor == "sqlite":
        # Nobody else writes until this transaction ends.
        _insert_prepared(new)
        return {row.identity_key for row in new}
    try:
        with transaction.atomic():
            _copy(new)
    except IntegrityError:
        return _insert_one_by_one(new)
    return {row.identity_key for row in new}


def _known(keys: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(keys), ROWS_A_STATEMENT):
        asked = keys[start : start + ROWS_A_STATEMENT]
        found.update(
            IdentityEvent.objects.filter(identity_key__in=asked).values_list(
                "identity_key", flat=True
            )
        )
    return found


def _insert_prepared(rows: Sequence[EventRow]) -> None:
    holes = ", ".join(["%s"] * len(EventRow._fields))
    with connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {_table()} VALUES ({holes})", list(_as_text(rows)))  # noqa: S608


def _as_text(rows: Sequence[EventRow]) -> Iterator[tuple[Any, ...]]:
    """SQLite keeps times as text in UTC."""
    text_of: dict[datetime, str] = {}
    for row in rows:
        received_at = row.received_at
        if received_at not in text_of:
            text_of[received_at] = _text(received_at)
        yield *row[:2], _text(row.occurred_at), text_of[received_at], *row[4:]


def _copy(rows: Sequence[EventRow]) -> None:
    with (
        connection.cursor() as cursor,
        connection.wrap_database_errors,
        cursor.copy(f"COPY {_table()} FROM STDIN") as copy,
    ):
        for row in rows:
            copy.write_row(row)


def _insert_one_by_one(rows: Sequence[EventRow]) -> set[str]:
    holes = ", ".join(["%s"] * len(EventRow._fields))
    statement = (
        f"INSERT INTO {_table()} VALUES ({holes})"  # noqa: S608 our own names only
        " ON CONFLICT (identity_key) DO NOTHING"
    )
    new: set[str] = set()
    with connection.cursor() as cursor:
        # In one order, so that two who send the same events do not wait for each other.
        for row in sorted(rows):
            cursor.execute(statement, row)
            if cursor.rowcount:
                new.add(row.identity_key)
    return new


def _table() -> str:
    quote = connection.ops.quote_name
    columns = ", ".join(quote(name) for name in EventRow._fields)
    return f"{quote(IdentityEvent._meta.db_table)} ({columns})"


def _text(at: datetime) -> str:
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    return str(at)[:-6]
