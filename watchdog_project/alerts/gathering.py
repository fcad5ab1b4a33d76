"""The facts, read in bulk: a fixed number of queries, however many markets there are."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from django.db import connection, transaction
from django.db.models import Count, Max, Min, Q

from identity.models import IdentityEvent, LogFolder, WatchedMarket
from identity.status import MarketIdentity, market_identities
from identity.vitals import Vitals, market_vitals
from identity.vocabulary import DUPLICATE_INSTANCE
from locks.models import (
    KillSwitch,
    LockEvent,
    LockEventType,
    LockKind,
    LockRecord,
    LockState,
    Tenure,
    TenureEnd,
)
from watchdog_project.alerts.facts import (
    Breach,
    Duplicate,
    Facts,
    Intake,
    Job,
    Lease,
    Liveness,
    Pair,
    Refusal,
    Session,
    Standing,
    Switch,
)
from watchdog_project.alerts.kinds import QUIET_AFTER
from watchdog_project.heartbeat import overdue_tasks
from watchdog_project.sessions import sessions_of

logger = logging.getLogger(__name__)

# A robot that says nothing for so long, and whose lease nobody renews, is silent.
SILENT_AFTER = timedelta(seconds=150)
# The tailer looks at each folder every few seconds; who reads by hand does it every few minutes.
UNREAD_AFTER = timedelta(minutes=10)
WAITS = ("CANONICAL_MARKET_ALREADY_ACTIVE", "LOCK_DELAY")
Token = tuple[str, str, int]
"""A market, its scope and a tenure's fencing token."""
T = TypeVar("T")


def gather_facts(now: datetime) -> Facts:
    """Everything that the conditions look at; a part that cannot be read is named in `unread`."""
    unread: set[str] = set()

    def read(source: Callable[[], list[T]], *parts: str) -> list[T]:
        try:
            return _apart(source)
        except Exception:
            logger.exception("The alerts could not read %s; they stay as they are.", parts)
            unread.update(parts)
            return []

    leases = read(lambda: _leases(now), "leases")
    identities = read(lambda: market_identities(now), "breaches", "standings")
    duplicates = read(lambda: _duplicates(now - QUIET_AFTER), "duplicates")
    switches = read(_switches, "switches")
    vitals = read(lambda: market_vitals(now), "liveness")
    if "leases" in unread:
        # A robot whose renewals cannot be read is not silent for that.
        unread.add("liveness")
        vitals = []
    jobs = read(lambda: _jobs(now), "jobs")
    intakes = read(lambda: _intakes(now), "intakes")
    pairs = {(one.market, one.scope) for one in identities}
    pairs |= {(one.market, one.scope) for one in leases}
    sessions = read(lambda: _sessions(pairs, now), "sessions")
    return Facts(
        now=now,
        leases=leases,
        duplicates=duplicates,
        breaches=_breaches(identities),
        standings=[_standing(one) for one in identities],
        liveness=_liveness(vitals, leases, now),
        switches=switches,
        jobs=jobs,
        intakes=intakes,
        sessions=dict(sessions),
        unread=frozenset(unread),
    )


def _apart(source: Callable[[], T]) -> T:
    """Inside somebody's transaction a failed statement would spoil the rest of it."""
    if not connection.in_atomic_block:
        return source()
    with transaction.atomic():
        return source()


def _forgotten() -> dict[Pair, datetime]:
    """Markets that an operator told us to watch no more, and when."""
    rows = WatchedMarket.objects.filter(forgotten_at__isnull=False)
    return {
        (market, scope): at
        for market, scope, at in rows.values_list("market", "scope", "forgotten_at")
        if at is not None
    }


def _leases(now: datetime) -> list[Lease]:
    forgotten = _forgotten()
    records = [
        record
        for record in LockRecord.objects.filter(kind=LockKind.CANONICAL_MARKET)
        .exclude(acquired_at__isnull=True, state=LockState.FREE)
        .defer("nonce_hash")
        if not _is_forgotten(record, forgotten)
    ]
    refusals = _refusals(now - QUIET_AFTER)
    lost = _lost(records, now - QUIET_AFTER)
    return [_lease(record, refusals, lost) for record in records]


def _is_forgotten(record: LockRecord, forgotten: dict[Pair, datetime]) -> bool:
    at = forgotten.get((record.name, record.scope))
    gone = record.state != LockState.HELD
    return gone and at is not None and (record.acquired_at is None or record.acquired_at < at)


def _lease(
    record: LockRecord,
    refusals: dict[Token, list[Refusal]],
    lost: dict[Pair, LockEvent],
) -> Lease:
    loss = lost.get((record.name, record.scope))
    expired = record.state == LockState.EXPIRED and record.free_at is not None
    delay = timedelta(seconds=max(record.lock_delay, record.ttl))
    return Lease(
        market=record.name,
        scope=record.scope,
        state=record.state,
        fencing_token=record.fencing_token,
        run_id=record.run_id,
        host=record.host,
        execution_instrument=record.execution_instrument,
        acquired_at=record.acquired_at,
        renewed_at=record.renewed_at,
        expires_at=record.expires_at,
        refusals=refusals.get((record.name, record.scope, record.fencing_token), ()),
        expiry_seen_at=record.free_at - delay if expired and record.free_at else None,
        lost_at=loss.last_at if loss else None,
        lost_run_id=loss.run_id if loss else "",
        lost_host=loss.host if loss else "",
    )


def _refusals(since: datetime) -> dict[Token, list[Refusal]]:
    """Who was refused a held or just ended lease since then, by the tenure in his way."""
    found: dict[Token, list[Refusal]] = defaultdict(list)
    events = LockEvent.objects.filter(
        kind=LockKind.CANONICAL_MARKET, code__in=WAITS, last_at__gte=since
    ).exclude(code="")
    for event in events.order_by("at", "pk"):
        found[event.name, event.scope, event.fencing_token or 0].append(
            Refusal(
                run_id=event.run_id,
                host=event.host,
                execution_instrument=str(event.data.get("execution_instrument") or ""),
                first_at=event.at,
                last_at=event.last_at,
                count=event.count,
            )
        )
    return found


def _lost(records: Sequence[LockRecord], since: datetime) -> dict[Pair, LockEvent]:
    """The newest refused renewal of each market; of those that nobody took since, at any time."""
    vacant = [record for record in records if record.state == LockState.EXPIRED]
    recent = Q(last_at__gte=since)
    if vacant:
        recent |= Q(
            name__in={record.name for record in vacant},
            fencing_token__in={record.fencing_token for record in vacant},
        )
    events = list(
        LockEvent.objects.filter(recent, kind=LockKind.CANONICAL_MARKET, type=LockEventType.LOST)
        .exclude(code="")
        .order_by("last_at")
    )
    revoked = _revoked(events)
    return {
        (event.name, event.scope): event
        for event in events
        if (event.name, event.scope, event.fencing_token) not in revoked
    }


def _revoked(events: Sequence[LockEvent]) -> set[tuple[str, str, int]]:
    """The tenures among these that an operator ended: he knows of it."""
    if not events:
        return set()
    tenures = Tenure.objects.filter(
        lock__name__in={event.name for event in events},
        fencing_token__in={event.fencing_token for event in events},
        end=TenureEnd.REVOKED,
    )
    return set(tenures.values_list("lock__name", "lock__scope", "fencing_token"))


def _duplicates(since: datetime) -> list[Duplicate]:
    """Of each market, what its robots said since then of a second instance."""
    said = IdentityEvent.objects.filter(
        event_type=DUPLICATE_INSTANCE, historical=False, occurred_at__gte=since
    )
    rows = said.order_by("market", "scope").values("market", "scope")
    told = rows.annotate(Max("pk"), first=Min("occurred_at"), last=Max("occurred_at"), n=Count("*"))
    found = list(told)
    speakers = said.filter(pk__in=[one["pk__max"] for one in found]).values_list("pk", "run_id")
    run_of = dict(speakers)
    return [
        Duplicate(
            market=one["market"],
            scope=one["scope"],
            run_id=run_of[one["pk__max"]],
            first_at=one["first"],
            last_at=one["last"],
            count=one["n"],
        )
        for one in found
    ]


def _breaches(identities: Sequence[MarketIdentity]) -> list[Breach]:
    return [
        Breach(
            market=one.market,
            scope=one.scope,
            code=violation.code,
            subject=violation.subject,
            message=violation.message,
            run_id=violation.run_id,
            host=violation.host,
            opened_at=violation.opened_at,
            last_seen_at=violation.last_seen_at,
            count=violation.count,
        )
        for one in identities
        for violation in one.red_violations
        if not violation.historical
    ]


def _standing(one: MarketIdentity) -> Standing:
    return Standing(
        market=one.market,
        scope=one.scope,
        status=one.status.value,
        run_id=one.run_id,
        evidence_at=one.evidence_at,
        checked_at=one.checked_at,
        historical=one.historical,
    )


def _switches() -> list[Switch]:
    rows = list(KillSwitch.objects.order_by("market"))
    engaged = [
        Switch(row.market, row.changed_at, row.changed_by, row.reason)
        for row in rows
        if row.engaged
    ]
    if all(row.market for row in rows):
        # Leases are refused too where the switch for all markets is missing.
        engaged.append(Switch("", None, "", "its row is missing, which counts as engaged"))
    return engaged


def _liveness(vitals: Sequence[Vitals], leases: Sequence[Lease], now: datetime) -> list[Liveness]:
    """Whoever renews a market's lease is heard of, whether he writes a log or not."""
    renewed = {
        (lease.market, lease.scope): lease.renewed_at or lease.acquired_at for lease in leases
    }
    told = []
    for one in vitals:
        lease_at = renewed.get((one.market, one.scope))
        heard_at = max(one.heard_at, lease_at) if lease_at else one.heard_at
        silent = now - heard_at > SILENT_AFTER
        told.append(
            Liveness(
                market=one.market,
                scope=one.scope,
                run_id=one.run_id,
                host=one.host,
                heard_at=heard_at,
                silent_since=heard_at + SILENT_AFTER if silent else None,
                engine_stalled_since=one.engine_since,
                data_stalled_since=one.data_since,
                connection_lost_since=one.connection_since,
            )
        )
    return told


def _jobs(now: datetime) -> list[Job]:
    return [
        Job(late.task.rpartition(".")[2], late.since, late.error) for late in overdue_tasks(now)
    ]


def _sessions(pairs: set[Pair], now: datetime) -> list[tuple[Pair, Session]]:
    told = sessions_of({market for market, _ in pairs}, now)
    return [
        (pair, Session(found.open, found.since, found.next_change_at))
        for pair in pairs
        if (found := told.get(pair[0])) is not None
    ]


def _intakes(now: datetime) -> list[Intake]:
    """Folders that cannot be read, and those that nobody looks into."""
    found = []
    for row in LogFolder.objects.filter(active=True).order_by("path"):
        if row.error:
            found.append(Intake(row.path, now, row.error))
        elif row.scanned_at is not None and now - row.scanned_at > UNREAD_AFTER:
            reason = "nobody has looked into it for ten minutes; is the tailer running?"
            found.append(Intake(row.path, row.scanned_at + UNREAD_AFTER, reason))
    return found
