"""The tests' own PostgreSQL: it runs on a machine that has none."""

from __future__ import annotations

import psycopg

from tests.postgres import PostgresServer, wheel_binaries


def test_the_wheels_postgresql_runs_where_the_system_has_none() -> None:
    server = PostgresServer(wheel_binaries())
    try:
        server.start("fsync=off")
        with psycopg.connect(server.url) as connection:
            row = connection.execute("SELECT clock_timestamp() > now()").fetchone()
            assert row == (True,)
    finally:
        server.remove()
    assert not server.folder.exists()
