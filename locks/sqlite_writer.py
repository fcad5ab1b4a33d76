"""SQLite has one writer: how a lease statement becomes it in time, however busy others keep it.

SQLite's own wait soon looks every 100 ms only, and finds the writer taken each time where another
process writes again and again.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection, transaction
from django.db.backends.utils import CursorWrapper

LOOK_EVERY = 0.001
_turn = threading.Lock()


@contextmanager
def sqlite_writer(seconds: float) -> Iterator[CursorWrapper]:
    """A transaction of Django's that writes, begun within `seconds`; raises OperationalError."""
    connection.ensure_connection()
    require_immediate(connection)
    deadline = time.monotonic() + seconds
    with _turn_until(deadline), _without_its_own_wait(), ExitStack() as stack:
        _begin(lambda: stack.enter_context(transaction.atomic(durable=True)), deadline)
        yield stack.enter_context(connection.cursor())


@contextmanager
def lease_writer(raw: sqlite3.Connection, seconds: float) -> Iterator[None]:
    """The same on a connection that has no wait of its own."""
    if raw.in_transaction:
        yield
        return
    deadline = time.monotonic() + seconds
    with _turn_until(deadline):
        _begin(lambda: raw.execute("BEGIN IMMEDIATE"), deadline)
        try:
            yield
            raw.commit()
        except BaseException:
            raw.rollback()
            raise


def require_immediate(wrapper: object) -> None:
    """Raises ImproperlyConfigured for a Django connection whose transactions begin by reading."""
    if getattr(wrapper, "transaction_mode", None) != "IMMEDIATE":
        raise ImproperlyConfigured("Leases need SQLite's transaction_mode to be IMMEDIATE.")


@contextmanager
def _turn_until(deadline: float) -> Iterator[None]:
    """One thread of a process looks for the writer, not all that want it."""
    turn = _turn
    if not turn.acquire(timeout=max(deadline - time.monotonic(), 0)):
        raise OperationalError("the writer was not free in time for this process's leases")
    try:
        yield
    finally:
        turn.release()


def _new_turn() -> None:
    global _turn
    _turn = threading.Lock()


# Whose turn it was in the parent is nobody's in a fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_turn)


@contextmanager
def _without_its_own_wait() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout")
        (patience,) = cursor.fetchone() or (0,)
        cursor.execute("PRAGMA busy_timeout = 0")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout = {int(patience)}")


def _begin(begin: Callable[[], object], deadline: float) -> None:
    while True:
        try:
            begin()
            return
        except (OperationalError, sqlite3.OperationalError) as error:
            code = getattr(error.__cause__ or error, "sqlite_errorcode", 0)
            if code & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
        time.sleep(LOOK_EVERY)
