"""Migrations that never make robots wait: a statement that cannot have its table gives way."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import CommandError
from django.core.management.commands import migrate
from django.db import OperationalError, connections

# Whoever comes after a statement that waits for a table waits as well, renewals included.
LOCK_SECONDS = 1
ATTEMPTS = 10
PAUSE_SECONDS = 1.0
LOCK_NOT_AVAILABLE = "55P03"


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        connection = connections[options["database"]]
        if connection.vendor != "postgresql":
            super().handle(*args, **options)
            return
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
        try:
            self._patiently(*args, **options)
        finally:
            # A migration that is not atomic may have left it closed.
            if connection.connection is not None:
                with connection.cursor() as cursor:
                    cursor.execute("RESET lock_timeout")

    def _patiently(self, *args: Any, **options: Any) -> None:
        """Each migration is a transaction and written down, so the next attempt goes on there."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                super().handle(*args, **options)
                return
            except OperationalError as error:
                if getattr(error.__cause__, "sqlstate", "") != LOCK_NOT_AVAILABLE:
                    raise
                if attempt == ATTEMPTS:
                    raise CommandError(
                        f"A table was in use for {ATTEMPTS} attempts of {LOCK_SECONDS} s each, so "
                        "the migration gave way and changed nothing. End the long transaction "
                        "(pg_stat_activity names it), then migrate again."
                    ) from error
            time.sleep(PAUSE_SECONDS)
