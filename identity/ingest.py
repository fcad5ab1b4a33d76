"""Lines in, each counted exactly once: events, what they mean, and how far was read, together.

A batch is read and judged before its transaction begins, and is small, so that on SQLite nobody
holds the writer for long. The events of two processes that read the same file at once meet at the
source's offset: the second finds it moved, and reads on from there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.models import F

from identity import ledger, results
from identity.admission import Admitted, Markets, Place, admit, file_key, posted_key
from identity.eventstore import EventRow, insert_events
from identity.executors import judge_executors
from identity.facts import TenureFact, TenureFacts
from identity.logfile import (
    Chunk,
    FileLine,
    count_lines,
    fingerprint_of,
    read_chunk,
    unfinished_line,
)
from identity.models import IngestError, IngestSource
from identity.registry import load_markets
from identity.robotlog import (
    MAX_LINE_BYTES,
    NormalisedEvent,
    Unreadable,
    is_blank,
    read_line,
    sample_of,
)
from identity.sources import Position, file_source, positions_of, posted_source, start_over
from identity.violations import ViolationBook, sights_of

BATCH = 250
SAMPLES_KEPT = 100
LISTED = 1000
REPORT_UNREADABLE = "REPORT_UNREADABLE"
TRUNCATED = "TRUNCATED"


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
class _Move:
    """How far a file was read: from where, to where, and the hash of the bytes before."""

    start: Position
    end: int
    last_read: str


@dataclass(frozen=True, slots=True)
class _Line:
    index: int
    offset: int | None
    read: NormalisedEvent | Unreadable
    key: str = ""


def ingest_posted(
    lines: Sequence[object], place: Place, now: datetime, tenures: TenureFacts | None = None
) -> Outcome:
    """Take lines sent over HTTP: parsed JSON values, bytes of a line each, or why one is neither.

    A line's identity is its event_id or else its content, so sending again adds nothing. A bad line
    costs only itself; `index` counts from 0 over all lines given.
    """
    outcome = Outcome()
    source = posted_source(place, now)
    markets = load_markets()
    read = [_posted_line(index, line, place) for index, line in enumerate(lines)]
    for start in range(0, len(read), BATCH):
        part = read[start : start + BATCH]
        done = _commit(source, None, part, place, markets, now, tenures)
        if done is not None:
            outcome.add(done)
    return outcome


def ingest_file(
    path: Path,
    place: Place,
    now: datetime,
    tenures: TenureFacts | None = None,
    *,
    whole: bool = False,
    takes_last: bool = False,
    max_batches: int | None = None,
) -> Outcome:
    """Read what is new in a file, batch by batch, to its end or `max_batches`; raises OSError.

    Every line is counted once, whatever the file is called by now, and however often, or by how
    many processes at once, it is read. A last line that lacks its end is left for later, unless
    `takes_last`, and it is complete but for that. `whole` says that nobody is writing any more: the
    last line is taken so, or reported as TRUNCATED, and lines read before count as duplicates.
    """
    takes_last = takes_last or whole
    outcome = Outcome()
    batches = 0
    while max_batches is None or batches < max_batches:
        fingerprint = fingerprint_of(path, whole=takes_last)
        if fingerprint is None:
            if whole and (rest := unfinished_line(path)):
                source = file_source(hashlib.sha256(rest).hexdigest(), path, place, now)
                outcome.add(_note_truncated(source.source_id, 0, rest, now))
            outcome.finished = True
            break
        positions = positions_of(fingerprint) or [file_source(fingerprint, path, place, now)]
        found = read_chunk(path, fingerprint, [p.fits for p in positions], whole=takes_last)
        if found is None:
            if fingerprint_of(path, whole=takes_last) == fingerprint:
                start_over(fingerprint, path, positions, place, now)
            continue
        index, chunk = found
        position = positions[index]
        if whole and not batches:
            outcome.duplicates += count_lines(path, position.offset)
        outcome.add(_ingest_chunk(position, path, chunk, place, now, tenures))
        batches += 1
        if chunk.reached_end:
            if whole and not is_blank(chunk.rest):
                outcome.add(_note_truncated(position.source_id, chunk.end, chunk.rest, now))
            outcome.finished = True
            break
    return outcome


def _ingest_chunk(
    position: Position,
    path: Path,
    chunk: Chunk,
    place: Place,
    now: datetime,
    tenures: TenureFacts | None,
) -> Outcome:
    outcome = Outcome()
    if not chunk.lines:
        return outcome
    markets = load_markets()
    lines = list(_file_lines(position.fingerprint, chunk.lines))
    move = _Move(position, chunk.end, chunk.last_read)
    done = _commit(position.source_id, move, lines, place, markets, now, tenures, name=str(path))
    # Another process was faster: what it read is counted, and the next round goes on behind it.
    return done or outcome


def _file_lines(fingerprint: str, lines: Iterable[FileLine]) -> Iterator[_Line]:
    for index, line in enumerate(lines):
        if is_blank(line.content):
            continue
        content = line.content.rstrip(b"\r")
        read: NormalisedEvent | Unreadable
        if line.cut:
            detail = f"The line is longer than {MAX_LINE_BYTES} bytes."
            read = Unreadable("UNREADABLE", detail, sample_of(content))
        else:
            read = read_line(content)
        yield _Line(index, line.offset, read, file_key(fingerprint, line.offset, content))


def _posted_line(index: int, line: object, place: Place) -> _Line:
    if isinstance(line, Exception):
        return _Line(index, None, Unreadable("UNREADABLE", str(line)))
    if not isinstance(line, (bytes, Mapping)):
        sample = sample_of(line)
        return _Line(index, None, Unreadable("UNREADABLE", "It is not a JSON object.", sample))
    read = read_line(line)
    key = "" if isinstance(read, Unreadable) else posted_key(read, place)
    return _Line(index, None, read, key)


def _commit(
    source_id: int,
    move: _Move | None,
    lines: Sequence[_Line],
    place: Place,
    markets: Markets,
    now: datetime,
    tenures: TenureFacts | None,
    *,
    name: str = "",
) -> Outcome | None:
    """One transaction: the source moves on, new events are stored, and what they mean is recorded.

    None, and nothing done, where somebody else moved the source first.
    """
    admitted = list(_admit(lines, place, markets, now, tenures))
    outcome = Outcome(rejected=[_rejected(line) for line in lines if _bad(line)])
    outcome.rejections = len(outcome.rejected)
    with transaction.atomic():
        # Both are writes to the source's row, so that on PostgreSQL one sender's batches queue.
        if move is None:
            IngestSource.objects.filter(pk=source_id).update(updated_at=now)
        elif not _move_on(source_id, move, name):
            return None
        new_keys = insert_events([_row(one, source_id, now) for one in admitted])
        new = [one for one in _once(admitted) if one.key in new_keys]
        outcome.accepted = len(new)
        outcome.duplicates = len(admitted) - len(new)
        outcome.warnings = _warnings(new, lines)
        _record(new, place, name or place.log, markets, now, tenures)
        _count(source_id, outcome, new, now)
    return outcome


def _admit(
    lines: Sequence[_Line],
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
    recorded = ledger.record(new, place, name)
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


def _move_on(source_id: int, move: _Move, name: str) -> bool:
    return bool(
        IngestSource.objects.filter(
            pk=source_id, offset=move.start.offset, last_read=move.start.last_read
        ).update(offset=move.end, last_read=move.last_read, name=name[-1024:])
    )


def _count(source_id: int, outcome: Outcome, new: Sequence[Admitted], now: datetime) -> None:
    errors = [*outcome.rejected, *outcome.warnings]
    changes: dict[str, Any] = {
        "accepted": F("accepted") + outcome.accepted,
        "duplicates": F("duplicates") + outcome.duplicates,
        "rejected": F("rejected") + len(errors),
        "updated_at": now,
    }
    newest = max((one.at for one in new), default=None)
    source = IngestSource.objects.get(pk=source_id)
    if newest is not None:
        changes["last_event_at"] = max(newest, source.last_event_at or newest)
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


def _note_truncated(source_id: int, offset: int, rest: bytes, now: datetime) -> Outcome:
    """Count a last line that was cut off, once; the offset stays before it, should it grow."""
    detail = "The file ends in the middle of this line."
    error = Rejected(0, TRUNCATED, detail, sample_of(rest), offset)
    with transaction.atomic():
        _, first = IngestError.objects.get_or_create(
            source_id=source_id,
            offset=offset,
            code=TRUNCATED,
            defaults={"detail": detail, "sample": error.sample, "at": now},
        )
        if first:
            IngestSource.objects.filter(pk=source_id).update(
                rejected=F("rejected") + 1, updated_at=now
            )
    return Outcome(rejected=[error], rejections=1)


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
        data=event.record,
    )


def _bad(line: _Line) -> bool:
    return isinstance(line.read, Unreadable)


def _rejected(line: _Line) -> Rejected:
    assert isinstance(line.read, Unreadable)  # noqa: S101 for the type checker
    return Rejected(line.index, line.read.code, line.read.detail, line.read.sample, line.offset)


def _warnings(new: Sequence[Admitted], lines: Sequence[_Line]) -> list[Rejected]:
    index_of = {line.key: line.index for line in lines}
    return [
        Rejected(
            index_of[one.key],
            REPORT_UNREADABLE,
            " ".join(one.problems),
            sample_of(str(dict(one.event.data))),
            one.offset,
        )
        for one in new
        if one.problems
    ]
