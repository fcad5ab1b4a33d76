"""How a lease statement runs: alone in its transaction, and never waiting for longer than a second.

On PostgreSQL everything goes to the server in one message, which is one transaction. On SQLite the
same statements follow one another under `BEGIN IMMEDIATE`, and the clock is read once, after the
writer's lock is had.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connection, models, transaction
from django.utils.dateparse import parse_datetime

from locks.connections import WAIT_SECONDS, lease_connection
from locks.leases import LockId
from locks.models import KillSwitch, LockKind, LockRecord, LockState
from locks.sqlite_writer import lease_writer, sqlite_writer
from locks.statements import (
    POSTGRES,
    POSTGRES_CLOCK,
    POSTGRES_LOCK,
    SHARE_KILL_SWITCH,
    SQLITE,
    SQLITE_NOW,
    Statements,
    Transition,
    wait_for,
)

Parameters = Mapping[str, Any]
Columns = Mapping[str, Any]
Row = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Sight:
    """A lock's row as it was at `now`, the database's time.

    `pair_ended`: a tenure of the caller's (run_id, nonce) on this lock is over.
    `server_known`: the database server is the one that the epoch is of. `epoch_began_at` and
    `grants_after` are set where another server was the authority before it.
    """

    columns: Columns
    now: datetime
    kill_switch_released: bool
    pair_ended: bool = False
    server_known: bool = True
    epoch_began_at: datetime | None = None
    grants_after: datetime | None = None

    @property
    def record(self) -> LockRecord:
        return as_record(self.columns)

    @property
    def is_overdue(self) -> bool:
        """Held, but past its end: nobody has seen so yet."""
        expires_at = self.columns["expires_at"]
        if self.columns["state"] != LockState.HELD:
            return False
        return bool(expires_at is None or expires_at <= self.now)


def as_record(columns: Columns) -> LockRecord:
    """A whole row, as the model has it."""
    return LockRecord.from_db(DEFAULT_DB_ALIAS, list(columns), list(columns.values()))


@cache
def statements() -> Statements:
    """The statements in the words of the database in use."""
    dialects = {"postgresql": POSTGRES, "sqlite": SQLITE}
    vendor = connection.vendor
    if vendor not in dialects:
        raise ImproperlyConfigured(f"Leases are kept in PostgreSQL or SQLite, not in {vendor}.")
    return Statements(dialects[vendor], list(_fields()))


@cache
def _fields() -> dict[str, models.Field[Any, Any]]:
    return {str(field.column): field for field in LockRecord._meta.concrete_fields}


def on_postgres() -> bool:
    return statements().dialect is POSTGRES


def run(transition: Transition, lock: LockId, parameters: Parameters) -> Columns | None:
    """Do it, and return what the transition reads back; None where its condition did not hold."""
    values = {**parameters, "kind": lock.kind, "name": lock.name, "scope": lock.scope}
    if on_postgres():
        row = _ask(_steps(transition, lock.obeys_kill_switch), values)
        return None if row is None else _columns(transition.reads, row)
    with _lease_writer() as (raw, now):
        values["now"] = now
        if raw.execute(_in_sqlite(transition.update), values).rowcount != 1:
            return None
        for statement in transition.history:
            raw.execute(_in_sqlite(statement), values)
        row = raw.execute(_in_sqlite(statements().outcome(transition)), values).fetchone()
    return _columns(transition.reads, row)


def examine(lock: LockId, run_id: str, nonce_hash: str) -> Sight | None:
    """Look at a lock for a verdict; the switch cannot be engaged while this looks."""
    values = {**_which(lock), "run_id": run_id, "nonce_hash": nonce_hash}
    if on_postgres():
        steps = [f"WITH {POSTGRES_CLOCK} {statements().examine}"]
        if lock.obeys_kill_switch:
            steps.insert(0, SHARE_KILL_SWITCH)
        return _sight(_ask(steps, values))
    with _lease_writer() as (raw, now):
        row = raw.execute(_in_sqlite(statements().examine), {**values, "now": now}).fetchone()
    return _sight(row)


def look(lock: LockId) -> Sight | None:
    """Read a lock; nothing waits for it, and it waits for nobody."""
    question, values = statements().look, _which(lock)
    if on_postgres():
        return _sight(_ask([f"WITH {POSTGRES_CLOCK}, {POSTGRES_LOCK} {question}"], values))
    with lease_connection() as raw:
        row = raw.execute(_in_sqlite(question), {**values, "now": _sqlite_now(raw)}).fetchone()
    return _sight(row)


def _which(lock: LockId) -> dict[str, Any]:
    return {"kind": lock.kind, "name": lock.name, "scope": lock.scope}


def overdue() -> list[LockId]:
    """Held leases past their end, the oldest first."""
    if on_postgres():
        with lease_connection() as raw:
            found = raw.execute(f"WITH {POSTGRES_CLOCK} {statements().overdue}").fetchall()
    else:
        with lease_connection() as own:
            question, now = _in_sqlite(statements().overdue), _sqlite_now(own)
            found = own.execute(question, {"now": now}).fetchall()
    return [LockId(*row) for row in found]


def record_refusal(values: Parameters, data: Mapping[str, Any]) -> None:
    """Audit a refusal; `values` are the columns of its event."""
    parameters = {**values, "data": json.dumps(data)}
    text = statements().refusal
    if on_postgres():
        with lease_connection() as raw:
            raw.execute(f"WITH {POSTGRES_CLOCK} {text}", parameters)
        return
    with _lease_writer() as (own, now):
        own.execute(_in_sqlite(text), {**parameters, "now": now})


def begin_epoch(*, always: bool = False) -> bool:
    """Notice that another database server is the authority now, and hold grants; True if so.

    `always`: also where it looks the same, because it was restored from a backup.
    """
    text = statements().begin_epoch(always=always)
    if on_postgres():
        with lease_connection() as raw:
            return bool(raw.execute(f"WITH {POSTGRES_CLOCK} {text}").rowcount == 1)
    with _lease_writer() as (own, now):
        return bool(own.execute(_in_sqlite(text), {"now": now}).rowcount == 1)


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
    """The one clock that decides on leases; also asked inside somebody's transaction."""
    clock = "SELECT clock_timestamp()" if on_postgres() else SQLITE_NOW.replace("%%", "%")
    with connection.cursor() as cursor:
        cursor.execute(clock)
        row = cursor.fetchone()
        assert row is not None  # noqa: S101 a SELECT without FROM has one row
        return _moment(row[0])


@contextmanager
def short_transaction(seconds: int = WAIT_SECONDS) -> Iterator[None]:
    """A transaction of its own that waits for nobody longer than `seconds`."""
    if not on_postgres():
        with sqlite_writer(seconds):
            yield
        return
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute(
                f"SET LOCAL lock_timeout = '{seconds}s'; SET LOCAL statement_timeout = '{seconds}s'"
            )
        yield


@cache
def _steps(transition: Transition, obeys_kill_switch: bool) -> list[str]:
    """The row's lock first, so that the clock and the row are those of after the wait for it.

    What looks at other rows too gets a statement of its own after the wait, for its snapshot.
    """
    change = statements().at_once(transition)
    if not transition.asks_others:
        return [change]
    return [wait_for(transition.contended, shares_kill_switch=obeys_kill_switch), change]


def _ask(steps: Sequence[str], values: Parameters) -> Row | None:
    """One message and one transaction on PostgreSQL, whatever the number of its statements."""
    row: Row | None
    with lease_connection() as raw:
        if len(steps) == 1:
            row = raw.execute(steps[0], values).fetchone()
        else:
            with raw.pipeline():
                for step in steps:
                    cursor = raw.execute(step, values)
                row = cursor.fetchone()
    return row


@contextmanager
def _lease_writer() -> Iterator[tuple[sqlite3.Connection, str]]:
    """SQLite's one writer, and the time once it is us."""
    with lease_connection() as raw, lease_writer(raw, WAIT_SECONDS):
        yield raw, _sqlite_now(raw)


def _sqlite_now(raw: sqlite3.Connection) -> str:
    return str(raw.execute(_in_sqlite(SQLITE_NOW)).fetchone()[0])


@cache
def _in_sqlite(text: str) -> str:
    """Parameters and percent signs as SQLite itself writes them."""
    return re.sub(r"%\((\w+)\)s", r":\1", text).replace("%%", "%")


def _sight(row: Row | None) -> Sight | None:
    if row is None:
        return None
    now, kill_switch_released, pair_ended, server_known, began_at, grants_after, *values = row
    return Sight(
        columns=_columns(statements().columns, values),
        now=_moment(now),
        kill_switch_released=bool(kill_switch_released),
        pair_ended=bool(pair_ended),
        server_known=bool(server_known),
        epoch_began_at=began_at and _moment(began_at),
        grants_after=grants_after and _moment(grants_after),
    )


def _columns(names: Sequence[str], values: Row) -> Columns:
    """What was read, as the types that the model says it has."""
    if on_postgres():
        return dict(zip(names, values, strict=True))
    return {
        name: _value(_fields().get(name), value) for name, value in zip(names, values, strict=True)
    }


def _value(field: models.Field[Any, Any] | None, value: Any) -> Any:
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
