"""The cast: lines as robots write them, folders they write in, and a clock that stands still."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.db.models import Sum

from identity.admission import Place
from identity.batch import Outcome
from identity.facts import TenureFact, TenureFacts
from identity.ingest import ingest_posted
from identity.models import Violation
from identity.status import MarketIdentity, market_identities
from identity.sweep import sweep

NOW = datetime(2026, 4, 1, 15, 0, 0, tzinfo=UTC)
HERE = Place(log="/robots/one/logs", host="trader-1")


def ago(seconds: float = 0, *, before: datetime = NOW) -> datetime:
    return before - timedelta(seconds=seconds)


def stamp(at: datetime) -> str:
    """As .NET writes it: seven digits of a second and an offset."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f0+00:00")


def line(
    event: str, *, at: datetime = NOW, run: str = "run-a", data: Any = None, **top: Any
) -> dict[str, Any]:
    """A robot log line."""
    return {
        "ts_utc": stamp(at),
        "level": "INFO",
        "source": "RobotEngine",
        "instrument": "",
        "stream": None,
        "account": None,
        "run_id": run,
        "event": event,
        "message": event,
        "data": data,
        **top,
    }


def complete(event: str = "ORDER_SUBMITTED", **more: Any) -> dict[str, Any]:
    """A line that carries both identities, of stream ES1."""
    names = {"canonical_instrument": "ES", "execution_instrument": "MES", "stream": "ES1"}
    return line(event, instrument="MES", data=names, **more)


def incomplete(event: str = "ORDER_SUBMITTED", **more: Any) -> dict[str, Any]:
    """The same without any identity but the instrument that it is filed under."""
    return line(event, instrument="MES", data={"intent_id": "1"}, **more)


def report(
    passed: Any, *, at: datetime = NOW, run: str = "run-a", market: str = "ES", **more: Any
) -> dict[str, Any]:
    """A robot's own IDENTITY_INVARIANTS_STATUS."""
    data = {
        "pass": passed,
        "violations": [],
        "canonical_instrument": market,
        "execution_instrument": f"M{market}",
        "stream_ids": [f"{market}1"],
        "checked_at_utc": stamp(at),
    }
    return line("IDENTITY_INVARIANTS_STATUS", at=at, run=run, data={**data, **more})


def journal(stream: str, instrument: str, *, run: str = "state", at: datetime | None = NOW) -> Any:
    """An execution journal in its wrapper; without a time only its file's name has a day."""
    record = {
        "IntentId": "1",
        "TradingDate": None,
        "Stream": stream,
        "Instrument": instrument,
        "EntrySubmittedAtUtc": stamp(at) if at else None,
        "EntryFilledAtUtc": None,
        "CompletedAtUtc": None,
    }
    return {"run": run, "file": "2026-04-01_x.json", "record": record}


def post(
    *lines: Any, place: Place = HERE, now: datetime = NOW, tenures: TenureFacts | None = None
) -> Outcome:
    return ingest_posted(lines, place, now, tenures)


def tenure(token: int = 1, *, run: str = "guard-1", **facts: Any) -> TenureFact:
    return TenureFact(
        **{
            "market": "ES",
            "scope": "",
            "fencing_token": token,
            "run_id": run,
            "host": "trader-1",
            "execution_instrument": "MES",
            "acquired_at": ago(60),
            "renewed_at": ago(1),
            "ended_at": None,
            "clean": False,
            "folder": "",
            **facts,
        }
    )


def leases(*facts: TenureFact) -> TenureFacts:
    return lambda since: [f for f in facts if f.ended_at is None or f.ended_at >= since]


NO_LEASES = leases()


def swept(now: datetime = NOW, *facts: TenureFact) -> dict[str, MarketIdentity]:
    """A sweep's outcome by market."""
    return {one.market: one for one in sweep(now, leases(*facts))}


def standing(market: str = "ES", now: datetime = NOW) -> MarketIdentity:
    (found,) = market_identities(now, market)
    return found


def open_violations() -> list[tuple[str, str, str, int]]:
    """Market, code, subject and count of every open one."""
    rows = Violation.objects.filter(ended_at__isnull=True).order_by("market", "code", "subject")
    return [(row.market, row.code, row.subject, row.count) for row in rows]


def counted() -> dict[str, int]:
    """Occurrences of each code, over open and ended violations."""
    rows = Violation.objects.values_list("code").annotate(Sum("count")).order_by("code")
    return dict(rows)


def write_lines(path: Path, lines: Iterable[Any], end: str = "\n") -> Path:
    path.write_bytes(b"".join(json.dumps(one).encode() + end.encode() for one in lines))
    return path
