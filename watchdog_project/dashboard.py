"""The admin's first page: every watched market, worst first, and the health of what watches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count
from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from identity.models import IngestError, LogFolder
from locks.models import LockEvent, LockEventType, LockKind
from watchdog_project.badge import LOOKS, Look, badge_of
from watchdog_project.models import TaskHeartbeat

WORST_FIRST = ("VIOLATION", "STALE", "UNKNOWN", "OK", "IDLE")
REFUSALS_SHOWN_FOR = timedelta(hours=24)
# A periodic task that is this many of its intervals late is called overdue.
OVERDUE_AFTER = 2.5

FIRST_STEPS = (
    (
        "Read the logs your robots already write",
        "python3 manage.py ingest /path/to/robot_logs/robot_*.jsonl",
        "Once, from files. To follow a folder from now on, add it under Log folders, or start "
        "with: python3 manage.py up --robot-logs /path/to/robot_logs",
    ),
    (
        "Let a robot start only where nobody else executes its market",
        "python -m canonical_guard run MES --server {server} --api-key-file var/robot.key -- "
        "./your-robot",
        "A second one for the same market, on any host, is refused and nothing of it is started.",
    ),
    (
        "Ask how it stands, from anywhere",
        "curl {server}/api/watchdog/status",
        "The same answer that the badge above shows.",
    ),
)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who executes a market, and for how many seconds the lease still lasts (0: it is over)."""

    state: str
    run_id: str
    host: str
    execution_instrument: str
    fencing_token: int
    acquired_at: datetime | None
    expires_in: float | None


@dataclass(frozen=True, slots=True)
class MarketRow:
    """One watched market as the dashboard shows it."""

    market: str
    scope: str
    status: str
    look: Look
    violations: Sequence[Mapping[str, Any]]
    breaches: int
    checked_at: datetime | None
    evidence_at: datetime | None
    changed_at: datetime | None
    stream_ids: Sequence[str]
    execution_instrument: str
    holder: Holder | None
    session_open: bool | None
    session_changes_at: datetime | None
    refused: int
    kill_switch: bool
    label: str

    @property
    def key(self) -> str:
        return f"{self.market}@{self.scope}"

    @property
    def name(self) -> str:
        return self.market or "(no market)"


def dashboard_context(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Unfold's callback: what admin/index.html needs, from one snapshot and a few counts."""
    now = timezone.now()
    badge = badge_of(request)
    rows = market_rows(badge.snapshot, refusals_since(now - REFUSALS_SHOWN_FOR))
    folders = list(LogFolder.objects.filter(active=True).order_by("path"))
    server = request.build_absolute_uri("/").rstrip("/")
    context.update(
        {
            "title": "Dashboard",
            "badge": badge,
            "rows": rows,
            "read_at": now,
            "violation_count": sum(len(row.violations) for row in rows),
            "holder_count": sum(row.holder is not None for row in rows),
            "refused_count": sum(row.refused for row in rows),
            "sweep": badge.snapshot.get("sweep") or {},
            "ingest": badge.snapshot.get("ingest") or {},
            "last_event_at": as_time((badge.snapshot.get("ingest") or {}).get("last_event_at")),
            "tasks": task_rows(now),
            "failing_folders": [folder for folder in folders if folder.error],
            "folder_count": len(folders),
            "ingest_errors": IngestError.objects.filter(at__gte=now - REFUSALS_SHOWN_FOR).count(),
            "first_steps": [
                (title, command.format(server=server), note) for title, command, note in FIRST_STEPS
            ],
        }
    )
    return context


def refusals_since(since: datetime) -> dict[tuple[str, str], int]:
    """(market, scope) -> how often a second executor was refused since then."""
    counted = (
        LockEvent.objects.filter(
            kind=LockKind.CANONICAL_MARKET, type=LockEventType.ALREADY_ACTIVE, at__gte=since
        )
        .values_list("name", "scope")
        .annotate(times=Count("id"))
    )
    return {(name, scope): times for name, scope, times in counted}


def market_rows(
    snapshot: Mapping[str, Any], refusals: Mapping[tuple[str, str], int]
) -> list[MarketRow]:
    """A row per watched market of the snapshot, worst first, then most breaches, then by name."""
    rows = [_market_row(row, refusals) for row in snapshot.get("markets") or ()]
    order = {status: place for place, status in enumerate(WORST_FIRST)}
    return sorted(
        rows,
        key=lambda row: (order.get(row.status, 2), -row.breaches, row.market == "", row.key),
    )


def _market_row(row: Mapping[str, Any], refusals: Mapping[tuple[str, str], int]) -> MarketRow:
    identity = row.get("identity") or {}
    session = row.get("session") or {}
    market, scope = str(row.get("market") or ""), str(row.get("scope") or "")
    status = str(identity.get("status") or "UNKNOWN")
    violations = list(identity.get("violations") or ())
    return MarketRow(
        market=market,
        scope=scope,
        status=status,
        look=LOOKS.get(status, LOOKS["UNKNOWN"]),
        violations=violations,
        breaches=sum(int(violation.get("count") or 0) for violation in violations),
        checked_at=as_time(identity.get("checked_at")),
        evidence_at=as_time(identity.get("evidence_at")),
        changed_at=as_time(identity.get("changed_at")),
        stream_ids=list(identity.get("stream_ids") or ()),
        execution_instrument=str(identity.get("execution_instrument") or ""),
        holder=_holder(row.get("lock")),
        session_open=session.get("open"),
        session_changes_at=as_time(session.get("next_change_at")),
        refused=refusals.get((market, scope), 0),
        kill_switch=row.get("kill_switch_active") is not False,
        label=str(identity.get("label") or ""),
    )


def _holder(lock: Mapping[str, Any] | None) -> Holder | None:
    if not lock or lock.get("state") != "HELD":
        return None
    remaining = lock.get("expires_in")
    return Holder(
        state=str(lock["state"]),
        run_id=str(lock.get("run_id") or ""),
        host=str(lock.get("host") or ""),
        execution_instrument=str(lock.get("execution_instrument") or ""),
        fencing_token=int(lock.get("fencing_token") or 0),
        acquired_at=as_time(lock.get("acquired_at")),
        expires_in=None if remaining is None else max(0.0, float(remaining)),
    )


def task_rows(now: datetime) -> list[dict[str, Any]]:
    """The periodic tasks with how long ago each last finished, in seconds."""
    rows = []
    for heartbeat in TaskHeartbeat.objects.order_by("task"):
        age = (now - heartbeat.finished_at).total_seconds() if heartbeat.finished_at else None
        rows.append(
            {
                "name": heartbeat.task.rpartition(".")[2].replace("_", " "),
                "heartbeat": heartbeat,
                "age": age,
                "overdue": age is None or age > heartbeat.interval * OVERDUE_AFTER,
            }
        )
    return rows


def as_time(value: Any) -> datetime | None:
    """A time of the snapshot, whether it comes as text or as a time already."""
    if isinstance(value, str):
        return parse_datetime(value)
    return value if isinstance(value, datetime) else None
