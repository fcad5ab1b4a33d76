"""The admin's first page: every watched market, worst first, and the health of what watches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.safestring import SafeString

from watchdog_project.alerts.kinds import Severity
from watchdog_project.badge import LOOKS, Look, badge_of
from watchdog_project.drawing import Window, draw_strip
from watchdog_project.headline import headline_of
from watchdog_project.own_health import own_health
from watchdog_project.timeline import identity_strips

WORST_FIRST = ("VIOLATION", "STALE", "UNKNOWN", "OK", "IDLE")
# Beyond these, the worst ones, a market is a name and a colour.
SHOWN_IN_FULL = 60
SHOWN_ALERTS = 6

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

    @property
    def full_name(self) -> str:
        return f"{self.name}@{self.scope}" if self.scope else self.name

    @property
    def first_violation(self) -> Mapping[str, Any] | None:
        """The one that has been red for longest, else the first of those accepted."""
        red = [one for one in self.violations if not one.get("accepted_until")]
        return min(
            red or self.violations, key=lambda one: str(one.get("opened_at") or ""), default=None
        )

    @property
    def since(self) -> datetime | None:
        """Since when it stands as it does, as far as that is known."""
        first = self.first_violation
        if self.status == "VIOLATION" and first is not None:
            return as_time(first.get("opened_at"))
        if self.status == "STALE":
            return self.evidence_at
        return self.changed_at if self.status in ("OK", "UNKNOWN") else None


def dashboard_context(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Unfold's callback: what admin/index.html needs, from one snapshot and two more queries."""
    now = timezone.now()
    badge = badge_of(request)
    health = own_health(now)
    rows = market_rows(badge.snapshot, health.refusals)
    shown = rows[:SHOWN_IN_FULL]
    alerts = badge.snapshot.get("alerts") or []
    server = request.build_absolute_uri("/").rstrip("/")
    context.update(
        {
            "title": "Dashboard",
            "badge": badge,
            "headline": headline_of(badge, rows) if rows else None,
            "rows": _with_strips(shown, now),
            "more_rows": rows[SHOWN_IN_FULL:],
            "market_count": len(rows),
            "read_at": now,
            "alerts": alerts[:SHOWN_ALERTS],
            "alert_count": len(alerts),
            "alert_look": _alert_look(alerts),
            "violation_count": sum(len(row.violations) for row in rows),
            "red_count": sum(row.status == "VIOLATION" for row in rows),
            "holder_count": sum(row.holder is not None for row in rows),
            "refused_count": sum(health.refusals.values()),
            "stopped": [row.full_name for row in rows if row.kill_switch],
            "health": health,
            "first_steps": [
                (title, command.format(server=server), note) for title, command, note in FIRST_STEPS
            ],
        }
    )
    return context


def _alert_look(alerts: Sequence[Mapping[str, Any]]) -> str:
    """How loud the open alerts are, in the colours of the badge."""
    severities = {alert["severity"] for alert in alerts}
    if severities & {Severity.EMERGENCY, Severity.CRITICAL}:
        return "violation"
    return "stale" if Severity.WARNING in severities else ""


def _with_strips(rows: Sequence[MarketRow], now: datetime) -> list[tuple[MarketRow, SafeString]]:
    """Each row with its last 24 hours; the picture moves on once a minute, not at every look."""
    until = now.replace(second=0, microsecond=0) + timedelta(minutes=1)
    window = Window(until - timedelta(days=1), until)
    strips = identity_strips([(row.market, row.scope) for row in rows], window.since, now)
    return [(row, draw_strip(strips.get((row.market, row.scope), ()), window)) for row in rows]


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


def as_time(value: Any) -> datetime | None:
    """A time of the snapshot, whether it comes as text or as a time already."""
    if isinstance(value, str):
        return parse_datetime(value)
    return value if isinstance(value, datetime) else None
