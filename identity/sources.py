"""Where events come from, and how far each source was read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from identity.admission import Place
from identity.models import IngestSource


@dataclass(frozen=True, slots=True)
class Position:
    """How far a file was read; `fingerprint` is the file's, also where several share it.

    Lines before `pruned_to`, of `pruned_until` at the latest, were counted and forgotten since.
    """

    source_id: int
    fingerprint: str
    name: str
    offset: int
    last_read: str
    pruned_to: int = 0
    pruned_until: datetime | None = None

    @property
    def fits(self) -> tuple[int, str]:
        return self.offset, self.last_read


def was_pruned(offset: int, at: datetime | None, positions: Sequence[Position]) -> bool:
    """Whether a line that stands here in its file was counted so long ago that its event is gone.

    `at` is the line's own time. What is written anew into a file that was truncated is younger.
    """
    return any(
        offset < position.pruned_to
        and position.pruned_until is not None
        and (at is None or at <= position.pruned_until)
        for position in positions
    )


def positions_of(fingerprint: str) -> list[Position]:
    """What was read of files with this fingerprint, furthest first."""
    rows = IngestSource.objects.filter(fingerprint__startswith=fingerprint).order_by("-offset")
    return [_position(row, fingerprint) for row in rows]


def file_source(fingerprint: str, path: Path, place: Place, now: datetime) -> Position:
    """The source of a file that begins like this, made when it is new."""
    row, _ = IngestSource.objects.get_or_create(
        fingerprint=fingerprint,
        defaults={"name": str(path)[-1024:], "folder_id": place.folder_id, "updated_at": now},
    )
    return _position(row, fingerprint)


def start_over(
    fingerprint: str,
    path: Path,
    positions: Sequence[Position],
    place: Place,
    now: datetime,
) -> None:
    """Make a position at the start for a file that fits none of those known.

    A file of the same name was truncated and written anew: it is read again, and its lines' own
    identities tell those that were counted. One of another name is another file or a shorter copy.
    """
    for position in positions:
        if position.name == str(path):
            IngestSource.objects.filter(pk=position.source_id, offset=position.offset).update(
                offset=0, last_read="", updated_at=now
            )
            return
    IngestSource.objects.get_or_create(
        fingerprint=f"{fingerprint}-{len(positions)}",
        defaults={"name": str(path)[-1024:], "folder_id": place.folder_id, "updated_at": now},
    )


def posted_source(place: Place, now: datetime) -> int:
    """The source of what one sender posts."""
    sender = hashlib.sha256(f"posted:{place.log}".encode()).hexdigest()
    row, _ = IngestSource.objects.get_or_create(
        fingerprint=sender, defaults={"name": place.log[-1024:], "updated_at": now}
    )
    return row.pk


def _position(row: IngestSource, fingerprint: str) -> Position:
    return Position(
        row.pk,
        fingerprint,
        row.name,
        row.offset,
        row.last_read,
        row.pruned_to,
        row.pruned_until,
    )
