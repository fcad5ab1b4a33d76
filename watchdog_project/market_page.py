"""A market's own page: why it stands as it does, who executes it, and what happened to it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode

from identity.explain import explain_market
from identity.models import (
    CanonicalInstrument,
    IdentityEvent,
    RobotRun,
    Stream,
    Violation,
    WatchedMarket,
)
from locks.models import (
    KillSwitch,
    LockEvent,
    LockEventType,
    LockKind,
    LockRecord,
    LockState,
    Tenure,
)
from watchdog_project.authentication import OPERATE
from watchdog_project.badge import badge_of
from watchdog_project.dashboard import MarketRow, market_rows
from watchdog_project.drawing import (
    HEIGHTS,
    MARKS,
    Window,
    draw_axis,
    draw_locks,
    draw_strip,
    lock_legend,
)
from watchdog_project.handover import tenure_facts
from watchdog_project.status import snapshot
from watchdog_project.timeline import Segment, identity_strips, lock_history

RANGES = {
    "24h": ("24 hours", timedelta(days=1)),
    "7d": ("7 days", timedelta(days=7)),
    "30d": ("30 days", timedelta(days=30)),
}
NO_MARKET = "-"
MOST_EVENTS = 15
MOST_ENDED = 10
MOST_STREAMS = 50
MOST_LINES = 60


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table beside a drawing."""

    at: datetime
    what: str
    who: str
    detail: str
    until: datetime | None = None


def market_url(market: str, scope: str = "", **more: str) -> str:
    """The address of a market's page."""
    query = {**({"scope": scope} if scope else {}), **more}
    address = reverse("market", args=[market or NO_MARKET])
    return f"{address}?{urlencode(query)}" if query else address


def market_page(request: HttpRequest, market: str) -> HttpResponse:
    """The page of one market in one scope; without a scope, of the worst of its scopes."""
    now = timezone.now()
    market = "" if market == NO_MARKET else market
    told_of = explain_market(market, request.GET.get("scope"), now, tenure_facts)
    explanation = told_of[0]
    chosen = request.GET.get("range", "24h")
    chosen = chosen if chosen in RANGES else "24h"
    window = Window(now - RANGES[chosen][1], now)
    seen = snapshot(now, market, with_ingest=False)
    row = next((one for one in market_rows(seen, {}) if one.scope == explanation.scope), None)
    alerts = [one for one in seen["alerts"] if one["scope"] == explanation.scope]
    context = {
        **admin.site.each_context(request),
        "title": explanation.name,
        "badge": badge_of(request),
        "explanation": explanation,
        "others": [(one.name, market_url(market, one.scope)) for one in told_of[1:]],
        "row": row,
        "alerts": alerts,
        "alert_count": len(alerts),
        "refresh_url": request.get_full_path(),
        "ranges": [
            (name, market_url(market, explanation.scope, range=key), key == chosen)
            for key, (name, _) in RANGES.items()
        ],
        "read_at": now,
        "instrument": CanonicalInstrument.objects.filter(symbol=market).first(),
        **_executor(market, explanation.scope, row),
        **_times(market, explanation.scope, window),
        **_evidence(market, explanation.scope),
        **_acts(request, market, explanation.scope),
    }
    return TemplateResponse(request, "watchdog/market.html", context)


def _executor(market: str, scope: str, row: MarketRow | None) -> dict[str, Any]:
    record = (
        LockRecord.objects.filter(kind=LockKind.CANONICAL_MARKET, name=market, scope=scope)
        .defer("nonce_hash")
        .first()
    )
    watched = WatchedMarket.objects.filter(market=market, scope=scope).first()
    held = record is not None and record.state == LockState.HELD
    run_id = record.run_id if record and held else watched.run_id if watched else ""
    run = RobotRun.objects.filter(run_id=run_id).order_by("-last_seen_at").first()
    streams = Stream.objects.filter(run=run, market=market).order_by("stream_id") if run else ()
    return {
        "record": record,
        "held": held,
        "watched": watched,
        "run": run,
        "streams": streams[:MOST_STREAMS],
        "holder": row.holder if row else None,
    }


def _times(market: str, scope: str, window: Window) -> dict[str, Any]:
    here = (market, scope)
    segments = identity_strips([here], window.since, window.until).get(here, [])
    history = lock_history(market, scope, window.since)
    lines = sorted(
        [*map(_tenure_line, history.tenures), *map(_event_line, history.events)],
        key=lambda line: line.at,
        reverse=True,
    )
    return {
        "strip": draw_strip(segments, window),
        "locks": draw_locks(history.tenures, history.events, window),
        "axis": draw_axis(window),
        "legend": tuple(status.lower() for status in HEIGHTS),
        "lock_legend": lock_legend(),
        "segments": [_segment_line(one) for one in reversed(segments[-MOST_LINES:])],
        "lines": lines[:MOST_LINES],
        "lines_cut": history.cut or len(lines) > MOST_LINES,
    }


def _segment_line(segment: Segment) -> dict[str, Any]:
    return {
        "status": segment.status,
        "look": segment.status.lower(),
        "start": segment.start,
        "end": segment.end,
        "seconds": segment.seconds,
    }


def _tenure_line(tenure: Tenure) -> Line:
    renewals = tenure.renewals if tenure.ended_at else tenure.lock.renewals
    return Line(
        at=tenure.acquired_at,
        until=tenure.ended_at,
        what=f"held, token {tenure.fencing_token}",
        who=f"{tenure.execution_instrument or '?'} on {tenure.host or '(no host)'}",
        detail=f"{tenure.end or 'running'}, {renewals} renewals"
        + (", took over" if tenure.takeover else ""),
    )


def _event_line(event: LockEvent) -> Line:
    words = {
        "KILL_SWITCH_ACTIVE": "orders stopped",
        "KILL_SWITCH_RELEASED": "orders allowed",
        "CANONICAL_MARKET_LOCK_ACQUIRED": "acquired",
        "CANONICAL_MARKET_LOCK_RELEASED": "released",
        **{str(type_.value): word for type_, (_, word) in MARKS.items()},
    }
    data = event.data if isinstance(event.data, dict) else {}
    refused = event.type == LockEventType.ALREADY_ACTIVE
    said = data.get("reason") or ("" if refused else event.code)
    by = data.get("by") or data.get("revoked_by") or ""
    product = data.get("execution_instrument") or ""
    who = " on ".join(part for part in (product, event.host) if part)
    return Line(
        at=event.at,
        until=event.last_at if event.count > 1 else None,
        what=words.get(event.type, event.type) + (f" {event.count}×" if event.count > 1 else ""),
        who=str(by or who or "-"),
        detail=str(said or (f"run {event.run_id}" if event.run_id else "")),
    )


def _evidence(market: str, scope: str) -> dict[str, Any]:
    events = IdentityEvent.objects.filter(market=market, scope=scope).order_by(
        "-occurred_at", "-pk"
    )
    ended = Violation.objects.filter(market=market, scope=scope, ended_at__isnull=False)
    return {
        "events": events.defer("data")[:MOST_EVENTS],
        "ended": ended.defer("sample", "runs").order_by("-ended_at")[:MOST_ENDED],
    }


def _acts(request: HttpRequest, market: str, scope: str) -> dict[str, Any]:
    if not request.user.has_perm(OPERATE):
        return {"may_operate": False}
    switch = KillSwitch.objects.filter(market=market).first() if market else None
    stop = reverse("admin:locks_killswitch_engage")
    return {
        "may_operate": True,
        "switch": switch,
        "stop_url": f"{stop}?{urlencode({'market': market})}" if market else stop,
    }
