"""The life of a violation: opened, counted, mended. Runs inside its caller's transaction.

The caller has locked the watched markets concerned, so nobody else opens or ends the same ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Q

from identity.admission import Admitted, Place
from identity.bulk import update_rows
from identity.invariants import ABOUT_A_RUN, EVENT_IDENTITY_INCOMPLETE, Finding, is_complete
from identity.ledger import run_fact
from identity.liveness import RunFact, succeeds
from identity.models import IdentityEvent, RobotRun, Violation, ViolationEnd
from identity.robotlog import bounded
from identity.watching import Pair

MAX_SUBJECT = 256
MAX_RUNS = 100
MAX_SAMPLE = 4000
_COUNTED = (
    "message",
    "run_id",
    "log",
    "host",
    "historical",
    "runs",
    "count",
    "sample",
    "last_seen_at",
    "ended_at",
    "end",
    "ended_by",
    "end_reason",
)
Key = tuple[str, str, str, str]
"""Market, scope, code, subject."""


@dataclass(slots=True)
class Sight:
    """One finding, when and by which run it was made, and what it was seen in."""

    finding: Finding
    scope: str
    at: datetime
    run_id: str
    historical: bool = False
    time_is_certain: bool = True
    host: str = ""
    log: str = ""
    sample: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        subject = bounded(self.finding.subject, MAX_SUBJECT)
        return self.finding.market, self.scope, self.finding.code, subject


def sights_of(admitted: Sequence[Admitted], place: Place) -> list[Sight]:
    """What the invariants found in new events, oldest event first."""
    return [
        Sight(
            finding=finding,
            scope=one.scope,
            at=one.at,
            run_id=one.run_id,
            historical=one.historical,
            time_is_certain=one.time_is_certain,
            host=one.event.host or place.host,
            log=place.log,
            sample=one.event.record,
        )
        for one in sorted(admitted, key=lambda one: one.at)
        for finding in one.findings
    ]


class ViolationBook:
    """The violations that a batch of sights may touch, read in bulk and written in bulk."""

    def __init__(self, sights: Sequence[Sight], now: datetime) -> None:
        self.now = now
        self.open: dict[Key, Violation] = {}
        self.ended: dict[Key, Violation] = {}
        self.accepted: dict[Key, Violation] = {}
        self.changed: dict[int, Violation] = {}
        self.new: list[Violation] = []
        self.touched: set[Pair] = set()
        self._load(sights)
        self.runs = self._runs_of(sights)

    def apply(self, sights: Iterable[Sight]) -> set[Pair]:
        """Count, open and mend, and write it; returns the markets whose open ones changed."""
        for sight in sights:
            if sight.finding.right:
                self._mend(sight)
            else:
                self._count(sight)
        self._mend_by_what_came_first()
        # What ended makes room for what is opened under the same key.
        update_rows(self.changed.values(), _COUNTED)
        Violation.objects.bulk_create(self.new)
        return self.touched

    def _load(self, sights: Sequence[Sight]) -> None:
        wrong = [sight for sight in sights if not sight.finding.right]
        since = min((sight.at for sight in wrong), default=self.now)
        rows = Violation.objects.filter(
            Q(subject__in={sight.key[3] for sight in sights}) | Q(code__in=ABOUT_A_RUN),
            Q(ended_at__isnull=True) | Q(ended_at__gte=since) | Q(accepted_until__gt=self.now),
            code__in={sight.finding.code for sight in sights},
            market__in={sight.finding.market for sight in sights} | {""},
            scope__in={sight.scope for sight in sights},
        )
        for row in rows.order_by("pk"):
            key = (row.market, row.scope, row.code, row.subject)
            if row.ended_at is None:
                self.open[key] = row
                continue
            known = self.ended.get(key)
            if known is None or known.ended_at is None or known.ended_at <= row.ended_at:
                self.ended[key] = row
            if row.accepted_until is not None and row.accepted_until > self.now:
                self.accepted[key] = row

    def _runs_of(self, sights: Sequence[Sight]) -> dict[str, RunFact]:
        names = {sight.run_id for sight in sights}
        if any(sight.finding.right for sight in sights):
            names.update(run for row in self.open.values() for run in row.runs)
        rows = RobotRun.objects.filter(run_id__in=names).order_by("last_seen_at")
        return {row.run_id: run_fact(row) for row in rows}

    def _count(self, sight: Sight) -> None:
        at = sight.at
        if not sight.time_is_certain:
            # Nothing read so far can be said to come after it.
            at = self.now
        row = self.open.get(sight.key) or self._over(sight, at)
        if row is None:
            row = self._opened(sight)
        else:
            row.count += 1
            if row.pk is not None:
                self.changed[row.pk] = row
        if row.ended_at is None:
            row.runs[sight.run_id] = max(row.runs.get(sight.run_id, ""), at.isoformat())
            _forget_oldest(row.runs)
        row.historical = row.historical and sight.historical
        row.opened_at = min(row.opened_at, sight.at)
        if sight.at >= row.last_seen_at:
            row.last_seen_at = sight.at
            row.message = sight.finding.message
            row.run_id, row.log, row.host = sight.run_id, sight.log, sight.host
            row.sample = bounded_sample(sight.sample)

    def _over(self, sight: Sight, at: datetime) -> Violation | None:
        """The violation that this late line belongs to: it ended after the line was written."""
        row = self.ended.get(sight.key)
        if row is None or row.ended_at is None or at > row.ended_at:
            return None
        by_operator = row.end == ViolationEnd.OPERATOR
        return row if by_operator or row.run_id == sight.run_id else None

    def _opened(self, sight: Sight) -> Violation:
        market, scope, code, subject = sight.key
        row = Violation(
            market=market,
            scope=scope,
            code=code,
            subject=subject,
            opened_at=sight.at,
            last_seen_at=sight.at,
            historical=sight.historical,
            runs={},
        )
        before = self.accepted.get(sight.key)
        if before is not None:
            # What an operator accepted until a day stays accepted, however often it comes and goes.
            row.accepted_until = before.accepted_until
            row.accepted_by = before.accepted_by
            row.accepted_reason = before.accepted_reason
        self.open[sight.key] = row
        self.new.append(row)
        self.touched.add((market, scope))
        return row

    def _mend(self, sight: Sight) -> None:
        if not sight.time_is_certain:
            return
        market, scope, code, subject = sight.key
        if code in ABOUT_A_RUN:
            keys = [key for key in self.open if key[:3] == (market, scope, code)]
        else:
            # What no market could be told of is mended by the same event of any market.
            keys = [(place, scope, code, subject) for place in dict.fromkeys((market, ""))]
        for key in keys:
            row = self.open.get(key)
            if row is not None and self._mends(row, sight):
                self._end(row, key, sight)

    def _mend_by_what_came_first(self) -> None:
        """Lines come out of order: the event that mends a breach may have been read before it."""
        opened = [
            row
            for row in self.new
            if row.ended_at is None and row.code == EVENT_IDENTITY_INCOMPLETE
        ]
        if not opened:
            return
        earlier = IdentityEvent.objects.filter(
            run_id__in={row.run_id for row in opened},
            event_type__in={row.subject for row in opened},
            market__in={row.market for row in opened},
            occurred_at__gt=min(row.last_seen_at for row in opened),
        ).order_by("occurred_at")
        for event in earlier.iterator(chunk_size=500):
            finding = Finding(EVENT_IDENTITY_INCOMPLETE, event.market, event.event_type, True)
            sight = Sight(finding, event.scope, event.occurred_at, event.run_id)
            row = self.open.get(sight.key)
            if row in opened and is_complete(event.data):
                self._mend(sight)

    def _mends(self, row: Violation, sight: Sight) -> bool:
        """Take from the row the runs that this sight shows to be right; True if none is left."""
        before = len(row.runs)
        for name, last in list(row.runs.items()):
            if sight.at <= datetime.fromisoformat(last):
                continue
            if name == sight.run_id or self._succeeded(name, sight):
                del row.runs[name]
        if len(row.runs) != before and row.pk is not None:
            self.changed[row.pk] = row
        return not row.runs

    def _succeeded(self, older: str, sight: Sight) -> bool:
        old, new = self.runs.get(older), self.runs.get(sight.run_id)
        return old is not None and new is not None and succeeds(new, old, sight.at)

    def _end(self, row: Violation, key: Key, sight: Sight) -> None:
        row.ended_at = sight.at
        row.end = ViolationEnd.MENDED
        row.ended_by = bounded(sight.run_id, 150)
        row.end_reason = f"Right again in run {sight.run_id}."
        self.ended[key] = self.open.pop(key)
        if row.accepted_until is not None and row.accepted_until > self.now:
            self.accepted[key] = row
        self.touched.add((row.market, row.scope))


def bounded_sample(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record small enough to keep with every violation: long values are cut."""
    sample: dict[str, Any] = {}
    left = MAX_SAMPLE
    for key, value in record.items():
        if isinstance(value, Mapping):
            value = {str(name): _cut(inner) for name, inner in list(value.items())[:40]}
        else:
            value = _cut(value)
        left -= len(str(value)) + len(str(key))
        if left < 0:
            break
        sample[str(key)] = value
    return sample


def _cut(value: Any) -> Any:
    if isinstance(value, (bool, int, float)) or value is None:
        return value
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= 300 else text[:299] + "…"


def _forget_oldest(runs: dict[str, str]) -> None:
    while len(runs) > MAX_RUNS:
        del runs[min(runs, key=lambda name: runs[name])]


def by_market(rows: Iterable[Violation]) -> dict[Pair, list[Violation]]:
    found: dict[Pair, list[Violation]] = defaultdict(list)
    for row in rows:
        found[row.market, row.scope].append(row)
    return found
