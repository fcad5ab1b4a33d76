"""How each watched market stands, computed when read, so that it is right when workers are dead."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from django.db.models import OuterRef, Subquery
from django.utils import timezone

from identity.liveness import CLOCK_TOLERANCE, STALE_AFTER, stopped_cleanly
from identity.models import EventOrigin, InvariantResult, RobotRun, Violation, WatchedMarket


class IdentityStatus(StrEnum):
    """Worst first."""

    VIOLATION = "VIOLATION"
    STALE = "STALE"
    UNKNOWN = "UNKNOWN"
    OK = "OK"
    IDLE = "IDLE"


WORST_FIRST = tuple(IdentityStatus)


@dataclass(frozen=True, slots=True)
class MarketIdentity:
    """One watched market as it stands at the time it was asked for.

    `passed` is True for OK, False for VIOLATION, None for everything else. `violations` are the
    open rows, accepted ones among them (without their samples); `red_violations` those that count.
    `historical` says that all evidence comes from old logs, `label` which.
    """

    market: str
    scope: str
    status: IdentityStatus
    passed: bool | None
    checked_at: datetime | None
    evidence_at: datetime
    changed_at: datetime | None
    execution_instrument: str
    stream_ids: list[str]
    historical: bool
    evidence_from: str
    run_id: str
    stopped_at: datetime | None
    reported: bool | None
    violations: list[Violation] = field(default_factory=list)
    red_violations: list[Violation] = field(default_factory=list)

    @property
    def label(self) -> str:
        """Where the evidence comes from, for a market known from old logs only; else empty."""
        if not self.historical:
            return ""
        return f"from logs of {timezone.localtime(self.evidence_at):%Y-%m-%d}"


class _Watched(NamedTuple):
    """A watched market's row, and how the newest run of it stands."""

    pk: int
    market: str
    scope: str
    run_id: str
    evidence_at: datetime
    evidence_from: str
    historical: bool
    run_stopped_at: datetime | None
    run_last_seen_at: datetime | None


class _Result(NamedTuple):
    """The newest result of one origin."""

    watched_id: int
    origin: str
    passed: bool | None
    checked_at: datetime
    changed_at: datetime
    run_id: str
    execution_instrument: str
    stream_ids: list[str]


def market_identities(now: datetime, market: str | None = None) -> list[MarketIdentity]:
    """Every watched market (or every scope of one), worst first; three queries at most."""
    last_run = RobotRun.objects.filter(run_id=OuterRef("run_id")).order_by("-last_seen_at")
    watched = WatchedMarket.objects.filter(forgotten_at__isnull=True).annotate(
        run_stopped_at=Subquery(last_run.values("stopped_at")[:1]),
        run_last_seen_at=Subquery(last_run.values("last_seen_at")[:1]),
    )
    violations = Violation.objects.filter(ended_at__isnull=True).defer("sample", "runs")
    known = InvariantResult.objects.filter(watched__forgotten_at__isnull=True)
    if market is not None:
        watched = watched.filter(market=market)
        violations = violations.filter(market=market)
        known = known.filter(watched__market=market)
    # Plain rows: with a thousand markets, making models of them is what costs.
    rows = [_Watched._make(row) for row in watched.values_list(*_Watched._fields)]
    results: dict[int, dict[str, _Result]] = defaultdict(dict)
    for result in map(_Result._make, known.values_list(*_Result._fields)):
        results[result.watched_id][result.origin] = result
    open_by_market: dict[tuple[str, str], list[Violation]] = defaultdict(list)
    for violation in violations.order_by("opened_at", "pk"):
        open_by_market[violation.market, violation.scope].append(violation)
    identities = [
        _identity(row, results[row.pk], open_by_market[row.market, row.scope], now) for row in rows
    ]
    return sorted(identities, key=lambda one: (WORST_FIRST.index(one.status), one.market))


def overall(identities: Iterable[MarketIdentity]) -> IdentityStatus:
    """The worst of the watched markets; none watched is UNKNOWN."""
    return min(
        (identity.status for identity in identities),
        key=WORST_FIRST.index,
        default=IdentityStatus.UNKNOWN,
    )


def counts_as_red(violation: Violation, now: datetime) -> bool:
    """Whether an open violation makes its market red: it does unless it is accepted until later."""
    return violation.accepted_until is None or violation.accepted_until <= now


def _identity(
    row: _Watched,
    results: dict[str, _Result],
    violations: list[Violation],
    now: datetime,
) -> MarketIdentity:
    own, robots = results.get(EventOrigin.SWEEP), results.get(EventOrigin.ROBOT)
    red = [violation for violation in violations if counts_as_red(violation, now)]
    idle = stopped_cleanly(row.run_stopped_at, row.run_last_seen_at)
    # A report speaks for the run that sent it, until another run has taken the market over.
    unreadable_report = (
        robots is not None and robots.passed is None and robots.run_id in ("", row.run_id)
    )
    passed = None if unreadable_report else own.passed if own else None
    status = _status(red, passed, own.checked_at if own else None, row.evidence_at, idle, now)
    return MarketIdentity(
        market=row.market,
        scope=row.scope,
        status=status,
        passed={IdentityStatus.OK: True, IdentityStatus.VIOLATION: False}.get(status),
        checked_at=own.checked_at if own else None,
        evidence_at=row.evidence_at,
        changed_at=own.changed_at if own else None,
        execution_instrument=own.execution_instrument if own else "",
        stream_ids=own.stream_ids if own else [],
        historical=row.historical,
        evidence_from=row.evidence_from,
        run_id=row.run_id,
        stopped_at=row.run_stopped_at if idle else None,
        reported=robots.passed if robots else None,
        violations=violations,
        red_violations=red,
    )


def _status(
    red: Sequence[Violation],
    passed: bool | None,
    checked_at: datetime | None,
    evidence_at: datetime,
    idle: bool,
    now: datetime,
) -> IdentityStatus:
    if red:
        return IdentityStatus.VIOLATION
    if idle:
        return IdentityStatus.IDLE
    if is_too_old(evidence_at, now) or (checked_at is not None and is_too_old(checked_at, now)):
        return IdentityStatus.STALE
    # A failed result without an open violation was overtaken; what holds now is not known yet.
    return IdentityStatus.OK if passed else IdentityStatus.UNKNOWN


def is_too_old(at: datetime, now: datetime) -> bool:
    return at < now - STALE_AFTER or at > now + CLOCK_TOLERANCE
