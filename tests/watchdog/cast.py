"""Markets as the tests need them, as of one fixed moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from identity.models import (
    EventOrigin,
    InvariantResult,
    RobotRun,
    Violation,
    WatchedMarket,
)
from locks.models import LockKind, LockRecord, LockState
from watchdog_project.heartbeat import SWEEP
from watchdog_project.models import TaskHeartbeat

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
