"""Who is alive, who has stopped, who follows whom, and which two runs are one executor.

Pure. Times are aware datetimes; a run is known by what it said and when.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

LIVE_FOR = timedelta(seconds=150)
STALE_AFTER = timedelta(seconds=150)
HISTORY_AFTER = timedelta(minutes=10)
# A time further ahead of the reader's clock than this is no time at all.
CLOCK_TOLERANCE = timedelta(seconds=60)
# Lines reach a log up to half a minute out of order, so a few may follow a clean stop.
TRAILING_LINES = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class RunFact:
    """What is known of one run; `log` is the folder or sender it writes to, `""` where unknown."""

    run_id: str
    host: str
    log: str
    first_seen_at: datetime
    last_seen_at: datetime
    started_at: datetime | None = None
    stopped_at: datetime | None = None
    guard: bool = False


def stopped_cleanly(stopped_at: datetime | None, last_seen_at: datetime | None) -> bool:
    """Whether a run said that it stops, and did: only trailing lines came after it."""
    if stopped_at is None:
        return False
    return last_seen_at is None or last_seen_at <= stopped_at + TRAILING_LINES


def is_live(run: RunFact, now: datetime) -> bool:
    """Seen within the last 150 seconds, and not since it stopped."""
    if stopped_cleanly(run.stopped_at, run.last_seen_at):
        return False
    return run.last_seen_at >= now - LIVE_FOR


def is_historical(occurred_at: datetime, read_at: datetime) -> bool:
    """Evidence this old says what went wrong once, but neither alarms nor claims liveness."""
    return occurred_at < read_at - HISTORY_AFTER


def succeeds(newer: RunFact, older: RunFact, at: datetime) -> bool:
    """Whether `newer` took the place of `older` in the same log or on the same host.

    Several runs interleave in one log, so the older must have said its last word before the newer
    said its first, and have stopped or been silent for 150 seconds at `at`.
    """
    if not same_place(newer, older) or newer.first_seen_at <= older.last_seen_at:
        return False
    return older.stopped_at is not None or at - older.last_seen_at > LIVE_FOR


def same_place(one: RunFact, other: RunFact) -> bool:
    """The same log, or the same host, where they are known."""
    if one.log and one.log == other.log:
        return True
    return bool(one.host) and one.host.casefold() == other.host.casefold()


def one_executor(one: RunFact, other: RunFact) -> bool:
    """Whether two runs are one robot: the same run, or a guard and a log under its folder.

    Two runs that both write a log are two, even in the same folder.
    """
    if one.run_id == other.run_id:
        return True
    if one.guard == other.guard:
        return False
    guard, robot = (one, other) if one.guard else (other, one)
    if not guard.host or guard.host.casefold() != robot.host.casefold():
        return False
    return is_within(robot.log, guard.log)


def is_within(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or lies under it; by name alone, so also for another system's."""
    inner, outer = _parts(path), _parts(folder)
    return bool(outer) and inner[: len(outer)] == outer


def _parts(path: str) -> list[str]:
    slashed = path.replace("\\", "/")
    # Windows' names ignore case, and only there does a path begin with a drive or a share.
    if slashed[1:2] == ":" or path.startswith("\\\\"):
        slashed = slashed.casefold()
    return [part for part in slashed.split("/") if part]


def restarted(newer: RunFact, older: RunFact) -> bool:
    """Whether `newer` said that it starts after the last word of `older`, in the same place."""
    started_at = newer.started_at
    return started_at is not None and started_at > older.last_seen_at and same_place(newer, older)
