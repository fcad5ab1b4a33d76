"""The snapshot: how every watched market stands now, from what both apps know.

It never raises. What it cannot read it reports as unknown, and says so in `unreadable`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from django.db import DatabaseError, InterfaceError, connection, transaction
from django.db.models import Max, Sum

from canonical_guard.errors import UnknownInstrument
from identity.models import IngestSource, Violation, WatchedMarket
from identity.registry import load_registry
from identity.runbook import section_of
from identity.status import WORST_FIRST, IdentityStatus, MarketIdentity, market_identities
from locks.models import KillSwitch, LockKind, LockRecord, LockState
from watchdog_project.alerts.answers import alert_answer
from watchdog_project.alerts.models import Alert
from watchdog_project.alerts.services import worst_open_alerts
from watchdog_project.heartbeat import (
    CLOCK_TOLERANCE,
    SWEEP,
    Overdue,
    overdue_after,
    overdue_among,
)
from watchdog_project.market_hours import UNKNOWN as NOT_KNOWN
from watchdog_project.market_hours import Session
from watchdog_project.models import TaskHeartbeat
from watchdog_project.sessions import sessions_of

logger = logging.getLogger(__name__)

CHICAGO = ZoneInfo("America/Chicago")
VERDICTS = {IdentityStatus.OK: True, IdentityStatus.VIOLATION: False}

T = TypeVar("T")
Market = tuple[str, str]


class _Lock(NamedTuple):
    """What is told of a lock's record. With a thousand of them, making models is what costs."""

    name: str
    scope: str
    state: str
    run_id: str
    host: str
    execution_instrument: str
    fencing_token: int
    acquired_at: datetime | None
    renewed_at: datetime | None
    expires_at: datetime | None
    free_at: datetime | None


@dataclass
class _Readings:
    """Reads part after part; a part that fails is named, and costs the others nothing."""

    unreadable: list[str] = field(default_factory=list)
    database_gone: bool = False

    def read(self, what: str, source: Callable[[], T], otherwise: T) -> T:
        # One outage is waited for once, not once for every part.
        if self.database_gone:
            self.unreadable.append(f"{what}: the database does not answer")
            return otherwise
        try:
            return _apart(source)
        except Exception as failure:
            # Every open console asks every few seconds: an outage is one line each time.
            bug = not isinstance(failure, DatabaseError | InterfaceError)
            logger.error("The status could not read %s: %s", what, failure, exc_info=bug)
            self.database_gone = connection.connection is None or not connection.is_usable()
            # Names the kind of failure only: its text can hold addresses and rows.
            self.unreadable.append(f"{what}: {type(failure).__name__}")
            return otherwise


def _apart(source: Callable[[], T]) -> T:
    """Inside somebody's transaction a failed statement would spoil the rest of it."""
    if not connection.in_atomic_block:
        return source()
    with transaction.atomic():
        return source()


def snapshot(
    now: datetime, market: str | None = None, *, with_ingest: bool = True
) -> dict[str, Any]:
    """The body of `GET /api/watchdog/status` as of `now`: times as datetimes, durations in seconds.

    `market` narrows to one canonical market, in all its scopes. The number of queries does not
    grow with the markets: three of identity and seven here, one less without what was taken in.
    """
    readings = _Readings()
    identities = readings.read("identity", lambda: market_identities(now, market), None)
    locks = readings.read("locks", lambda: _locks(market), None)
    engaged = readings.read("kill switch", _engaged_switches, None)
    periodic = readings.read("sweep", lambda: _periodic(now), None)
    sweep, overdue = (periodic.sweep, periodic.overdue) if periodic else (None, [])
    ingest = readings.read("ingest", _ingest, None) if with_ingest else None
    rows = _rows(identities or [], locks or {}, engaged, now)
    none_known: dict[str, Session] = {}
    sessions = readings.read("sessions", lambda: sessions_of(_markets(rows), now), none_known)
    for row in rows:
        row["session"] = _session(sessions.get(row["market"], NOT_KNOWN))
    no_alerts: list[Alert] = []
    alerts = readings.read("alerts", lambda: worst_open_alerts(market), no_alerts)
    status = _status(identities, rows, sweep, overdue)
    return {
        "status": status.value,
        "timestamp_chicago": now.astimezone(CHICAGO),
        "snapshot_utc": now,
        "last_identity_invariants_pass": VERDICTS.get(status),
        "last_identity_invariants_event_chicago": _last_check(identities or []),
        "last_identity_violations": [
            violation["message"] for row in rows for violation in row["identity"]["violations"]
        ],
        "markets": rows,
        "kill_switch_active": _kill_switch_active(engaged, market),
        "alerts": [alert_answer(alert) for alert in alerts],
        "sweep": sweep or {"last_finished_at": None, "age_seconds": None, "overdue": True},
        "overdue_tasks": [late.name for late in overdue],
        "ingest": ingest or {"last_event_at": None, "accepted": None, "rejected": None},
        "unreadable": readings.unreadable,
    }


def market_named(symbol: str) -> str:
    """The canonical market that a reader means by `symbol`, in any notation of the registry.

    Where the registry does not have it, a market that something is known of goes by its own name.
    Raises UnknownInstrument; where the registry cannot be read, the name is taken as it is.
    """
    name = symbol.strip().upper()
    try:
        return load_registry().resolve(symbol).canonical_instrument
    except UnknownInstrument:
        # A database refuses to compare with what cannot be printed.
        if name.isprintable() and _is_known(name):
            return name
        raise
    except Exception:
        logger.exception("The registry could not be read; %r is taken as it is.", name)
        return name


def _is_known(market: str) -> bool:
    return (
        WatchedMarket.objects.filter(market=market, forgotten_at__isnull=True).exists()
        or LockRecord.objects.filter(kind=LockKind.CANONICAL_MARKET, name=market).exists()
    )


def _status(
    identities: list[MarketIdentity] | None,
    rows: list[dict[str, Any]],
    sweep: dict[str, Any] | None,
    overdue: Sequence[Overdue],
) -> IdentityStatus:
    if identities is None:
        return IdentityStatus.UNKNOWN
    found = [IdentityStatus(row["identity"]["status"]) for row in rows]
    # A new installation has not swept yet and has nothing to be stale: first steps, no alarm.
    begun = bool(rows) or (sweep is not None and sweep["last_finished_at"] is not None)
    if sweep is None:
        found.append(IdentityStatus.UNKNOWN)
    elif (sweep["overdue"] and begun) or overdue:
        found.append(IdentityStatus.STALE)
    return min(found, key=WORST_FIRST.index, default=IdentityStatus.UNKNOWN)


def _rows(
    identities: list[MarketIdentity],
    locks: dict[Market, _Lock],
    engaged: frozenset[str] | None,
    now: datetime,
) -> list[dict[str, Any]]:
    rows = [
        _row(
            one.market, one.scope, _identity(one), locks.get((one.market, one.scope)), engaged, now
        )
        for one in identities
    ]
    watched = {(one.market, one.scope) for one in identities}
    # Somebody executes there already, and the next sweep has yet to look at it.
    rows += [
        _row(*market, dict(NOT_CHECKED), lock, engaged, now)
        for market, lock in sorted(locks.items())
        if market not in watched and lock.state == LockState.HELD
    ]
    return rows


def _row(
    market: str,
    scope: str,
    identity: dict[str, Any],
    lock: _Lock | None,
    engaged: frozenset[str] | None,
    now: datetime,
) -> dict[str, Any]:
    return {
        "market": market,
        "scope": scope,
        "identity": identity,
        "lock": _lock(lock, now) if lock else None,
        "session": _session(NOT_KNOWN),
        "kill_switch_active": _kill_switch_active(engaged, market),
    }


def _markets(rows: list[dict[str, Any]]) -> set[str]:
    return {row["market"] for row in rows}


def _session(session: Session) -> dict[str, Any]:
    return {"open": session.open, "next_change_at": session.next_change_at}


NOT_CHECKED: dict[str, Any] = {
    "status": IdentityStatus.UNKNOWN.value,
    "pass": None,
    "checked_at": None,
    "evidence_at": None,
    "changed_at": None,
    "execution_instrument": "",
    "stream_ids": [],
    "historical": False,
    "label": "",
    "evidence_from": "",
    "run_id": "",
    "violations": [],
}


def _identity(one: MarketIdentity) -> dict[str, Any]:
    return {
        "status": one.status.value,
        "pass": one.passed,
        "checked_at": one.checked_at,
        "evidence_at": one.evidence_at,
        "changed_at": one.changed_at,
        "execution_instrument": one.execution_instrument,
        "stream_ids": one.stream_ids,
        "historical": one.historical,
        "label": one.label,
        "evidence_from": one.evidence_from,
        "run_id": one.run_id,
        "violations": [_violation(violation) for violation in one.violations],
    }


def _violation(violation: Violation) -> dict[str, Any]:
    return {
        "code": violation.code,
        "subject": violation.subject,
        "message": violation.message,
        "count": violation.count,
        "opened_at": violation.opened_at,
        "last_seen_at": violation.last_seen_at,
        "accepted_until": violation.accepted_until,
        "runbook": section_of(violation.code),
    }


def _lock(lock: _Lock, now: datetime) -> dict[str, Any]:
    held = lock.state == LockState.HELD
    return {
        "state": lock.state,
        "run_id": lock.run_id,
        "host": lock.host,
        "execution_instrument": lock.execution_instrument,
        "fencing_token": lock.fencing_token,
        "acquired_at": lock.acquired_at,
        # Below zero: over, and nobody has seen it yet.
        "expires_in": (lock.expires_at - now).total_seconds() if held and lock.expires_at else None,
        "renewed_at": lock.renewed_at,
        "free_at": lock.free_at,
    }


def _locks(market: str | None) -> dict[Market, _Lock]:
    records = LockRecord.objects.filter(kind=LockKind.CANONICAL_MARKET)
    if market is not None:
        records = records.filter(name=market)
    rows = map(_Lock._make, records.values_list(*_Lock._fields))
    return {(row.name, row.scope): row for row in rows}


def _engaged_switches() -> frozenset[str]:
    switches = dict(KillSwitch.objects.values_list("market", "engaged"))
    # A lease is refused too where the switch for all markets is missing.
    switches.setdefault("", True)
    return frozenset(market for market, engaged in switches.items() if engaged)


def _kill_switch_active(engaged: frozenset[str] | None, market: str | None) -> bool | None:
    if engaged is None:
        return None
    return bool(engaged) if market is None else bool(engaged & {"", market})


@dataclass(frozen=True, slots=True)
class _Periodic:
    """The sweep as the status tells it, and every periodic task that is overdue."""

    sweep: dict[str, Any]
    overdue: list[Overdue]


def _periodic(now: datetime) -> _Periodic:
    heartbeats = list(TaskHeartbeat.objects.order_by("task"))
    finished_at = next((row.finished_at for row in heartbeats if row.task == SWEEP), None)
    age = (now - finished_at).total_seconds() if finished_at else None
    longest = overdue_after(SWEEP).total_seconds()
    sweep = {
        "last_finished_at": finished_at,
        "age_seconds": age,
        # A sweep of the future was timed by a clock that nothing can be told from.
        "overdue": age is None or not -CLOCK_TOLERANCE.total_seconds() <= age <= longest,
    }
    return _Periodic(sweep, overdue_among(heartbeats, now))


def _ingest() -> dict[str, Any]:
    sums = IngestSource.objects.aggregate(
        last_event_at=Max("last_event_at"), accepted=Sum("accepted"), rejected=Sum("rejected")
    )
    return {**sums, "accepted": sums["accepted"] or 0, "rejected": sums["rejected"] or 0}


def _last_check(identities: list[MarketIdentity]) -> datetime | None:
    checks = [one.checked_at for one in identities if one.checked_at is not None]
    return max(checks).astimezone(CHICAGO) if checks else None


def readiness(now: datetime) -> dict[str, Any]:
    """Whether the database answers, and how the periodic work goes; never raises."""
    readings = _Readings()
    periodic = readings.read("sweep", lambda: _periodic(now), None)
    if periodic is None:
        return {
            "ready": False,
            "database": "unavailable",
            "sweep": "unknown",
            "last_sweep_at": None,
            "overdue_tasks": [],
        }
    return {
        "ready": True,
        "database": "ok",
        "sweep": "overdue" if periodic.sweep["overdue"] else "ok",
        "last_sweep_at": periodic.sweep["last_finished_at"],
        "overdue_tasks": [late.name for late in periodic.overdue],
    }
