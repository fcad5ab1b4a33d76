"""The snapshot: one picture of all markets, right when workers are dead, and never an exception."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from identity.models import (
    EventOrigin,
    IngestSource,
    InvariantResult,
    RobotRun,
    Violation,
    WatchedMarket,
)
from locks.models import KillSwitch, LockKind, LockRecord, LockState
from watchdog_project import status
from watchdog_project.heartbeat import SWEEP
from watchdog_project.models import TaskHeartbeat
from watchdog_project.status import market_named, snapshot

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 2, 15, 0, 0, tzinfo=UTC)


def seconds_ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def a_sweep_finished(seconds: float = 10) -> None:
    TaskHeartbeat.objects.create(task=SWEEP, interval=60, finished_at=seconds_ago(seconds))


def a_passing_market(market: str = "ES", scope: str = "") -> WatchedMarket:
    run_id = f"run of {market}{scope}"
    RobotRun.objects.create(
        run_id=run_id, first_seen_at=seconds_ago(900), last_seen_at=seconds_ago(5)
    )
    watched = WatchedMarket.objects.create(
        market=market,
        scope=scope,
        run_id=run_id,
        first_evidence_at=seconds_ago(900),
        evidence_at=seconds_ago(5),
    )
    InvariantResult.objects.create(
        watched=watched,
        origin=EventOrigin.SWEEP,
        passed=True,
        checked_at=seconds_ago(10),
        evidence_at=seconds_ago(15),
        changed_at=seconds_ago(800),
        run_id=run_id,
        execution_instrument=f"M{market}",
        stream_ids=[f"{market}1"],
    )
    return watched


def a_violation(market: str = "ES", **more: Any) -> Violation:
    return Violation.objects.create(
        market=market,
        code="EXECUTION_INSTRUMENT_MISSING",
        subject="ORDER_SUBMITTED",
        message=f"ORDER_SUBMITTED of {market} names no execution instrument.",
        opened_at=seconds_ago(60),
        last_seen_at=seconds_ago(20),
        **more,
    )


def a_held_lease(market: str = "ES") -> LockRecord:
    return LockRecord.objects.create(
        kind=LockKind.CANONICAL_MARKET,
        name=market,
        state=LockState.HELD,
        fencing_token=42,
        run_id="0f9c",
        nonce_hash="5" * 64,
        host="trader-1",
        execution_instrument="MES",
        acquired_at=seconds_ago(100),
        renewed_at=seconds_ago(3),
        expires_at=NOW + timedelta(seconds=12),
    )


def test_an_installation_that_watches_nothing_is_unknown_and_not_stale() -> None:
    told = snapshot(NOW)

    assert told["status"] == "UNKNOWN"
    assert told["last_identity_invariants_pass"] is None
    assert told["markets"] == []
    assert told["sweep"] == {"last_finished_at": None, "age_seconds": None, "overdue": True}
    assert told["unreadable"] == []


def test_every_field_of_the_contract_is_there_for_a_market_that_passes() -> None:
    a_sweep_finished(10)
    a_passing_market()
    a_held_lease()
    IngestSource.objects.create(
        name="log", fingerprint="f", accepted=7, rejected=1, last_event_at=seconds_ago(5)
    )

    told = snapshot(NOW)

    chicago = told.pop("timestamp_chicago")
    assert chicago == NOW
    assert chicago.isoformat() == "2026-03-02T09:00:00-06:00"
    checked = told.pop("last_identity_invariants_event_chicago")
    assert checked.isoformat() == "2026-03-02T08:59:50-06:00"
    (row,) = told.pop("markets")
    assert told == {
        "status": "OK",
        "snapshot_utc": NOW,
        "last_identity_invariants_pass": True,
        "last_identity_violations": [],
        "kill_switch_active": False,
        "alerts": [],
        "sweep": {"last_finished_at": seconds_ago(10), "age_seconds": 10.0, "overdue": False},
        "ingest": {"last_event_at": seconds_ago(5), "accepted": 7, "rejected": 1},
        "unreadable": [],
    }
    assert (row["market"], row["scope"]) == ("ES", "")
    assert row["session"] == {"open": None, "next_change_at": None}
    identity = row["identity"]
    assert (identity["status"], identity["pass"]) == ("OK", True)
    assert identity["checked_at"] == seconds_ago(10)
    assert identity["evidence_at"] == seconds_ago(5)
    assert identity["execution_instrument"] == "MES"
    assert identity["stream_ids"] == ["ES1"]
    assert identity["violations"] == []
    lock = row["lock"]
    assert (lock["state"], lock["run_id"], lock["host"]) == ("HELD", "0f9c", "trader-1")
    assert (lock["execution_instrument"], lock["fencing_token"]) == ("MES", 42)
    assert (lock["acquired_at"], lock["expires_in"]) == (seconds_ago(100), 12.0)


def test_a_violation_of_one_market_is_the_status_of_all() -> None:
    a_sweep_finished()
    a_passing_market("ES")
    a_passing_market("NQ")
    violation = a_violation("NQ")

    told = snapshot(NOW)

    assert told["status"] == "VIOLATION"
    assert told["last_identity_invariants_pass"] is False
    assert told["last_identity_violations"] == [violation.message]
    listed = {row["market"]: row["identity"]["violations"] for row in told["markets"]}
    assert listed["ES"] == []
    (entry,) = listed["NQ"]
    assert entry["code"] == "EXECUTION_INSTRUMENT_MISSING"
    assert entry["subject"] == "ORDER_SUBMITTED"
    assert (entry["message"], entry["count"]) == (violation.message, 1)
    assert (entry["opened_at"], entry["last_seen_at"]) == (seconds_ago(60), seconds_ago(20))


def test_the_narrowed_snapshot_tells_of_its_market_alone() -> None:
    a_sweep_finished()
    a_passing_market("ES")
    a_passing_market("NQ")
    a_violation("NQ")
    a_held_lease("CL")

    told = snapshot(NOW, "ES")

    assert told["status"] == "OK"
    assert [row["market"] for row in told["markets"]] == ["ES"]


def test_a_sweep_that_is_overdue_makes_a_pass_stale() -> None:
    a_sweep_finished(151)
    a_passing_market()

    told = snapshot(NOW)

    assert told["status"] == "STALE"
    assert told["last_identity_invariants_pass"] is None
    assert told["sweep"]["overdue"] is True


def test_a_sweep_is_in_time_for_150_seconds() -> None:
    a_sweep_finished(150)
    a_passing_market()

    assert snapshot(NOW)["status"] == "OK"


def test_a_sweep_that_never_finished_makes_a_watched_market_stale() -> None:
    a_passing_market()

    assert snapshot(NOW)["status"] == "STALE"


def test_a_sweep_that_finished_in_the_future_proves_nothing() -> None:
    a_sweep_finished(-3600)
    a_passing_market()

    assert snapshot(NOW)["status"] == "STALE"


def test_a_violation_is_worse_than_an_overdue_sweep() -> None:
    a_sweep_finished(3600)
    a_passing_market()
    a_violation()

    assert snapshot(NOW)["status"] == "VIOLATION"


def test_a_market_that_somebody_executes_is_listed_before_its_first_sweep() -> None:
    a_sweep_finished()
    a_passing_market("NQ")
    a_held_lease("ES")

    told = snapshot(NOW)

    assert told["status"] == "UNKNOWN"
    row = next(row for row in told["markets"] if row["market"] == "ES")
    assert row["identity"]["pass"] is None
    assert row["lock"]["fencing_token"] == 42


def test_a_lease_past_its_end_that_nobody_reaped_shows_a_time_below_zero() -> None:
    a_passing_market()
    LockRecord.objects.filter(pk=a_held_lease().pk).update(expires_at=seconds_ago(30))

    (row,) = snapshot(NOW)["markets"]

    assert row["lock"]["expires_in"] == -30.0


def test_the_nonce_is_in_no_snapshot() -> None:
    a_held_lease()

    assert "5" * 64 not in str(snapshot(NOW))


def test_the_kill_switch_of_one_market_is_not_shown_for_another() -> None:
    KillSwitch.objects.create(market="NQ", engaged=True)

    assert snapshot(NOW)["kill_switch_active"] is True
    assert snapshot(NOW, "NQ")["kill_switch_active"] is True
    assert snapshot(NOW, "ES")["kill_switch_active"] is False


def test_the_global_kill_switch_is_shown_for_every_market() -> None:
    KillSwitch.objects.update_or_create(market="", defaults={"engaged": True})
    a_passing_market("ES")

    told = snapshot(NOW, "ES")

    assert told["kill_switch_active"] is True
    assert told["markets"][0]["kill_switch_active"] is True


def test_a_global_kill_switch_that_is_gone_counts_as_engaged_as_it_does_for_robots() -> None:
    KillSwitch.objects.all().delete()

    assert snapshot(NOW)["kill_switch_active"] is True


def test_the_number_of_queries_does_not_grow_with_the_markets() -> None:
    for market in ("ES", "NQ", "CL", "GC"):
        a_passing_market(market)
        a_violation(market)
        a_held_lease(market)

    with CaptureQueriesContext(connection) as captured:
        told = snapshot(NOW)

    asked = [query for query in captured if "SAVEPOINT" not in query["sql"]]
    assert len(told["markets"]) == 4
    assert len(asked) == 7


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
    assert len(told["unreadable"]) == 5
    assert "10.0.0.7" not in str(told)
    assert len(attempts) == 1


@pytest.mark.parametrize("symbol", ["ES", "es", "MES", "MES 03-26", "/MES"])
def test_a_market_is_found_by_any_notation_of_its_products(symbol: str, instruments: None) -> None:
    assert market_named(symbol) == "ES"


def test_a_market_of_no_registry_is_found_by_its_name_where_there_is_evidence() -> None:
    a_passing_market("ZZ")

    assert market_named("zz") == "ZZ"


def test_a_market_that_nobody_knows_is_not_guessed(instruments: None) -> None:
    from canonical_guard.errors import UnknownInstrument

    with pytest.raises(UnknownInstrument):
        market_named("EZ")


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


def test_the_limits_are_those_of_the_design() -> None:
    assert status.SWEEP_OVERDUE_AFTER == 150
