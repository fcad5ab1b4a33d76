"""Follow robots' log folders: every new complete line is ingested, whatever happens to its file."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from django.db import Error as DatabaseError

from identity.admission import Place
from identity.batch import Outcome
from identity.facts import TenureFacts
from identity.ingest import ingest_file
from identity.models import LogFolder

logger = logging.getLogger(__name__)

PATTERN = "robot_*.jsonl"
LINES_A_TURN = 8000
# A line without its end that nobody has touched for this long will get none any more.
ABANDONED_AFTER = 5.0


def follow_folder(path: str | Path, scope: str = "", host: str = "") -> LogFolder:
    """Follow a folder of robot logs from now on; again is no harm. It need not exist yet.

    `host` is the machine whose robots write there, where it is not this one.
    """
    folder, _ = LogFolder.objects.update_or_create(
        path=str(Path(path).expanduser().resolve()),
        defaults={"scope": scope, "host": host, "active": True},
    )
    return folder


@dataclass(slots=True)
class _Seen:
    """What a file looked like when nothing more was to be read in it, and since when."""

    look: tuple[int, int, int]
    since: float
    ended: bool = False


@dataclass(slots=True)
class Tailer:
    """Reads what is new in every followed folder, one turn at a time.

    `clock` counts seconds; it only measures how long a file has been left alone.
    """

    tenures: TenureFacts | None = None
    clock: Callable[[], float] = time.monotonic
    seen: dict[Path, _Seen] = field(default_factory=dict)

    def turn(self, now: datetime) -> Outcome:
        """Read every folder once; what cannot be read is said on its row and tried again.

        The outcome is `finished` where no file has more to give than one turn takes.
        """
        total = Outcome(finished=True)
        for folder in LogFolder.objects.filter(active=True).order_by("pk"):
            problem: OSError | None
            try:
                outcome, problem = self._read_folder(folder, now)
                total.add(outcome)
                total.finished = total.finished and outcome.finished
            except OSError as failure:
                problem = failure
            error = _sentence(folder, problem) if problem else ""
            if error and error != folder.error:
                logger.warning("%s", error)
            if error != folder.error or _minutes_old(folder, now):
                LogFolder.objects.filter(pk=folder.pk).update(error=error, scanned_at=now)
        return total

    def catch_up(self, now: datetime) -> Outcome:
        """Turn until nothing new is left."""
        total = Outcome()
        while not total.finished:
            outcome = self.turn(now)
            total.add(outcome)
            total.finished = outcome.finished
        return total

    def _read_folder(self, folder: LogFolder, now: datetime) -> tuple[Outcome, OSError | None]:
        place = Place(
            log=folder.path,
            host=folder.host or socket.gethostname(),
            scope=folder.scope,
            folder_id=folder.pk,
        )
        total, problem = Outcome(finished=True), None
        # A glob over a folder that is gone would find nothing and say nothing.
        for path in sorted(p for p in Path(folder.path).iterdir() if p.match(PATTERN)):
            try:
                outcome = self._read_file(path, place, now)
                total.add(outcome)
                total.finished = total.finished and outcome.finished
            except FileNotFoundError:
                # It was renamed since it was listed; the next turn finds it by its new name.
                self.seen.pop(path, None)
            except OSError as error:
                # One unreadable file keeps no other from being read.
                problem = error
        return total, problem

    def _read_file(self, path: Path, place: Place, now: datetime) -> Outcome:
        status = path.stat()
        look = (status.st_size, status.st_mtime_ns, status.st_ino)
        seen = self.seen.get(path)
        abandoned = False
        if seen is not None and seen.look == look:
            if seen.ended or self.clock() - seen.since < ABANDONED_AFTER:
                return Outcome(finished=True)
            abandoned = True
        outcome = ingest_file(
            path, place, now, self.tenures, max_lines=LINES_A_TURN, takes_last=abandoned
        )
        if outcome.finished:
            self.seen[path] = _Seen(look, self.clock(), ended=abandoned)
        return outcome


def run(
    tailer: Tailer,
    clock: Callable[[], datetime],
    wait: Callable[[float], bool],
    interval: float = 0.5,
) -> None:
    """Turn every `interval` seconds until `wait`, given the seconds to wait, says to stop."""
    while True:
        behind = False
        try:
            behind = not tailer.turn(clock()).finished
        except DatabaseError as problem:
            # Nothing was read that is not committed: the next turn begins where this one did.
            logger.warning("The database did not take this turn, which is tried again: %s", problem)
        if wait(0 if behind else interval):
            return


def _sentence(folder: LogFolder, problem: OSError) -> str:
    if isinstance(problem, FileNotFoundError):
        return f"The log folder {folder.path} does not exist; it is looked for again."
    reason = problem.strerror or str(problem)
    return f"{problem.filename or folder.path} cannot be read: {reason}; it is tried again."


def _minutes_old(folder: LogFolder, now: datetime) -> bool:
    return folder.scanned_at is None or (now - folder.scanned_at).total_seconds() >= 10
