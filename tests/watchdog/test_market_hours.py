"""What a row of days says of a moment: open, closed or not known, and when that changes."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog_project.market_hours import (
    CHICAGO,
    HoursRefused,
    Span,
    format_hours,
    parse_hours,
    session_at,
)

USUAL = "00:00-16:00 17:00-24:00"
# Sunday 1 March to Monday 9 March 2026; clocks are set forward on Sunday the 8th.
WEEK = {
    date(2026, 3, 1): "17:00-24:00",
    **{date(2026, 3, day): USUAL for day in (2, 3, 4, 5)},
    date(2026, 3, 6): "00:00-16:00",
    date(2026, 3, 7): "closed",
    date(2026, 3, 8): "17:00-24:00",
    date(2026, 3, 9): USUAL,
}


def chicago(day: int, hour: int, minute: int = 0, month: int = 3) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=CHICAGO)


@pytest.mark.parametrize(
    ("now", "is_open", "until"),
    [
        (chicago(1, 16, 59), False, chicago(1, 17)),
        (chicago(1, 17), True, chicago(2, 16)),
        (chicago(2, 15, 59), True, chicago(2, 16)),
        (chicago(2, 16), False, chicago(2, 17)),
        (chicago(4, 0), True, chicago(4, 16)),
        (chicago(6, 15, 59), True, chicago(6, 16)),
        (chicago(6, 16), False, chicago(8, 17)),
        (chicago(6, 17), False, chicago(8, 17)),
        (chicago(7, 12), False, chicago(8, 17)),
        (chicago(8, 17), True, chicago(9, 16)),
    ],
)
def test_a_market_is_open_from_sunday_evening_to_friday_afternoon_but_for_a_daily_break(
    now: datetime, is_open: bool, until: datetime
) -> None:
    session = session_at(WEEK, now.astimezone(UTC))

    assert (session.open, session.next_change_at) == (is_open, until)


def test_it_is_told_since_when_a_market_is_open_or_closed() -> None:
    assert session_at(WEEK, chicago(4, 9)).since == chicago(3, 17)
    assert session_at(WEEK, chicago(8, 9)).since == chicago(6, 16)
    assert session_at(WEEK, chicago(1, 9)).since is None


@pytest.mark.parametrize(
    ("sunday", "utc_hour"),
    [(date(2026, 3, 8), 22), (date(2026, 11, 1), 23), (date(2026, 10, 25), 22)],
)
def test_the_evening_open_stays_at_five_in_chicago_when_clocks_change(
    sunday: date, utc_hour: int
) -> None:
    days = {sunday - timedelta(days=1): "closed", sunday: "17:00-24:00"}
    opens_at = datetime(sunday.year, sunday.month, sunday.day, utc_hour, tzinfo=UTC)

    assert session_at(days, opens_at - timedelta(microseconds=1)).open is False
    assert session_at(days, opens_at).open is True
    assert session_at(days, opens_at - timedelta(hours=9)).next_change_at == opens_at


@pytest.mark.parametrize(("day", "hours"), [(date(2026, 3, 8), 23), (date(2026, 11, 1), 25)])
def test_a_market_that_never_closes_is_open_all_hours_of_a_day_of_another_length(
    day: date, hours: int
) -> None:
    midnight = datetime(day.year, day.month, day.day, tzinfo=CHICAGO).astimezone(UTC)
    days = {day: "00:00-24:00"}

    seen = [session_at(days, midnight + timedelta(minutes=30 * n)).open for n in range(2 * hours)]
    assert seen == [True] * (2 * hours)
    assert session_at(days, midnight + timedelta(hours=hours)).open is None


def test_a_day_that_was_not_written_is_not_known_and_that_is_not_closed() -> None:
    session = session_at(WEEK, chicago(20, 9))

    assert (session.open, session.next_change_at, session.since) == (None, None, None)


def test_the_next_change_is_not_guessed_across_a_day_that_is_missing() -> None:
    gap = {day: hours for day, hours in WEEK.items() if day != date(2026, 3, 7)}

    assert session_at(gap, chicago(6, 18)).open is False
    assert session_at(gap, chicago(6, 18)).next_change_at is None


def test_a_span_that_nobody_vouches_for_is_not_known() -> None:
    days = {date(2026, 6, 19): "00:00-12:00 12:00-16:00?"}

    assert session_at(days, chicago(19, 11, month=6)).next_change_at == chicago(19, 12, month=6)
    assert session_at(days, chicago(19, 13, month=6)).open is None
    assert session_at(days, chicago(19, 16, month=6)).open is False


def test_hours_that_somebody_broke_in_the_database_are_not_known() -> None:
    assert session_at({date(2026, 3, 2): "from dusk till dawn"}, chicago(2, 9)).open is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Give the hours"),
        ("9-16", "not a span of hours"),
        ("09:00-16:60", "no clock shows"),
        ("17:00-25:00", "no clock shows"),
        ("17:00-16:00", "ends before it begins"),
        ("16:00-16:00", "ends before it begins"),
        ("00:00-16:00 15:00-24:00", "overlap"),
        ("17:00-24:00 00:00-16:00", "not in order"),
        ("closed 17:00-24:00", "not a span of hours"),
        ("02:30-16:00", "does not exist on 2026-03-08"),
    ],
)
def test_hours_that_cannot_be_are_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(HoursRefused, match=reason):
        parse_hours(text, date(2026, 3, 8))


def test_hours_are_written_as_an_operator_would_say_them_shortest() -> None:
    day = date(2026, 3, 2)

    assert format_hours(parse_hours("00:00-08:30, 08:30-16:00", day)) == "00:00-16:00"
    assert format_hours(parse_hours("Closed", day)) == "closed"
    assert format_hours(parse_hours("00:00-12:00 12:00-16:00?", day)) == "00:00-12:00 12:00-16:00?"


@st.composite
def days_spans(draw: st.DrawFn) -> list[Span]:
    edges = sorted(draw(st.sets(st.integers(0, 24 * 60), max_size=8)))
    states = draw(st.lists(st.sampled_from([True, None, False]), min_size=8, max_size=8))
    spans = zip(edges, edges[1:], states, strict=False)
    return [Span(start, end, state) for start, end, state in spans if state is not False]


@given(days_spans(), st.integers(0, 24 * 60 - 1))
def test_what_is_written_is_what_is_read(spans: list[Span], minute: int) -> None:
    day = date(2026, 3, 3)
    hours = format_hours(spans)

    assert format_hours(parse_hours(hours, day)) == hours
    expected = next((span.open for span in spans if span.start <= minute < span.end), False)
    now = datetime(2026, 3, 3, *divmod(minute, 60), tzinfo=CHICAGO)
    assert session_at({day: hours}, now).open is expected
