"""The snapshot: one picture of all markets, right when workers are dead, and never an exception."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.db.models import Model
from django.db.models.signals import post_init
from django.test.utils import CaptureQueriesContext

from canonical_guard.errors import UnknownInstrument
from identity.models import IngestSource, InvariantResult, RobotRun, WatchedMarket
from locks.models import KillSwitch, LockRecord
from tests.watchdog.cast import (
    NOW,
    a_held_lease,
    a_passing_market,
    a_sweep_finished,
    a_violation,
    seconds_ago,
)
from watchdog_project.status import market_named, snapshot

pytestmark = pytest.mark.django_db


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
        "overdue_tasks": [],
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
    assert len(asked) == 9  # and one more where days are written


def test_no_models_are_made_of_markets_that_stand_well() -> None:
    a_passing_market()
    a_held_lease()
    made: set[type[Model]] = set()

    def note(sender: type[Model], **_: Any) -> None:
        made.add(sender)

    post_init.connect(note)
    try:
        told = snapshot(NOW)
    finally:
        post_init.disconnect(note)

    assert told["markets"][0]["lock"]["fencing_token"] == 42
    assert not made & {WatchedMarket, InvariantResult, RobotRun, LockRecord}


@pytest.mark.parametrize("symbol", ["ES", "es", "MES", "MES 03-26", "/MES"])
def test_a_market_is_found_by_any_notation_of_its_products(symbol: str, instruments: None) -> None:
    assert market_named(symbol) == "ES"


def test_a_market_of_no_registry_is_found_by_its_name_where_there_is_evidence() -> None:
    a_passing_market("ZZ")

    assert market_named("zz") == "ZZ"


def test_a_market_that_nobody_knows_is_not_guessed(instruments: None) -> None:
    with pytest.raises(UnknownInstrument):
        market_named("EZ")
