"""SQLite has one writer: renewals must not starve behind others who never stop writing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from django.db import connection

from locks.services import renew_lease
from tests.locks.cast import Robot

# Holds the writer as a sweep does, and then again at once.
WRITES = """
import sqlite3, sys, time
other = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=5)
while True:
    other.execute("BEGIN IMMEDIATE")
    other.execute("UPDATE locks_killswitch SET reason = reason")
    time.sleep(0.2)
    other.execute("COMMIT")
    print("written", flush=True)
    time.sleep(0.002)
"""


@pytest.fixture
def somebody_writes_all_the_time(transactional_db: None) -> Iterator[None]:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITES, str(connection.settings_dict["NAME"])],
        stdout=subprocess.PIPE,
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"written\n"
    yield
    assert writer.poll() is None
    writer.kill()
    writer.communicate()


@pytest.mark.django_db(transaction=True)
@pytest.mark.sqlite_only
@pytest.mark.usefixtures("somebody_writes_all_the_time")
def test_every_renewal_finds_its_moment_between_the_transactions_of_a_busy_writer() -> None:
    robot = Robot("run-1")
    grant = robot.acquire()
    for number in range(30):
        assert renew_lease(robot.holding(grant)).renewals == number + 1
