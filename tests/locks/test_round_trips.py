"""What a lease statement costs the database is counted, so that no clock has to be trusted."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from locks.connections import lease_connection
from locks.services import release_lease, renew_lease, verify_token
from tests.locks.cast import ES, Robot

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def said_to_the_server() -> Iterator[list[str]]:
    """The messages that go to PostgreSQL by the next lease connection, as libpq traces them."""
    said: list[str] = []
    with tempfile.TemporaryFile("w+") as trace:
        with lease_connection() as raw:
            raw.pgconn.trace(trace.fileno())
        yield said
        with lease_connection() as raw:
            raw.pgconn.untrace()
        trace.seek(0)
        for line in trace:
            fields = line.split("\t")
            if fields[1:2] == ["F"] and len(fields) > 3:
                said.append(fields[3].strip())


@contextmanager
def told_to_sqlite() -> Iterator[list[str]]:
    said: list[str] = []
    with lease_connection() as raw:
        raw.set_trace_callback(lambda text: said.append(text.split()[0]))
    yield said
    with lease_connection() as raw:
        raw.set_trace_callback(None)


def warmed_up() -> Robot:
    """Everything that a lease can do was done once: what can be prepared is."""
    robot = Robot("run-0")
    grant = robot.acquire()
    renew_lease(robot.holding(grant))
    verify_token(ES, grant.fencing_token)
    release_lease(robot.holding(grant))
    return robot


@pytest.mark.postgres_only
def test_each_call_is_one_message_to_postgresql_and_planned_before() -> None:
    warmed_up()
    robot = Robot("run-1")
    spoken: dict[str, list[str]] = {}
    with said_to_the_server() as spoken["acquire"]:
        grant = robot.acquire()
    with said_to_the_server() as spoken["renew"]:
        renew_lease(robot.holding(grant))
    with said_to_the_server() as spoken["verify"]:
        verify_token(ES, grant.fencing_token)
    with said_to_the_server() as spoken["release"]:
        release_lease(robot.holding(grant))
    for what, said in spoken.items():
        assert said.count("Sync") == 1, (what, said)
        assert "Parse" not in said, (what, said)
        assert "Query" not in said, (what, said)
    assert spoken["renew"].count("Execute") == 1
    assert spoken["release"].count("Execute") == 1
    assert spoken["acquire"].count("Execute") == 2, "the wait, and what is seen after it"


@pytest.mark.sqlite_only
def test_a_renewal_in_sqlite_is_one_short_transaction() -> None:
    warmed_up()
    robot = Robot("run-1")
    grant = robot.acquire()
    with told_to_sqlite() as said:
        renew_lease(robot.holding(grant))
    assert said == ["BEGIN", "SELECT", "UPDATE", "SELECT", "COMMIT"]


def test_no_lease_is_part_of_another_transaction() -> None:
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        Robot("run-1").acquire()


def test_the_limits_of_the_lease_statements_are_theirs_alone() -> None:
    def limits(raw: Any) -> Any:
        if connection.vendor == "sqlite":
            return raw.execute("PRAGMA busy_timeout").fetchone()[0]
        return raw.execute("SHOW lock_timeout").fetchone()[0]

    with lease_connection() as raw:
        own = limits(raw)
    with connection.cursor() as cursor:
        shared = limits(cursor)
    assert (own, shared) == (("1s", "0") if connection.vendor == "postgresql" else (0, 20_000))


@pytest.mark.postgres_only
def test_a_connection_that_died_is_not_used_again() -> None:
    """A server that comes back is found at the second request at the latest."""
    robot = Robot("run-1")
    grant = robot.acquire()
    with ExitStack() as rush:
        idle_soon = [rush.enter_context(lease_connection()) for _ in range(3)]
        processes = [raw.info.backend_pid for raw in idle_soon]
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid, 5000) FROM unnest(%s) pid", [processes])
    with pytest.raises(OperationalError), lease_connection() as raw:
        raw.execute("SELECT 1")
    assert renew_lease(robot.holding(grant)).renewals == 1
