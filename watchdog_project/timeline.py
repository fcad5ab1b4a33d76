"""What happened to a market over a while: how it stood, who held it, what was refused.

A few queries for all markets, however many there are; the painting itself is pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from django.db.models import Q, Value

from identity.models import Violation
from locks.models import LockEvent, LockEventType, LockKind, Tenure
from watchdog_project.history import UNBROKEN
from watchdog_project.models import StatusSpan

Market = tuple[str, str]

MOST_SPANS = 50_000
SPAN, RED = "span", "red"
MOST_TENURES = 300
MOST_EVENTS = 600


@dataclass(frozen=True, slots=True)
class Segment:
    """A market stood so from `start` to `end`; `status` is a status' name, or CLOSED."""

    status: str
    start: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        return (self.end - self.start).total_seconds()


@dataclass(frozen=True, slots=True)
class LockHistory:
    """Tenures and lock events of one market, newest first; `cut` says that there were more."""

    tenures: Sequence[Tenure]
    events: Sequence[LockEvent]
    cut: bool


def identity_strips(
    markets: Collection[Market], since: datetime, now: datetime
) -> Mapping[Market, list[Segment]]:
    """How each of `markets` stood between `since` and `now`, oldest first; one query for all.

    A time that no sweep looked at, after the first one, was STALE. Violations count from their own
    times, which a sweep sees up to a minute late; those of old logs and those accepted count as the
    sweeps saw them.
    """
    wanted, names = set(markets), {market for market, _ in markets}
    spans = StatusSpan.objects.filter(market__in=names, seen_at__gte=since)
    violations = Violation.objects.filter(
        Q(ended_at__isnull=True) | Q(ended_at__gte=since),
        market__in=names,
        historical=False,
        accepted_by="",
    )
    found = spans.annotate(kind=Value(SPAN)).values_list(
        "kind", "market", "scope", "status", "began_at", "seen_at"
    )
    red = violations.annotate(kind=Value(RED), status=Value("VIOLATION")).values_list(
        "kind", "market", "scope", "status", "opened_at", "ended_at"
    )
    painted: dict[str, dict[Market, list[Segment]]] = {SPAN: {}, RED: {}}
    for kind, name, scope, status, start, end in found.union(red, all=True)[:MOST_SPANS]:
        segment = Segment(status, start, end or now)
        painted[kind].setdefault((name, scope), []).append(segment)
    return {
        one: clipped(
            over(unbroken(painted[SPAN].get(one, ()), now), painted[RED].get(one, ())), since, now
        )
        for one in wanted & {*painted[SPAN], *painted[RED]}
    }


def unbroken(spans: Iterable[Segment], now: datetime) -> list[Segment]:
    """Each span lasts until the next one begins; what nobody looked at in between was STALE. Pure.

    Spans come in any order, by the times that sweeps saw them.
    """
    ordered = sorted(spans, key=lambda span: (span.start, span.end))
    painted: list[Segment] = []
    for place, span in enumerate(ordered):
        following = ordered[place + 1].start if place + 1 < len(ordered) else now
        if following - span.end <= UNBROKEN:
            painted.append(replace(span, end=max(following, span.start)))
        else:
            painted.append(span)
            painted.append(Segment("STALE", span.end, following))
    return painted


def over(ground: Iterable[Segment], paint: Iterable[Segment]) -> list[Segment]:
    """`ground` with `paint` over it; both oldest first, like beside like joined. Pure."""
    cover = _joined(sorted(paint, key=lambda segment: segment.start))
    left: list[Segment] = []
    for segment in ground:
        start = segment.start
        for coat in cover:
            if coat.end <= start or coat.start >= segment.end:
                continue
            if coat.start > start:
                left.append(replace(segment, start=start, end=coat.start))
            start = max(start, coat.end)
        if start < segment.end:
            left.append(replace(segment, start=start))
    return _joined(sorted([*left, *cover], key=lambda segment: segment.start))


def clipped(segments: Iterable[Segment], since: datetime, until: datetime) -> list[Segment]:
    """What of `segments` lies between the two times. Pure."""
    within = (
        replace(segment, start=max(segment.start, since), end=min(segment.end, until))
        for segment in segments
    )
    return [segment for segment in within if segment.start < segment.end]


def _joined(segments: Iterable[Segment]) -> list[Segment]:
    joined: list[Segment] = []
    for segment in segments:
        last = joined[-1] if joined else None
        if last and last.status == segment.status and segment.start <= last.end:
            joined[-1] = replace(last, end=max(last.end, segment.end))
        else:
            joined.append(segment)
    return joined


def lock_history(market: str, scope: str, since: datetime) -> LockHistory:
    """Who held the market since then, and what its lock told; the global kill switch's events too.

    Three queries at most, and at most MOST_TENURES and MOST_EVENTS rows.
    """
    kind = LockKind.CANONICAL_MARKET
    tenures = list(
        Tenure.objects.filter(lock__kind=kind, lock__name=market, lock__scope=scope)
        .filter(Q(ended_at__isnull=True) | Q(ended_at__gte=since))
        .defer("nonce_hash")
        .select_related("lock")
        .order_by("-acquired_at", "-pk")[: MOST_TENURES + 1]
    )
    switches = Q(type__in=(LockEventType.KILL_SWITCH_ACTIVE, LockEventType.KILL_SWITCH_RELEASED))
    events = list(
        LockEvent.objects.filter(kind=kind, last_at__gte=since)
        .filter(Q(name=market, scope=scope) | (switches & Q(name__in=("", market))))
        .order_by("-at", "-pk")[: MOST_EVENTS + 1]
    )
    cut = len(tenures) > MOST_TENURES or len(events) > MOST_EVENTS
    return LockHistory(tenures[:MOST_TENURES], events[:MOST_EVENTS], cut)
