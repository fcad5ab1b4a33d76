"""Events in, each once: the insert that tells which of them were new.

One statement of SQL, because the ORM cannot say which rows of a batch met a conflict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import connection

from identity.models import EventOrigin, IdentityEvent

ROWS_A_STATEMENT = 500
_FIELDS = (
    "identity_key",
    "origin",
    "event_type",
    "market",
    "scope",
    "run_id",
    "stream_id",
    "occurred_at",
    "received_at",
    "historical",
    "source_id",
    "offset",
    "fencing_token",
    "changed",
    "data",
)


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event as it is stored; times are aware, `data` is JSON text."""

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

    Two writers of the same event: the second waits for the first and finds it a duplicate.
    """
    ordered = list({row.identity_key: row for row in rows}.values())
    new: set[str] = set()
    for start in range(0, len(ordered), ROWS_A_STATEMENT):
        new |= _insert(ordered[start : start + ROWS_A_STATEMENT])
    return new


def _insert(rows: Sequence[EventRow]) -> set[str]:
    quote = connection.ops.quote_name
    columns = ", ".join(quote(name) for name in _FIELDS)
    holes = ", ".join(["(" + ", ".join(["%s"] * len(_FIELDS)) + ")"] * len(rows))
    table = quote(IdentityEvent._meta.db_table)
    # SQLite keeps times as text in UTC; the backend's own adapter is slow for a million rows.
    as_text = connection.vendor == "sqlite"
    values: list[Any] = []
    for row in rows:
        occurred_at, received_at = row.occurred_at, row.received_at
        values += (
            row.identity_key,
            row.origin,
            row.event_type,
            row.market,
            row.scope,
            row.run_id,
            row.stream_id,
            _text(occurred_at) if as_text else occurred_at,
            _text(received_at) if as_text else received_at,
            row.historical,
            row.source_id,
            row.offset,
            row.fencing_token,
            row.changed,
            row.data,
        )
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({columns}) VALUES {holes}"  # noqa: S608 our own names only
            f" ON CONFLICT ({quote('identity_key')}) DO NOTHING"
            f" RETURNING {quote('identity_key')}",
            values,
        )
        return {key for (key,) in cursor.fetchall()}


def _text(at: datetime) -> str:
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(" ")
