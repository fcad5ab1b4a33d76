"""The two ways in for lines: files, tailed or read by hand, and what is sent over HTTP."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from django.db import connection, transaction
from django.db.models import F

from identity.admission import Place, file_key, posted_key
from identity.batch import Line, Move, Outcome, Rejected, commit_batch
from identity.facts import TenureFacts
from identity.groupcommit import GroupCommit
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
from identity.sources import (
    Position,
    file_source,
    positions_of,
    posted_source,
    start_over,
    was_pruned,
)

# Large enough to share what each transaction costs; on SQLite nobody else writes meanwhile.
LINES_A_BATCH = {"sqlite": 1000, "postgresql": 3000}
# On SQLite, where more of them than this were never seen together: each may be a row of its own.
NAMES_A_BATCH = 250
# Posted lines that share a transaction with others'; so many more have one of their own.
SHARES_A_BATCH = 100
TRUNCATED = "TRUNCATED"


def ingest_posted(
    lines: Sequence[object], place: Place, now: datetime, tenures: TenureFacts | None = None
) -> Outcome:
    """Take lines sent over HTTP: parsed JSON values, bytes of a line each, or why one is neither.

    A line's identity is its event_id or else its content, so sending again adds nothing. A bad line
    costs only itself; `index` counts from 0 over all lines given.
    """
    read = [_posted_line(index, line, place) for index, line in enumerate(lines)]
    sender = _Sender(place, tenures)
    # A caller's transaction decides over his own lines alone.
    if 0 < len(read) <= SHARES_A_BATCH and not connection.in_atomic_block:
        return _POSTED.submit(sender, _Posted(read, now), len(read))
    outcome = Outcome()
    most = _lines_at_once(read)
    for start in range(0, len(read), most):
        (done,) = _commit_posted(sender, [_Posted(read[start : start + most], now)])
        outcome.add(done)
    return outcome


class _Sender(NamedTuple):
    """Whose requests may be committed together: what one source posts, judged by the same."""

    place: Place
    tenures: TenureFacts | None


class _Posted(NamedTuple):
    lines: Sequence[Line]
    now: datetime


def _commit_posted(sender: _Sender, requests: Sequence[_Posted]) -> list[Outcome]:
    place, tenures = sender
    # By the newest clock: none of the lines lies in the future of him who judges it.
    now = max(request.now for request in requests)
    source, markets = posted_source(place, now), load_markets()
    parts = [request.lines for request in requests]
    done = commit_batch(source, None, parts, place, markets, now, tenures)
    assert done is not None  # noqa: S101 for the type checker: nobody moves what is not read
    return done


_POSTED = GroupCommit(_commit_posted, NAMES_A_BATCH)


def ingest_file(
    path: Path,
    place: Place,
    now: datetime,
    tenures: TenureFacts | None = None,
    *,
    whole: bool = False,
    takes_last: bool = False,
    max_lines: int | None = None,
) -> Outcome:
    """Read what is new in a file, batch by batch, to its end or `max_lines`; raises OSError.

    Every line is counted once, whatever the file is called by now, and however often, or by how
    many processes at once, it is read. A last line that lacks its end is left for later, unless
    `takes_last`, and it is complete but for that. `whole` says that nobody is writing any more: the
    last line is taken so, or reported as TRUNCATED, and lines read before count as duplicates.
    """
    takes_last = takes_last or whole
    outcome = Outcome()
    most = LINES_A_BATCH[connection.vendor]
    begun, left = False, sys.maxsize if max_lines is None else max_lines
    while left > 0:
        fingerprint = fingerprint_of(path, whole=takes_last)
        if fingerprint is None:
            if whole and (rest := unfinished_line(path)):
                source = file_source(hashlib.sha256(rest).hexdigest(), path, place, now)
                outcome.add(_note_truncated(source.source_id, 0, rest, now))
            outcome.finished = True
            break
        positions = positions_of(fingerprint) or [file_source(fingerprint, path, place, now)]
        found = read_chunk(
            path, fingerprint, [p.fits for p in positions], most=min(most, left), whole=takes_last
        )
        if found is None:
            if fingerprint_of(path, whole=takes_last) == fingerprint:
                start_over(fingerprint, path, positions, place, now)
            continue
        index, chunk = found
        position = positions[index]
        read = list(_file_lines(fingerprint, chunk.lines))
        fewer = _lines_at_once(read)
        if len(chunk.lines) > fewer:
            most = fewer
            continue
        if whole and not begun:
            outcome.duplicates += count_lines(path, position.offset)
        outcome.add(_store(position, positions, path, chunk, read, place, now, tenures))
        begun = True
        left -= len(chunk.lines)
        if chunk.reached_end:
            if whole and not is_blank(chunk.rest):
                outcome.add(_note_truncated(position.source_id, chunk.end, chunk.rest, now))
            outcome.finished = True
            break
    return outcome


def _lines_at_once(lines: Sequence[Line]) -> int:
    if connection.vendor == "sqlite":
        events = [line.read for line in lines if isinstance(line.read, NormalisedEvent)]
        names = {(event.run_id, event.event_type, event.stream_id) for event in events}
        if len(names) > NAMES_A_BATCH:
            return NAMES_A_BATCH
    return LINES_A_BATCH[connection.vendor]


def _store(
    position: Position,
    positions: Sequence[Position],
    path: Path,
    chunk: Chunk,
    read: Sequence[Line],
    place: Place,
    now: datetime,
    tenures: TenureFacts | None,
) -> Outcome:
    outcome = Outcome()
    if not chunk.lines:
        return outcome
    markets = load_markets()
    # Their events are gone, so no key tells any more that these were counted.
    lines = [line for line in read if not _counted_long_ago(line, positions)]
    move = Move(position, chunk.end, chunk.last_read, len(read) - len(lines))
    done = commit_batch(
        position.source_id, move, [lines], place, markets, now, tenures, name=str(path)
    )
    # Else another process was faster: what it read is counted; the next round goes on behind it.
    return done[0] if done is not None else outcome


def _counted_long_ago(line: Line, positions: Sequence[Position]) -> bool:
    return (
        isinstance(line.read, NormalisedEvent)
        and line.offset is not None
        and was_pruned(line.offset, line.read.occurred_at, positions)
    )


def _file_lines(fingerprint: str, lines: Iterable[FileLine]) -> Iterator[Line]:
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
        yield Line(index, line.offset, read, file_key(fingerprint, line.offset, content))


def _posted_line(index: int, line: object, place: Place) -> Line:
    if isinstance(line, Exception):
        return Line(index, None, Unreadable("UNREADABLE", str(line)))
    if not isinstance(line, (bytes, dict)):
        sample = sample_of(line)
        return Line(index, None, Unreadable("UNREADABLE", "It is not a JSON object.", sample))
    # One object alone can fill a body, and a line of a file is bounded as well.
    read = read_line(line if isinstance(line, bytes) else json.dumps(line))
    key = "" if isinstance(read, Unreadable) else posted_key(read, place)
    return Line(index, None, read, key)


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
