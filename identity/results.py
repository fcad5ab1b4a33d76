"""A market's result: evaluated, kept, and said as IDENTITY_INVARIANTS_STATUS.

Runs inside its caller's transaction. A result rests on evidence; making one makes none.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from identity.admission import Admitted, Markets, just_history
from identity.eventstore import EventRow, insert_events
from identity.invariants import ROBOT_REPORTED_VIOLATION, Finding
from identity.liveness import LIVE_FOR
from identity.models import EventOrigin, InvariantResult, Stream, Violation, WatchedMarket
from identity.status import counts_as_red
from identity.violations import by_market
from identity.vocabulary import INVARIANTS_STATUS
from identity.watching import Pair, lock_markets

# What two good clocks may differ by.
FUTURE_TOLERANCE = timedelta(seconds=5)
MAX_LISTED = 100


class CheckedStreams(NamedTuple):
    """As much of a market's streams as its result tells: the newest one's word, the first names."""

    execution_instrument: str
    stream_ids: list[str]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the evidence of one market comes to; `passed` is None where there is none to check."""

    passed: bool | None
    violations: list[str]
    execution_instrument: str
    stream_ids: list[str]


def evaluate(
    market: str, markets: Markets, red: Sequence[Violation], streams: CheckedStreams
) -> Verdict:
    """The verdict on a market: its open violations, else its streams. Pure."""
    listed = sorted(f"{row.code} {row.subject}: {row.message}" for row in red[:MAX_LISTED])
    if len(red) > MAX_LISTED:
        listed.append(f"… and {len(red) - MAX_LISTED} more.")
    passed: bool | None = None
    if red:
        passed = False
    elif streams.stream_ids and market in markets.lexicon.canonicals:
        passed = True
    return Verdict(passed, listed, streams.execution_instrument, streams.stream_ids)


def publish(pairs: set[Pair], markets: Markets, now: datetime, *, only_changes: bool) -> list[Pair]:
    """Evaluate these watched markets, keep the results and emit them as events.

    With `only_changes` a result that says the same as before is left as it is, and is no event
    where no more than its streams changed. A result that was checked later than `now` stays.
    Returns the markets whose result was written.
    """
    rows = {pair: row for pair, row in lock_markets(pairs).items() if row.forgotten_at is None}
    if not rows:
        return []
    red = _red_violations(set(rows), now)
    before = {
        result.watched_id: result
        for result in InvariantResult.objects.filter(
            watched__in=[row.pk for row in rows.values()], origin=EventOrigin.SWEEP
        )
    }
    results, events = [], []
    for pair, row in sorted(rows.items()):
        verdict = evaluate(row.market, markets, red[pair], streams_checked(row))
        known = before.get(row.pk)
        if known is not None and (
            known.checked_at > now or (only_changes and says(known, verdict))
        ):
            continue
        changed = is_news(verdict, known)
        results.append(result_of(row, verdict, known, now, changed=changed))
        if changed or not only_changes:
            events.append(event_of(row, verdict, now, changed=changed))
    write_results(results)
    insert_events(events)
    return [(result.watched.market, result.watched.scope) for result in results]


def apply_reports(admitted: Sequence[Admitted], now: datetime) -> None:
    """Judge robots' own reports by their time: an older or future-dated one changes nothing.

    What a report in time says becomes a finding of its event; one out of time loses its findings.
    """
    reports = [one for one in admitted if one.report is not None]
    known: dict[Pair, datetime] = {}
    if reports:
        rows = InvariantResult.objects.filter(
            origin=EventOrigin.ROBOT,
            watched__market__in={one.market for one in reports},
        ).select_related("watched")
        known = {(row.watched.market, row.watched.scope): row.checked_at for row in rows}
    for one in sorted(reports, key=lambda one: one.report.checked_at if one.report else now):
        assert one.report is not None  # noqa: S101 for the type checker
        pair = (one.market, one.scope)
        at = one.report.checked_at
        if at > now + FUTURE_TOLERANCE or (pair in known and at <= known[pair]):
            one.findings.clear()
            one.is_evidence = False
            one.at, one.historical = min(one.at, just_history(now)), True
            one.report = None
            continue
        known[pair] = at
        one.is_evidence = True
        if one.report.passed is not None:
            said = "; ".join(one.report.violations[:5]).rstrip(".") or "it did not pass"
            message = "" if one.report.passed else f"The robot reports a violation: {said}."
            one.findings.append(
                Finding(
                    ROBOT_REPORTED_VIOLATION,
                    one.market,
                    INVARIANTS_STATUS,
                    one.report.passed,
                    message,
                )
            )


def keep_reports(admitted: Sequence[Admitted]) -> None:
    """Keep the newest report of each market apart from our own results."""
    newest: dict[Pair, Admitted] = {}
    for one in admitted:
        if one.report is not None:
            pair = (one.market, one.scope)
            other = newest.get(pair)
            if other is None or not other.report or one.report.checked_at > other.report.checked_at:
                newest[pair] = one
    if not newest:
        return
    rows = lock_markets(set(newest))
    before = {
        result.watched_id: result
        for result in InvariantResult.objects.filter(
            watched__in=[row.pk for row in rows.values()], origin=EventOrigin.ROBOT
        )
    }
    results = []
    for pair, one in newest.items():
        report = one.report
        if report is None or pair not in rows:
            continue
        known = before.get(rows[pair].pk)
        changed = known is None or known.passed != report.passed
        results.append(
            InvariantResult(
                watched=rows[pair],
                origin=EventOrigin.ROBOT,
                passed=report.passed,
                checked_at=report.checked_at,
                evidence_at=one.at,
                changed_at=report.checked_at if changed or not known else known.changed_at,
                run_id=one.run_id,
                execution_instrument=one.event.execution_instrument,
                stream_ids=list(report.stream_ids),
                violations=list(report.violations),
            )
        )
    write_results(results)


def _red_violations(pairs: set[Pair], now: datetime) -> Mapping[Pair, list[Violation]]:
    rows = (
        Violation.objects.filter(
            ended_at__isnull=True,
            market__in={market for market, _ in pairs},
            scope__in={scope for _, scope in pairs},
        )
        .defer("sample", "runs")
        .order_by("opened_at", "pk")
    )
    return by_market(row for row in rows if counts_as_red(row, now))


def streams_checked(row: WatchedMarket) -> CheckedStreams:
    """The streams of a market's present runs: those seen when its newest evidence was.

    The database picks them: a market can have very many, and nobody else can write meanwhile.
    """
    present = Stream.objects.filter(
        market=row.market, scope=row.scope, run__last_seen_at__gte=row.evidence_at - LIVE_FOR
    )
    execution = (
        present.exclude(execution_instrument="")
        .order_by("-last_seen_at", "pk")
        .values_list("execution_instrument", flat=True)
    )
    names = present.order_by("stream_id").values_list("stream_id", flat=True).distinct()
    return CheckedStreams(execution.first() or "", sorted(names[:MAX_LISTED]))


def result_of(
    row: WatchedMarket,
    verdict: Verdict,
    known: InvariantResult | None,
    now: datetime,
    *,
    changed: bool,
) -> InvariantResult:
    return InvariantResult(
        watched=row,
        origin=EventOrigin.SWEEP,
        passed=verdict.passed,
        checked_at=now,
        evidence_at=row.evidence_at,
        changed_at=now if changed or known is None else known.changed_at,
        run_id=row.run_id,
        execution_instrument=verdict.execution_instrument,
        stream_ids=verdict.stream_ids,
        violations=verdict.violations,
    )


def is_news(verdict: Verdict, known: InvariantResult | None) -> bool:
    """Whether a verdict passes, or fails, otherwise than the result before it."""
    return known is None or (known.passed, known.violations) != (
        verdict.passed,
        verdict.violations,
    )


def says(known: InvariantResult, verdict: Verdict) -> bool:
    """Whether a result says all that a verdict does."""
    return not is_news(verdict, known) and (known.execution_instrument, known.stream_ids) == (
        verdict.execution_instrument,
        verdict.stream_ids,
    )


def event_of(row: WatchedMarket, verdict: Verdict, now: datetime, *, changed: bool) -> EventRow:
    """A result as IDENTITY_INVARIANTS_STATUS, checked at `now`."""
    return EventRow(
        identity_key=f"result:{uuid.uuid4().hex}",
        origin=EventOrigin.SWEEP.value,
        event_type=INVARIANTS_STATUS,
        market=row.market,
        scope=row.scope,
        run_id=row.run_id,
        occurred_at=now,
        received_at=now,
        changed=changed,
        data=json.dumps(
            {
                "pass": verdict.passed,
                "violations": verdict.violations,
                "canonical_instrument": row.market,
                "execution_instrument": verdict.execution_instrument,
                "stream_ids": verdict.stream_ids,
                "checked_at_utc": now.isoformat(),
                "evidence_at_utc": row.evidence_at.isoformat(),
                "scope": row.scope,
            }
        ),
    )


def write_results(results: Sequence[InvariantResult]) -> None:
    InvariantResult.objects.bulk_create(
        results,
        update_conflicts=True,
        unique_fields=["watched", "origin"],
        update_fields=[
            "passed",
            "checked_at",
            "evidence_at",
            "changed_at",
            "run_id",
            "execution_instrument",
            "stream_ids",
            "violations",
        ],
    )
