"""Migrations run beside robots: none keeps a table that others need, or breaks older processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from django.db.migrations import Migration, operations
from django.db.migrations.loader import MigrationLoader

from tests.server import ROOT, Server

# By app, the newest migration of the last release. None has been released: no table holds anything
# yet that a migration could keep from robots.
RELEASED: dict[str, str] = {}


def objections(migration: Migration) -> Iterator[str]:
    """What of `migration` would make others wait, or fail processes of the version before."""
    made = {
        operation.name.lower()
        for operation in migration.operations
        if isinstance(operation, operations.CreateModel)
    }
    changes_tables = False
    for operation in migration.operations:
        model = str(getattr(operation, "model_name", "")).lower()
        changes_tables |= bool(model) and model not in made
        if model in made:
            continue
        told = operation.describe()
        if isinstance(operation, operations.AddField):
            field = operation.field
            if not field.null and not field.has_db_default():
                yield f"{told}: give it a db_default; the version before knows nothing of it"
        elif isinstance(operation, (operations.AddIndex, operations.AddConstraint)):
            yield f"{told}: all writers would wait while it is made; make it concurrently"
        elif isinstance(operation, operations.AlterField):
            yield f"{told}: it may write the whole table anew"
        elif isinstance(
            operation,
            (
                operations.RemoveField,
                operations.RenameField,
                operations.RenameModel,
                operations.DeleteModel,
            ),
        ):
            yield f"{told}: the version before still needs it; drop it a release later"
        elif isinstance(operation, operations.RunPython) and changes_tables:
            yield f"{told}: a changed table is locked meanwhile; make it a migration of its own"


def test_no_migration_since_the_release_makes_others_wait_or_breaks_the_version_before() -> None:
    found = {
        f"{app}.{name}": told
        for (app, name), migration in MigrationLoader(None).disk_migrations.items()
        if app in RELEASED and name > RELEASED[app]
        if (told := list(objections(migration)))
    }
    assert found == {}


def test_what_would_make_others_wait_is_seen() -> None:
    locks = MigrationLoader(None).disk_migrations
    seen = list(objections(locks["identity", "0002_what_was_pruned"]))
    assert len(seen) == 2, seen
    assert "db_default" in seen[0]
    assert "concurrently" in seen[1]


READ = "SELECT 1 FROM locks_lockrecord"


@contextmanager
def somebody_reads(url: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A transaction that has read the leases and does not end."""
    with psycopg.connect(url) as connection:
        connection.execute(READ)
        yield connection
        connection.rollback()


@pytest.mark.postgres_only
def test_a_migration_gives_way_to_who_uses_the_table_and_holds_nobody_up(server: Server) -> None:
    url = server.environment["DATABASE_URL"]
    assert server.manage("migrate", "locks", "0002").returncode == 0
    with somebody_reads(url) as reader:
        migrating = subprocess.Popen(
            [sys.executable, "manage.py", "migrate", "locks"],
            cwd=ROOT,
            env=os.environ | server.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with psycopg.connect(url, autocommit=True) as another:
            slowest, waited = 0.0, False
            deadline = time.monotonic() + 30
            while not waited and time.monotonic() < deadline:
                waited = bool(
                    another.execute(
                        "SELECT 1 FROM pg_locks WHERE NOT granted AND mode LIKE 'AccessExcl%'"
                    ).fetchall()
                )
                time.sleep(0.01)
            assert waited, "it never wanted the table"
            for _ in range(30):
                before = time.monotonic()
                another.execute(READ)
                slowest = max(slowest, time.monotonic() - before)
                time.sleep(0.05)
        assert slowest < 1.5, "nobody waits longer than for one attempt"
        assert migrating.poll() is None, "it tries again"
        reader.rollback()
        out, _ = migrating.communicate(timeout=60)
    assert migrating.returncode == 0, out
    assert "0003_authority_epoch... OK" in out


def test_no_limit_is_left_behind_on_the_connection(server: Server) -> None:
    script = (
        "from django.core.management import call_command\n"
        "from django.db import connection\n"
        "call_command('migrate', verbosity=0)\n"
        "if connection.vendor == 'postgresql':\n"
        "    with connection.cursor() as cursor:\n"
        "        cursor.execute('SHOW lock_timeout')\n"
        "        assert cursor.fetchone() == ('0',)\n"
        "print('done')"
    )
    done = server.manage("shell", "-v", "0", "-c", script)
    assert done.stdout.strip() == "done", done.stderr
