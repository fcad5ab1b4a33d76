"""The exchanges' hours from pandas-market-calendars, and what we know better, in one place.

The library brings pandas, 108 MB of it, so it is imported here alone, when hours are asked for, and
only the job that writes them and its command do that. docs/sessions.md says where each correction
comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from watchdog_project.market_hours import (
    CHICAGO,
    MINUTES_A_DAY,
    Span,
    format_hours,
    minute_of,
)

EQUITY = "CME Globex Equity"
ENERGY = "CMEGlobex_Energy"
METALS = "CMEGlobex_Metals"
FX = "CMEGlobex_FX"
RATES = "CME Globex Interest Rate Products"
CRYPTO = "CME Globex Crypto"
# Knows in which years the employment report comes on Good Friday, and the market opens for it.
_REPORT_DAYS = "CME_Bond"

# No holiday keeps a market shut for longer, so a day's evening belongs to a trade date this near.
REACH = timedelta(days=7)
CRYPTO_NEVER_CLOSES = datetime(2026, 5, 29, 16, tzinfo=CHICAGO)


class UnknownCalendar(LookupError):
    """The library has no calendar of that name."""


@dataclass(frozen=True, slots=True)
class TradeDate:
    """One trade date's session; `open` None: not known whether it trades between these times."""

    day: date
    opens_at: datetime
    closes_at: datetime
    open: bool | None = True


Correction = Callable[[TradeDate], Sequence[TradeDate]]


def hours_of(calendar_key: str, first: date, last: date) -> dict[date, str]:
    """The hours of every day in Chicago from `first` to `last`, both included.

    Raises UnknownCalendar.
    """
    sessions = [
        part
        for trade_date in _trade_dates(calendar_key, first - REACH, last + REACH)
        for part in _corrected(calendar_key, trade_date)
    ]
    days = {
        first + timedelta(days=number): list[Span]() for number in range((last - first).days + 1)
    }
    for session in sessions:
        for day, span in _spans(session):
            if day in days:
                days[day].append(span)
    if calendar_key == CRYPTO:
        days = {day: _never_closed(day, spans) for day, spans in days.items()}
    return {day: format_hours(spans) for day, spans in days.items()}


def _trade_dates(calendar_key: str, first: date, last: date) -> Iterator[TradeDate]:
    import pandas_market_calendars

    try:
        calendar: Any = pandas_market_calendars.get_calendar(calendar_key)
    except RuntimeError as failure:
        raise UnknownCalendar(f"There is no calendar {calendar_key!r}.") from failure
    table = calendar.schedule(first, last, market_times="all")
    halved = {"break_start", "break_end"} <= set(table.columns)
    for row in table.itertuples():
        day, times = row.Index.date(), row
        opens, closes = _moment(times.market_open), _moment(times.market_close)
        # A break that begins with the close is none of the session's own.
        if halved and opens < _moment(times.break_start) < _moment(times.break_end) < closes:
            yield TradeDate(day, opens, _moment(times.break_start))
            opens = _moment(times.break_end)
        yield TradeDate(day, opens, closes)


def _moment(stamp: Any) -> datetime:
    moment: datetime = stamp.to_pydatetime()
    return moment.astimezone(UTC)


def _spans(session: TradeDate) -> Iterator[tuple[date, Span]]:
    day, start = session.opens_at.astimezone(CHICAGO).date(), minute_of(session.opens_at)
    end_day, end = session.closes_at.astimezone(CHICAGO).date(), minute_of(session.closes_at)
    while day < end_day:
        yield day, Span(start, MINUTES_A_DAY, session.open)
        day, start = day + timedelta(days=1), 0
    if end > start:
        yield day, Span(start, end, session.open)


def _corrected(calendar_key: str, trade_date: TradeDate) -> Sequence[TradeDate]:
    correct = CORRECTIONS.get(calendar_key)
    return correct(trade_date) if correct else [trade_date]


def _without_report_no_good_friday(trade_date: TradeDate) -> Sequence[TradeDate]:
    """The library opens every Good Friday; the exchange does where an employment report comes."""
    day = trade_date.day
    if day != _good_friday(day.year) or day in _days_of(_REPORT_DAYS, day):
        return [trade_date]
    return []


def _fx(trade_date: TradeDate) -> Sequence[TradeDate]:
    """A holiday on a Friday ends the week at noon elsewhere; of currencies no source tells."""
    day = trade_date.day
    if day.weekday() == 4 and day in (_observed(day.year, 6, 19), _observed(day.year, 7, 4)):
        return _not_known_after(trade_date, 12, 0)
    return _without_report_no_good_friday(trade_date)


def _energy_and_metals(trade_date: TradeDate) -> Sequence[TradeDate]:
    """From 2027 the library goes by rules that the exchange's hours of 2026 do not bear out."""
    day = trade_date.day
    if day.year < 2027:
        return [trade_date]
    if day == _labor_day(day.year):
        return _closing(trade_date, 13, 30)
    if day == _thanksgiving(day.year) + timedelta(days=1):
        return _closing(trade_date, 13, 45)
    if (day.month, day.day) == (12, 24) and day.weekday() < 4:
        return _closing(trade_date, 12, 45)
    if day.weekday() == 4 and day in (_observed(day.year, 6, 19), _observed(day.year, 7, 4)):
        return _closing(trade_date, 12, 0)
    return [trade_date]


CORRECTIONS: dict[str, Correction] = {
    EQUITY: _without_report_no_good_friday,
    RATES: _without_report_no_good_friday,
    FX: _fx,
    ENERGY: _energy_and_metals,
    METALS: _energy_and_metals,
}


def _never_closed(day: date, spans: Sequence[Span]) -> list[Span]:
    """Crypto trades around the clock but for a break at the weekend whose time is not announced.

    So what the library calls closed is not known, since the hour that began.
    """
    begins = CRYPTO_NEVER_CLOSES.date()
    if day < begins:
        return list(spans)
    at = minute_of(CRYPTO_NEVER_CLOSES) if day == begins else 0
    filled: list[Span] = []
    for span in sorted(spans):
        if span.start > at:
            filled.append(Span(at, span.start, None))
        filled.append(span)
        at = max(at, span.end)
    if at < MINUTES_A_DAY:
        filled.append(Span(at, MINUTES_A_DAY, None))
    return filled


def _closing(trade_date: TradeDate, hour: int, minute: int) -> Sequence[TradeDate]:
    closes_at = datetime.combine(trade_date.day, time(hour, minute), CHICAGO)
    return [TradeDate(trade_date.day, trade_date.opens_at, closes_at.astimezone(UTC))]


def _not_known_after(trade_date: TradeDate, hour: int, minute: int) -> Sequence[TradeDate]:
    (open_part,) = _closing(trade_date, hour, minute)
    rest = TradeDate(trade_date.day, open_part.closes_at, trade_date.closes_at, open=None)
    return [open_part, rest]


def _days_of(calendar_key: str, day: date) -> set[date]:
    return {trade_date.day for trade_date in _trade_dates(calendar_key, day, day)}


def _good_friday(year: int) -> date:
    from dateutil.easter import easter

    sunday: date = easter(year)
    return sunday - timedelta(days=2)


def _observed(year: int, month: int, day: int) -> date:
    """A holiday of the United States: on a Saturday the Friday before, on a Sunday the Monday."""
    holiday = date(year, month, day)
    return holiday + timedelta(days={5: -1, 6: 1}.get(holiday.weekday(), 0))


def _labor_day(year: int) -> date:
    first = date(year, 9, 1)
    return first + timedelta(days=-first.weekday() % 7)


def _thanksgiving(year: int) -> date:
    first = date(year, 11, 1)
    return first + timedelta(days=(3 - first.weekday()) % 7 + 21)
