"""When a market trades: the hours of one day in Chicago, and what a row of such days says. Pure.

A day's hours are text that an operator can read and correct: `00:00-16:00 17:00-24:00`, or
`closed`. A span that ends in `?` is one that nobody vouches for: neither open nor closed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import chain, pairwise
from zoneinfo import ZoneInfo

CHICAGO = ZoneInfo("America/Chicago")
CLOSED = "closed"
MINUTES_A_DAY = 24 * 60
ONE_DAY = timedelta(days=1)
_SPAN = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)(\??)", re.ASCII)


class HoursRefused(ValueError):
    """The text is not hours of a day; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Part of a day in minutes since midnight by the clock on the wall; `open` None: not known."""

    start: int
    end: int
    open: bool | None = True


@dataclass(frozen=True, slots=True)
class Session:
    """Whether a market trades (None: not known), since when, and when that next changes.

    `since` and `next_change_at` are None where no day is known that far.
    """

    open: bool | None
    next_change_at: datetime | None = None
    since: datetime | None = None


UNKNOWN = Session(None)


def parse_hours(text: str, day: date) -> list[Span]:
    """The spans of a day that are open or not known, in order; raises HoursRefused."""
    words = text.replace(",", " ").split()
    if not words:
        raise HoursRefused(f"Give the hours, as 00:00-16:00 17:00-24:00, or the word {CLOSED!r}.")
    if [word.casefold() for word in words] == [CLOSED]:
        return []
    spans = [_span(word) for word in words]
    for before, after in pairwise(spans):
        if after.start < before.end:
            raise HoursRefused(
                f"{_written(before)} and {_written(after)} overlap, or are not in order."
            )
    for minute in {minute for span in spans for minute in (span.start, span.end)}:
        if not _exists(day, minute):
            raise HoursRefused(
                f"{_clock(minute)} does not exist on {day}: clocks in Chicago are set forward."
            )
    return spans


def format_hours(spans: Iterable[Span]) -> str:
    """The text of a day's spans; spans that touch and say the same are written as one."""
    joined: list[Span] = []
    for span in sorted(spans):
        if joined and joined[-1].end == span.start and joined[-1].open == span.open:
            joined[-1] = Span(joined[-1].start, span.end, span.open)
        else:
            joined.append(span)
    return " ".join(map(_written, joined)) or CLOSED


def session_at(days: Mapping[date, str], now: datetime) -> Session:
    """What these days' hours say of `now`; a day that is missing, or unreadable, is not known."""
    today = now.astimezone(CHICAGO).date()
    if today not in days:
        return UNKNOWN
    parts = list(_parts(days[today], today))
    here = next(number for number, part in enumerate(parts) if now < part.end)
    state = parts[here].open
    later = chain(parts[here + 1 :], _parts_from(days, today, ONE_DAY))
    earlier = chain(reversed(parts[:here]), _parts_from(days, today, -ONE_DAY))
    return Session(
        state,
        next_change_at=next((part.start for part in later if part.open != state), None),
        since=next((part.end for part in earlier if part.open != state), None),
    )


def moment_of(day: date, minute: int) -> datetime:
    """A minute of a day in Chicago as UTC; of the two in autumn, the first."""
    over, rest = divmod(minute, MINUTES_A_DAY)
    wall = datetime.combine(day + timedelta(days=over), time(*divmod(rest, 60)), CHICAGO)
    return wall.astimezone(UTC)


def minute_of(moment: datetime) -> int:
    """The minute of its day in Chicago, by the clock on the wall."""
    wall = moment.astimezone(CHICAGO)
    return wall.hour * 60 + wall.minute


@dataclass(frozen=True, slots=True)
class _Part:
    """Part of a day, in UTC."""

    start: datetime
    end: datetime
    open: bool | None


def _parts_from(days: Mapping[date, str], day: date, step: timedelta) -> Iterator[_Part]:
    """The parts of the days after `day`, or before it the other way round, up to the first gap."""
    while (day := day + step) in days:
        parts = list(_parts(days[day], day))
        yield from parts if step > timedelta(0) else reversed(parts)


def _parts(text: str, day: date) -> Iterator[_Part]:
    """The whole day from midnight to midnight, what is not told of being closed."""
    try:
        spans = parse_hours(text, day)
    except HoursRefused:
        spans = [Span(0, MINUTES_A_DAY, None)]
    at = 0
    for span in spans:
        if span.start > at:
            yield _Part(moment_of(day, at), moment_of(day, span.start), False)
        yield _Part(moment_of(day, span.start), moment_of(day, span.end), span.open)
        at = span.end
    if at < MINUTES_A_DAY:
        yield _Part(moment_of(day, at), moment_of(day, MINUTES_A_DAY), False)


def _span(word: str) -> Span:
    match = _SPAN.fullmatch(word)
    if match is None:
        raise HoursRefused(f"{word!r} is not a span of hours; write it as 17:00-24:00.")
    start, end = (_minute(word, *match.group(first, first + 1)) for first in (1, 3))
    if start >= end:
        raise HoursRefused(f"{word!r} ends before it begins; a day's hours end at 24:00.")
    return Span(start, end, None if match[5] else True)


def _minute(word: str, hours: str, minutes: str) -> int:
    minute = int(hours) * 60 + int(minutes)
    if int(minutes) >= 60 or minute > MINUTES_A_DAY:
        raise HoursRefused(f"{word!r} has a time that no clock shows.")
    return minute


def _exists(day: date, minute: int) -> bool:
    return minute == MINUTES_A_DAY or minute_of(moment_of(day, minute)) == minute


def _written(span: Span) -> str:
    return f"{_clock(span.start)}-{_clock(span.end)}{'' if span.open else '?'}"


def _clock(minute: int) -> str:
    return "{:02}:{:02}".format(*divmod(minute, 60))
