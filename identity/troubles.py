"""What robots' logs tell of their own health: engine, data and connection, lost and found. Pure.

A log's lines come out of order by up to half a minute, and repeat: several engines of one process
see the same loss. So an episode is kept by its times, and what flaps within 30 seconds is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

FLAP = timedelta(seconds=30)


class Trouble(StrEnum):
    ENGINE = "engine"
    DATA = "data"
    CONNECTION = "connection"


@dataclass(frozen=True, slots=True)
class Signal:
    """What one event says of one trouble: that it began, or is over.

    `certain`: the robot waited before it said so. `repeats`: it is said all the time, so that only
    the first after a trouble is its end.
    """

    trouble: Trouble
    begins: bool
    certain: bool = False
    repeats: bool = False


SIGNALS: Mapping[str, Signal] = {
    "ENGINE_TICK_STALL_DETECTED": Signal(Trouble.ENGINE, begins=True),
    "ENGINE_TICK_STALL_RECOVERED": Signal(Trouble.ENGINE, begins=False),
    # A stalled engine's timer beats on; a tick is what it has none of.
    "ENGINE_TICK_CALLSITE": Signal(Trouble.ENGINE, begins=False, repeats=True),
    "DATA_LOSS_DETECTED": Signal(Trouble.DATA, begins=True),
    "DATA_STALL_DETECTED": Signal(Trouble.DATA, begins=True),
    "DATA_STALL_RECOVERED": Signal(Trouble.DATA, begins=False),
    "CONNECTION_LOST": Signal(Trouble.CONNECTION, begins=True),
    "CONNECTION_LOST_SUSTAINED": Signal(Trouble.CONNECTION, begins=True, certain=True),
    "CONNECTION_RECOVERED": Signal(Trouble.CONNECTION, begins=False),
    "CONNECTION_RECOVERED_NOTIFICATION": Signal(Trouble.CONNECTION, begins=False),
    "CONNECTION_CONFIRMED": Signal(Trouble.CONNECTION, begins=False, certain=True),
}

Kept = dict[str, list[str]]
"""Episodes as a row keeps them: trouble, of data with its market -> began, seen, ended, marks."""


@dataclass(frozen=True, slots=True)
class Episode:
    """One trouble: when it began, when it was last said to, and when it was said to be over.

    `lasting`: it outlasted a flap, or its robot says so. `settled`: its end needs no waiting for.
    """

    began_at: datetime
    seen_at: datetime
    ended_at: datetime | None = None
    lasting: bool = False
    settled: bool = False

    @property
    def is_on(self) -> bool:
        return self.ended_at is None or self.ended_at < self.seen_at


def hear(kept: Kept, event_type: str, market: str, at: datetime, *, historical: bool) -> None:
    """Take one event of a run into its troubles; `market` is the one that data are lost of.

    What is old when it is read begins nothing. That something is over is true however old it is.
    """
    signal = SIGNALS.get(event_type)
    if signal is None:
        return
    key = _key(signal.trouble, market)
    if signal.begins and not historical:
        kept[key] = _written(_begun(read(kept, key), signal, at))
    elif not signal.begins and (key in kept or not signal.repeats):
        kept[key] = _written(_ended(read(kept, key), signal, at))


def start_over(kept: Kept, at: datetime) -> None:
    """The run started anew: what it said of its troubles before is over, what it said since is not.

    The line that says so may come after lines that were written later.
    """
    for key in list(kept):
        episode = read(kept, key)
        if episode is None or episode.seen_at <= at:
            del kept[key]


def since(kept: Kept, trouble: Trouble, market: str, now: datetime) -> datetime | None:
    """Since when the run has this trouble in `market`, or None where it has not.

    A connection counts as lost after 30 seconds, or when the robot says that it lasts; and what
    lasted counts as over when it stayed so for 30 seconds, so that a flap in between is no news.
    Data lost of a market that nobody could name are lost of each.
    """
    keys = {_key(trouble, market), _key(trouble, "")}
    begun = [
        found
        for key in keys
        if (episode := read(kept, key)) is not None
        and (found := _since(episode, trouble, now)) is not None
    ]
    return min(begun, default=None)


def read(kept: Kept, key: str) -> Episode | None:
    """The episode under `key`; None where there is none, or a row holds something else."""
    try:
        began, seen, ended, marks = kept[key]
        return Episode(
            datetime.fromisoformat(began),
            datetime.fromisoformat(seen),
            datetime.fromisoformat(ended) if ended else None,
            "lasting" in marks,
            "settled" in marks,
        )
    except (KeyError, ValueError, TypeError):
        return None


def _begun(episode: Episode | None, signal: Signal, at: datetime) -> Episode:
    if episode is None:
        return Episode(at, at, lasting=signal.certain)
    ended_at = episode.ended_at
    if ended_at is not None and at <= ended_at:
        # A line that came late, of what is over by now.
        return episode
    flaps = ended_at is not None and at - ended_at < FLAP and not episode.settled
    if not episode.is_on and not flaps:
        return Episode(at, at, ended_at, lasting=signal.certain)
    return Episode(
        min(episode.began_at, at),
        max(episode.seen_at, at),
        ended_at,
        episode.lasting or signal.certain,
    )


def _ended(episode: Episode | None, signal: Signal, at: datetime) -> Episode:
    if episode is None:
        # Kept all the same: the line that says it began may come late.
        return Episode(at, at, at, settled=True)
    late = at < episode.seen_at or (episode.ended_at is not None and at < episode.ended_at)
    if late or (signal.repeats and not episode.is_on):
        return episode
    return Episode(
        episode.began_at,
        episode.seen_at,
        at,
        episode.lasting or (episode.is_on and at - episode.began_at >= FLAP),
        signal.certain or (episode.settled and not episode.is_on),
    )


def _since(episode: Episode, trouble: Trouble, now: datetime) -> datetime | None:
    if episode.is_on:
        waited = episode.lasting or now - episode.began_at >= FLAP
        return episode.began_at if waited or trouble is not Trouble.CONNECTION else None
    stayed = episode.ended_at is None or now - episode.ended_at >= FLAP
    return episode.began_at if episode.lasting and not episode.settled and not stayed else None


def _key(trouble: Trouble, market: str) -> str:
    # Engine and connection are the run's own; only data are lost market by market.
    return f"{trouble}:{market}" if trouble is Trouble.DATA else trouble.value


def _written(episode: Episode) -> list[str]:
    marks = ["lasting"] * episode.lasting + ["settled"] * episode.settled
    return [
        episode.began_at.isoformat(),
        episode.seen_at.isoformat(),
        episode.ended_at.isoformat() if episode.ended_at else "",
        " ".join(marks),
    ]
