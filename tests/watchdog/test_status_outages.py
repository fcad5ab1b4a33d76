"""What the snapshot cannot read it says to be unknown; it never raises."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import OperationalError, connection

from tests.watchdog.cast import NOW, a_held_lease, a_passing_market, a_sweep_finished
from watchdog_project.status import snapshot

pytestmark = pytest.mark.django_db


def unreadable(table: str) -> Any:
    """The table is gone for as long as the block lasts."""
    return _Renamed(table)


class _Renamed:
    def __init__(self, table: str) -> None:
        self.table = table

    def __enter__(self) -> None:
        self._execute(f"ALTER TABLE {self.table} RENAME TO {self.table}_gone")

    def __exit__(self, *_: object) -> None:
        self._execute(f"ALTER TABLE {self.table}_gone RENAME TO {self.table}")

    def _execute(self, sql: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(sql)


@pytest.mark.parametrize(
    ("table", "part"),
    [
        ("identity_watchedmarket", "identity"),
        ("locks_lockrecord", "locks"),
        ("locks_killswitch", "kill switch"),
        ("watchdog_taskheartbeat", "sweep"),
        ("identity_ingestsource", "ingest"),
    ],
)
def test_a_part_that_cannot_be_read_is_named_and_costs_the_others_nothing(
    table: str, part: str
) -> None:
    a_sweep_finished()
    a_passing_market()
    a_held_lease()
    parts = {"identity", "locks", "kill switch", "sweep", "ingest"}

    with unreadable(table):
        told = snapshot(NOW)

    assert [entry.partition(":")[0] for entry in told["unreadable"]] == [part]
    assert part in parts
    if part in ("identity", "sweep"):
        assert told["status"] in ("UNKNOWN", "STALE")
        assert told["last_identity_invariants_pass"] is None
    if part == "kill switch":
        assert told["kill_switch_active"] is None
    if part == "ingest":
        assert told["ingest"]["accepted"] is None
    if part != "locks":
        assert told["markets"][0]["lock"]["fencing_token"] == 42
    if part != "identity":
        assert told["markets"][0]["identity"]["execution_instrument"] == "MES"


@pytest.mark.django_db(transaction=True)
def test_an_outage_of_the_database_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[object] = []

    def refuse(parameters: object) -> None:
        attempts.append(parameters)
        raise OperationalError("connection to server at 10.0.0.7 failed for user watchdog")

    connection.close()
    with monkeypatch.context() as outage:
        outage.setattr(connection, "get_new_connection", refuse)
        told = snapshot(NOW)

    assert told["status"] == "UNKNOWN"
    assert len(told["unreadable"]) == 7
    assert "10.0.0.7" not in str(told)
    assert len(attempts) == 1
