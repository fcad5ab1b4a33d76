"""The web process with scaled durations on a database of its own, and what that database kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from canonical_guard import clock
from tests.chaos.checker import TenureFact
from tests.postgres import PostgresServer
from tests.server import ROOT, Server, Template

TENURES = """
import django, json, sys
django.setup()
from locks.models import Tenure
rows = Tenure.objects.select_related("lock").order_by("id").iterator()
for row in rows:
    ended = row.ended_at and row.ended_at.timestamp()
    print(json.dumps([str(row.lock), row.fencing_token, row.run_id, row.acquired_at.timestamp(),
                      ended, row.end, row.takeover]))
"""


class ScaledServer(Server):
    application = "tests.chaos.authority:application"

    def __init__(self, template: Template, home: Path, ttl: float) -> None:
        super().__init__(template, home)
        self.environment |= {"WATCHDOG_CHAOS_TTL": str(ttl), "WATCHDOG_LOG_LEVEL": "ERROR"}

    def run(self, script: str) -> str:
        """Run Python beside it, on the same database."""
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def own_template(
    folder: Path, *, postgres: bool
) -> Iterator[tuple[Template, PostgresServer | None]]:
    """A template database; PostgreSQL of its own, because it will be killed."""
    server = PostgresServer() if postgres else None
    outside = os.environ.pop("DATABASE_URL", None)
    try:
        if server is not None:
            # As in the field, but for what only a power cut would show.
            server.start("fsync=off")
            os.environ["DATABASE_URL"] = server.url
        folder.mkdir(parents=True, exist_ok=True)
        yield Template(folder), server
    finally:
        os.environ.pop("DATABASE_URL", None)
        if outside is not None:
            os.environ["DATABASE_URL"] = outside
        if server is not None:
            server.remove()


def tenures_of(server: ScaledServer, delay: float, offset: float) -> list[TenureFact]:
    """Every tenure in the server's database; `offset` is the wall clock's."""
    facts = []
    for line in server.run(TENURES).splitlines():
        lock, token, run, acquired, ended, end, takeover = json.loads(line)
        ended = None if ended is None else ended - offset
        facts.append(TenureFact(lock, token, run, acquired - offset, ended, end, takeover, delay))
    return facts


def wall_offset() -> float:
    """The wall clock's time less that of the executors' clock."""
    before = clock.now()
    wall = time.time()
    return wall - (before + clock.now()) / 2
