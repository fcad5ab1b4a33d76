"""Somebody else at the same database: who blocks a row, and many who want the same market."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import connection, connections

Result = Any


def database_url() -> str:
    """The test database, as another process must be told of it."""
    settings = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{settings['NAME']}"
    return f"postgres://{settings['USER']}@{settings['HOST']}:{settings['PORT']}/{settings['NAME']}"


@contextmanager
def somebody_holds_the_row(table: str = "locks_lockrecord") -> Iterator[Callable[[], None]]:
    """Another connection has the table's rows (SQLite: the writer); call to let them go."""
    settings = connection.settings_dict
    other: Any
    if connection.vendor == "sqlite":
        other = sqlite3.connect(
            settings["NAME"], isolation_level=None, check_same_thread=False, timeout=5
        )
        other.execute("BEGIN IMMEDIATE")
    else:
        other = psycopg.connect(database_url())
        other.execute(f"SELECT 1 FROM {table} FOR UPDATE")  # noqa: S608 our own names only
    try:
        yield other.rollback
    finally:
        other.rollback()
        other.close()


def all_at_once(calls: Sequence[Callable[[], Result]], seconds: float = 30) -> list[Result]:
    """Run each call in a thread of its own, started together; what each returned or raised."""
    barrier = threading.Barrier(len(calls))
    results: list[Result] = [None] * len(calls)

    def work(index: int, call: Callable[[], Result]) -> None:
        try:
            connection.ensure_connection()
            barrier.wait(seconds)
            results[index] = call()
        except Exception as error:
            results[index] = error
        finally:
            connections.close_all()

    threads = [
        threading.Thread(target=work, args=(index, call), daemon=True)
        for index, call in enumerate(calls)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds)
        assert not thread.is_alive(), "a contender hangs"
    return results


def environment() -> dict[str, str]:
    return os.environ | {
        "DATABASE_URL": database_url(),
        "DJANGO_SETTINGS_MODULE": "watchdog_project.settings",
    }
