"""Connections for the lease statements alone.

Nobody else's transaction stands before them, their limits are set once, and their statements stay
prepared. A thread borrows one for a statement, so a process opens as many as it has threads at it.
"""

from __future__ import annotations

import atexit
import os
import sqlite3
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from locks.sqlite_writer import require_immediate

if TYPE_CHECKING:
    import psycopg

WAIT_SECONDS = 1
CONNECT_SECONDS = 2
POSTGRES_SETTINGS = {
    "lock_timeout": f"{WAIT_SECONDS}s",
    "statement_timeout": f"{WAIT_SECONDS}s",
    # What is read after a wait must be what is there then.
    "default_transaction_isolation": "read committed",
    "TimeZone": "UTC",
}
DJANGOS_OWN = ("context", "cursor_factory", "prepare_threshold")

_idle: defaultdict[str, deque[Any]] = defaultdict(deque)


@contextmanager
def lease_connection() -> Iterator[Any]:
    """psycopg's or sqlite3's own connection, in autocommit, that nobody else uses meanwhile.

    On PostgreSQL no statement of it takes longer than a second; on SQLite it does not wait.
    Raises Django's database errors.
    """
    shared = connections[DEFAULT_DB_ALIAS]
    if shared.in_atomic_block:
        # A lease must not be undone with somebody else's transaction: refused, but in a test that
        # is one transaction from beginning to end.
        with transaction.atomic(durable=True), shared.wrap_database_errors:
            yield shared.connection
        return
    idle = _idle[str(shared.settings_dict["NAME"])]
    with shared.wrap_database_errors:
        try:
            own = idle.pop()
        except IndexError:
            own = _opened(shared)
        try:
            yield own
        except BaseException:
            # Interrupted, or the server went away: then those that idle are gone too.
            if _is_usable(own):
                idle.append(own)
            else:
                own.close()
                close_lease_connections()
            raise
        idle.append(own)


def close_lease_connections() -> None:
    """Close what is idle; needed before a database is dropped."""
    for idle in list(_idle.values()):
        while idle:
            idle.pop().close()


def _opened(shared: BaseDatabaseWrapper) -> Any:
    """One more connection, to where Django's own goes."""
    parameters = shared.get_connection_params()
    if shared.vendor == "postgresql":
        role = shared.settings_dict["OPTIONS"].get("assume_role")
        return _opened_postgres(parameters, POSTGRES_SETTINGS | ({"role": role} if role else {}))
    require_immediate(shared)
    own: sqlite3.Connection = shared.get_new_connection(parameters)
    own.isolation_level = None
    own.execute("PRAGMA busy_timeout = 0")
    return own


def _opened_postgres(
    parameters: dict[str, Any], settings: dict[str, str]
) -> psycopg.Connection[tuple[Any, ...]]:
    import psycopg

    for name in DJANGOS_OWN:
        parameters.pop(name, None)
    parameters.setdefault("connect_timeout", CONNECT_SECONDS)
    own = psycopg.connect(**parameters, autocommit=True)
    try:
        for setting in settings.items():
            own.execute("SELECT set_config(%s, %s, false)", setting)
    except BaseException:
        own.close()
        raise
    own.prepare_threshold = 0
    return own


def _is_usable(own: Any) -> bool:
    if isinstance(own, sqlite3.Connection):
        return not own.in_transaction
    return bool(own.info.transaction_status == 0)


def _forget_the_parents() -> None:
    """A fork must neither use nor close its parent's connections: they are one with them."""
    global _idle
    _parents.append(_idle)
    _idle = defaultdict(deque)


_parents: list[Any] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_the_parents)
atexit.register(close_lease_connections)
