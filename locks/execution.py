"""How a lease statement runs: alone in its transaction, and never waiting for longer than a second.

On PostgreSQL everything goes to the server in one message, which is one transaction. On SQLite the
same statements follow one another under `BEGIN IMMEDIATE`, and the clock is read once, after the
writer's lock is had.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connection, models, transaction
from django.db.backends.utils import CursorWrapper
from django.utils.dateparse import parse_datetime

from locks.leases import LockId
from locks.models import KillSwitch, LockKind, LockRecord, LockState
from locks.sqlite_writer import sqlite_writer
from locks.statements import (
    POSTGRES,
    POSTGRES_CLOCK,
    SHARE_KILL_SWITCH,
    SQLITE,
    SQLITE_NOW,
    Statements,
    Transition,
)

WAIT_SECONDS = 1
LIMITS = (
    f"SET LOCAL lock_timeout = '{WAIT_SECONDS}s'; SET LOCAL statement_timeout = '{WAIT_SECONDS}s'"
)

Parameters = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sight:
    """A lock's row as it was at `now`, the database's time.

    `pair_ended`: a tenure of the caller's (run_id, nonce) on this lock is over.
    `server_known`: the database server is the one that the epoch is of. `epoch_began_at` and
    `grants_after` are set where another server was the authority before it.
    """

    record: LockRecord
    now: datetime
    kill_switch_released: bool
    pair_ended: bool = False
    server_known: bool = True
    epoch_began_at: datetime | None = None
    grants_after: datetime | None = None

    @property
    def is_overdue(self) -> bool:
        """Held, but past its end: nobody has seen so yet."""
        record = self.record
        if record.state != LockState.HELD:
            return False
        return record.expires_at is None or record.expires_at <= self.now


@cache
def _statements(vendor: str) -> Statements:
    dialects = {"postgresql": POSTGRES, "sqlite": SQLITE}
    if vendor not in dialects:
        raise ImproperlyConfigured(f"Leases are kept in PostgreSQL or SQLite, not in {vendor}.")
    return Statements(dialects[vendor], [str(field.column) for field in _fields()])


def _fields() -> Sequence[models.Field[Any, Any]]:
    return LockRecord._meta.concrete_fields


def statements() -> Statements:
    """The statements in the words of the database in use."""
    return _statements(connection.vendor)


def on_postgres() -> bool:
    return connection.vendor == "postgresql"


def run(transition: Transition, lock: LockId, parameters: Parameters) -> Sight | None:
    """Do it and return the row as it is now, or None where its condition did not hold."""
    values = {**parameters, "kind": lock.kind, "name": lock.name, "scope": lock.scope}
    if on_postgres():
        return _ask(_one_message(transition, lock.obeys_kill_switch), values)
    with _writer() as (cursor, now):
        values["now"] = now
        cursor.execute(transition.update, values)
        if cursor.rowcount != 1:
            return None
        for statement in transition.history:
            cursor.execute(statement, values)
        cursor.execute(statements().result, values)
        return _sight(cursor)


def examine(lock: LockId, run_id: str, nonce_hash: str) -> Sight | None:
    """Look at a lock for a verdict; the switch cannot be engaged while this looks."""
    values: dict[str, Any] = {
        "kind": lock.kind,
        "name": lock.name,
        "scope": lock.scope,
        "run_id": run_id,
        "nonce_hash": nonce_hash,
    }
    if on_postgres():
        question = f"WITH {POSTGRES_CLOCK} {statements().examine}"
        share = f"{SHARE_KILL_SWITCH}; " if lock.obeys_kill_switch else ""
        return _ask(f"{LIMITS}; {share}{question}", values)
    with _writer() as (cursor, now):
        cursor.execute(statements().examine, {**values, "now": now})
        return _sight(cursor)


def look(lock: LockId) -> Sight | None:
    """Read a lock; nothing waits for it, and it waits for nobody."""
    values: dict[str, Any] = {"kind": lock.kind, "name": lock.name, "scope": lock.scope}
    if on_postgres():
        this = (
            "lock AS (SELECT * FROM locks_lockrecord"
            " WHERE kind = %(kind)s AND name = %(name)s AND scope = %(scope)s)"
        )
        return _ask(f"{LIMITS}; WITH {POSTGRES_CLOCK}, {this} {statements().look}", values)
    with connection.cursor() as cursor:
        cursor.execute(statements().look, {**values, "now": _sqlite_now(cursor)})
        return _sight(cursor)


def overdue() -> list[LockId]:
    """Held leases past their end, the oldest first."""
    with connection.cursor() as cursor:
        if on_postgres():
            cursor.execute(f"WITH {POSTGRES_CLOCK} {statements().overdue}")
        else:
            cursor.execute(statements().overdue, {"now": _sqlite_now(cursor)})
        return [LockId(*row) for row in cursor.fetchall()]


def record_refusal(values: Parameters, data: Mapping[str, Any]) -> None:
    """Audit a refusal; `values` are the columns of its event."""
    parameters = {**values, "data": json.dumps(data)}
    text = statements().refusal
    if on_postgres():
        with _cursor() as cursor:
            cursor.execute(f"{LIMITS}; WITH {POSTGRES_CLOCK} {text}", parameters)
        return
    with _writer() as (cursor, now):
        cursor.execute(text, {**parameters, "now": now})


def begin_epoch(*, always: bool = False) -> bool:
    """Notice that another database server is the authority now, and hold grants; True if so.

    `always`: also where it looks the same, because it was restored from a backup.
    """
    text = statements().begin_epoch(always=always)
    if on_postgres():
        with _cursor() as cursor:
            cursor.execute(f"{LIMITS}; WITH {POSTGRES_CLOCK} {text}")
            while cursor.nextset():
                pass
            return bool(cursor.rowcount == 1)
    with _writer() as (cursor, now):
        cursor.execute(text, {"now": now})
        return bool(cursor.rowcount == 1)


def create_record(lock: LockId) -> None:
    """Make a lock's row and, at the first use of a market, its kill switch, released.

    The switch is made with the first record only: where it goes missing later it stays missing,
    which reads as engaged.
    """
    with short_transaction():
        first = not LockRecord.objects.filter(kind=lock.kind, name=lock.name).exists()
        LockRecord.objects.bulk_create(
            [LockRecord(kind=lock.kind, name=lock.name, scope=lock.scope)], ignore_conflicts=True
        )
        if first and lock.obeys_kill_switch:
            KillSwitch.objects.bulk_create([KillSwitch(market=lock.name)], ignore_conflicts=True)


def withhold_grants(market: str) -> None:
    """Until the transaction at hand ends, let no lease of `market` be granted in any scope.

    Every grant shares the market's kill switch row; on SQLite a transaction keeps all others out.
    """
    if not on_postgres():
        return
    if not LockRecord.objects.filter(kind=LockKind.CANONICAL_MARKET, name=market).exists():
        KillSwitch.objects.bulk_create([KillSwitch(market=market)], ignore_conflicts=True)
    list(KillSwitch.objects.select_for_update().filter(market=market))


def database_now() -> datetime:
    """The one clock that decides on leases."""
    with connection.cursor() as cursor:
        if not on_postgres():
            return _moment(_sqlite_now(cursor))
        cursor.execute("SELECT clock_timestamp()")
        row = cursor.fetchone()
        assert row is not None  # noqa: S101 a SELECT without FROM has one row
        return _moment(row[0])


@contextmanager
def short_transaction(seconds: int = WAIT_SECONDS) -> Iterator[None]:
    """A transaction of its own that waits for nobody longer than `seconds`."""
    if not on_postgres():
        with _writer(seconds):
            yield
        return
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute(
                f"SET LOCAL lock_timeout = '{seconds}s'; SET LOCAL statement_timeout = '{seconds}s'"
            )
        yield


@cache
def _one_message(transition: Transition, obeys_kill_switch: bool) -> str:
    """The row's lock first, so that the clock and the row are those of after the wait for it."""
    steps = [LIMITS, f"{transition.contended} FOR NO KEY UPDATE"]
    if transition.reads_kill_switch and obeys_kill_switch:
        steps.append(SHARE_KILL_SWITCH)
    history = "".join(
        f", history_{number} AS ({statement})"
        for number, statement in enumerate(transition.history)
    )
    clock = f"{POSTGRES_CLOCK.removesuffix(')')}{transition.clock_with})"
    steps.append(
        f"WITH {clock}, lock AS ({transition.update} RETURNING lock.*)"
        f"{history} {statements().result}"
    )
    return "; ".join(steps)


def _ask(text: str, values: Parameters) -> Sight | None:
    with _cursor() as cursor:
        cursor.execute(text, values)
        while cursor.nextset():
            pass
        return _sight(cursor)


@contextmanager
def _cursor() -> Iterator[CursorWrapper]:
    """In autocommit, so that a message is a transaction; refuses to be part of another one."""
    if connection.get_autocommit():
        with connection.cursor() as cursor:
            yield cursor
    else:
        with transaction.atomic(durable=True), connection.cursor() as cursor:
            yield cursor


@contextmanager
def _writer(seconds: int = WAIT_SECONDS) -> Iterator[tuple[CursorWrapper, str]]:
    """SQLite's one writer, and the time once it is us."""
    with sqlite_writer(seconds) as cursor:
        yield cursor, _sqlite_now(cursor)


def _sqlite_now(cursor: CursorWrapper) -> str:
    cursor.execute(SQLITE_NOW.replace("%%", "%"))
    row = cursor.fetchone()
    assert row is not None  # noqa: S101 a SELECT without FROM has one row
    return str(row[0])


def _sight(cursor: CursorWrapper) -> Sight | None:
    row = cursor.fetchone()
    if row is None:
        return None
    now, kill_switch_released, pair_ended, server_known, began_at, grants_after, *values = row
    if not on_postgres():
        values = [_value(*pair) for pair in zip(_fields(), values, strict=True)]
    return Sight(
        record=LockRecord.from_db(connection.alias, [field.attname for field in _fields()], values),
        now=_moment(now),
        kill_switch_released=bool(kill_switch_released),
        pair_ended=bool(pair_ended),
        server_known=bool(server_known),
        epoch_began_at=began_at and _moment(began_at),
        grants_after=grants_after and _moment(grants_after),
    )


def _value(field: models.Field[Any, Any], value: Any) -> Any:
    """What SQLite kept, as the type that the model says it is."""
    if value is None:
        return None
    if isinstance(field, models.DateTimeField):
        return _moment(value)
    return bool(value) if isinstance(field, models.BooleanField) else value


def _moment(value: Any) -> datetime:
    """SQLite keeps times as text, in UTC, and says so nowhere."""
    moment = value if isinstance(value, datetime) else parse_datetime(str(value))
    if moment is None:
        raise ValueError(f"{value!r} is not a time")
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
