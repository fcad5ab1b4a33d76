"""One batch of lines, counted exactly once: events, what they mean, and how far was read, together.

A batch is judged before its transaction begins, and is small, so that on SQLite nobody holds the
writer for long. Two processes that read the same file meet at the source's offset: the second finds
it moved, and reads on from there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import DateTimeField, F, Value
from django.db.models.functions import Coalesce, Greatest

from identity import ledger, results
from identity.admission import Admitted, Markets, Place, admit
from identity.eventstore import EventRow, insert_events
from identity.executors import judge_executors
from identity.facts import TenureFact, TenureFacts
from identity.models import IngestError, IngestSource
from identity.robotlog import NormalisedEvent, Unreadable, sample_of
from identity.sources import Position
from identity.violations import ViolationBook, sights_of

SAMPLES_KEPT = 100
LISTED = 1000
REPORT_UNREADABLE = "REPORT_UNREADABLE"


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line that could not be read: where it stood among those given, why, and its beginning."""

    index: int
    code: str
    detail: str
    sample: str = ""
    offset: int | None = None


@dataclass(slots=True)
class Outcome:
    """What became of the lines given; `warnings` are of lines that were accepted all the same.

    `rejections` counts them all, `rejected` keeps the first of them. `finished` says that a file
    had nothing more to give.
    """

    accepted: int = 0
    duplicates: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    rejections: int = 0
    warnings: list[Rejected] = field(default_factory=list)
    finished: bool = False

    def add(self, other: Outcome) -> None:
        self.accepted += other.accepted
        self.duplicates += other.duplicates
        self.rejections += other.rejections
        # Memory stays flat, however much of a file is unreadable.
        self.rejected += other.rejected[: max(0, LISTED - len(self.rejected))]
        self.warnings += other.warnings[: max(0, LISTED - len(self.warnings))]


@dataclass(frozen=True, slots=True)
class Move:
    """How far a file was read: from where, to where, and the hash of the bytes before.

    `passed_over` is how many of its lines were known to be counted, and are not among those given.
    """

    start: Position
    end: int
    last_read: str
    passed_over: int = 0


@dataclass(slots=True)
class Line:
    """One line as it was read, where it stood, and its identity if it is an event."""

    index: int
    offset: int | None
    read: NormalisedEvent | Unreadable
    key: str = ""


def commit_batch(
    source_id: int,
    move: Move | None,
    parts: Sequence[Sequence[Line]],
    place: Place,
    markets: Markets,
    now: datetime,
    tenures: TenureFacts | None,
    *,
    name: str = "",
) -> list[Outcome] | None:
    """One transaction: the source moves on, new events are stored, and what they mean is recorded.

    `parts` are the lines of each who asked for it, and what is returned is the outcome of each.
    None, and nothing done, where somebody else moved the source first.
    """
    lines = [line for part in parts for line in part]
    admitted = _once(list(_admit(lines, place, markets, now, tenures)))
    rows = [_row(one, source_id, now) for one in admitted]
    with transaction.atomic():
        # Both are writes to the source's row, so that on PostgreSQL one sender's batches queue.
        if move is None:
            IngestSource.objects.filter(pk=source_id).update(updated_at=now)
        elif not _move_on(source_id, move, name):
            return None
        new_keys = insert_events(rows)
        new = [one for one in admitted if one.key in new_keys]
        outcomes = _outcomes(parts, new)
        if move is not None:
            outcomes[0].duplicates += move.passed_over
        _record(new, place, name or place.log, markets, now, tenures)
        _count(source_id, outcomes, new, now)
    return outcomes


def _outcomes(parts: Sequence[Sequence[Line]], new: Sequence[Admitted]) -> list[Outcome]:
    """What became of each part's lines; an event is accepted with the first line that brings it."""
    not_seen = {one.key: one for one in new}
    outcomes = []
    for part in parts:
        outcome = Outcome()
        for line in part:
            if isinstance(line.read, Unreadable):
                outcome.rejected.append(_rejected(line, line.read))
            elif (one := not_seen.pop(line.key, None)) is None:
                outcome.duplicates += 1
            else:
                outcome.accepted += 1
                if one.problems:
                    outcome.warnings.append(_warning(line, one))
        outcome.rejections = len(outcome.rejected)
        outcomes.append(outcome)
    return outcomes


def _admit(
    lines: Sequence[Line],
    place: Place,
    markets: Markets,
    now: datetime,
    tenures: TenureFacts | None,
) -> Iterator[Admitted]:
    events = [(line, line.read) for line in lines if isinstance(line.read, NormalisedEvent)]
    facts: Sequence[TenureFact] | None = None
    with_token = [e.occurred_at for _, e in events if e.fencing_token is not None and e.occurred_at]
    if with_token and tenures is not None:
        facts = tenures(min(with_token))
    for line, event in events:
        judged_by = facts if event.fencing_token is not None else None
        yield admit(event, line.key, line.offset, place, markets, now, judged_by)


def _once(admitted: Sequence[Admitted]) -> list[Admitted]:
    return list({one.key: one for one in reversed(admitted)}.values())[::-1]


def _record(
    new: Sequence[Admitted],
    place: Place,
    name: str,
    markets: Markets,
    now: datetime,
    tenures: TenureFacts | None,
) -> None:
    results.apply_reports(new, now)
    recorded = ledger.record(new, place, name, markets.lexicon.digest)
    results.keep_reports(new)
    sights = sights_of(new, place)
    to_judge = set(recorded.to_judge)
    if sights:
        to_judge |= ViolationBook(sights, now).apply(sights)
    if recorded.newly_claimed or recorded.stopped:
        pairs = recorded.newly_claimed | recorded.stopped
        to_judge |= judge_executors(pairs, markets, now, tenures)
    if to_judge:
        results.publish(to_judge, markets, now, only_changes=True)


def _move_on(source_id: int, move: Move, name: str) -> bool:
    return bool(
        IngestSource.objects.filter(
            pk=source_id, offset=move.start.offset, last_read=move.start.last_read
        ).update(offset=move.end, last_read=move.last_read, name=name[-1024:])
    )


def _count(
    source_id: int, outcomes: Sequence[Outcome], new: Sequence[Admitted], now: datetime
) -> None:
    errors = [error for one in outcomes for error in (*one.rejected, *one.warnings)]
    changes: dict[str, Any] = {
        "accepted": F("accepted") + len(new),
        "duplicates": F("duplicates") + sum(one.duplicates for one in outcomes),
        "rejected": F("rejected") + len(errors),
        "updated_at": now,
    }
    if new:
        newest = Value(max(one.at for one in new), output_field=DateTimeField())
        changes["last_event_at"] = Greatest(Coalesce("last_event_at", newest), newest)
    IngestSource.objects.filter(pk=source_id).update(**changes)
    if not errors:
        return
    room = SAMPLES_KEPT - IngestError.objects.filter(source=source_id).count()
    IngestError.objects.bulk_create(
        IngestError(
            source_id=source_id,
            offset=error.offset,
            code=error.code,
            detail=error.detail,
            sample=error.sample,
            at=now,
        )
        for error in errors[: max(0, room)]
    )


def _row(one: Admitted, source_id: int, now: datetime) -> EventRow:
    event = one.event
    return EventRow(
        identity_key=one.key,
        event_type=event.event_type,
        market=one.market,
        scope=one.scope,
        run_id=event.run_id,
        stream_id=event.stream_id,
        occurred_at=event.occurred_at or one.at,
        received_at=now,
        historical=one.historical,
        source_id=source_id,
        offset=one.offset,
        fencing_token=event.fencing_token,
        data=event.written or json.dumps(event.record),
    )


def _rejected(line: Line, why: Unreadable) -> Rejected:
    return Rejected(line.index, why.code, why.detail, why.sample, line.offset)


def _warning(line: Line, one: Admitted) -> Rejected:
    sample = sample_of(str(dict(one.event.data)))
    return Rejected(line.index, REPORT_UNREADABLE, " ".join(one.problems), sample, one.offset)
