"""Facts as the tests need them, as of one fixed moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from watchdog_project.alerts.facts import (
    Breach,
    Facts,
    Lease,
    Liveness,
    Refusal,
    Session,
    Standing,
)

NOW = datetime(2026, 3, 2, 15, 0, 0, tzinfo=UTC)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def lease(market: str = "ES", **more: Any) -> Lease:
    """MES executes ES on trader-1, and renewed a second ago."""
    known: dict[str, Any] = {
        "scope": "",
        "state": "HELD",
        "fencing_token": 7,
        "run_id": "holder",
        "host": "trader-1",
        "execution_instrument": f"M{market}",
        "acquired_at": ago(600),
        "renewed_at": ago(1),
        "expires_at": later(14),
    }
    return Lease(market=market, **{**known, **more})


def refusal(run: str = "newcomer", at: float = 3, **more: Any) -> Refusal:
    """Another run was refused `at` seconds ago, on another host."""
    known: dict[str, Any] = {
        "host": "trader-2",
        "execution_instrument": "ES",
        "first_at": ago(at),
        "last_at": ago(at),
    }
    return Refusal(run_id=run, **{**known, **more})


def breach(market: str = "ES", code: str = "INSTRUMENT_MISMATCH", **more: Any) -> Breach:
    known: dict[str, Any] = {
        "scope": "",
        "subject": "ES1",
        "message": f"{market}1 says NQ.",
        "run_id": "run-a",
        "host": "trader-1",
        "opened_at": ago(20),
        "last_seen_at": ago(2),
    }
    return Breach(market=market, code=code, **{**known, **more})


def standing(market: str = "ES", status: str = "STALE", **more: Any) -> Standing:
    known: dict[str, Any] = {
        "scope": "",
        "run_id": "run-a",
        "evidence_at": ago(300),
        "checked_at": ago(5),
    }
    return Standing(market=market, status=status, **{**known, **more})


def robot(market: str = "ES", **more: Any) -> Liveness:
    known: dict[str, Any] = {
        "scope": "",
        "run_id": f"run of {market}",
        "host": "trader-1",
        "heard_at": ago(2),
    }
    return Liveness(market=market, **{**known, **more})


def silent(market: str = "ES", seconds: float = 60, **more: Any) -> Liveness:
    return robot(market, heard_at=ago(seconds), silent_since=ago(seconds), **more)


def facts(now: datetime = NOW, **parts: Any) -> Facts:
    return Facts(now=now, **parts)


OPEN = Session(open=True, changed_at=ago(7200))
CLOSED = Session(open=False, changed_at=ago(7200))
JUST_OPENED = Session(open=True, changed_at=ago(60))
