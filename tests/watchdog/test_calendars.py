"""The hours of a year, for every product group of the registry, and what is corrected in them."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest

from watchdog_project import calendars
from watchdog_project.calendar_names import CALENDAR_NAMES
from watchdog_project.calendars import CRYPTO, ENERGY, EQUITY, FX, METALS, RATES
from watchdog_project.market_hours import CHICAGO, Session, session_at

ROOT = Path(__file__).resolve().parent.parent.parent
GROUPS = (EQUITY, ENERGY, METALS, FX, RATES, CRYPTO)
FIRST, LAST = date(2026, 1, 1), date(2027, 12, 31)
USUAL = {5: "closed", 6: "17:00-24:00", 4: "00:00-16:00"}
IN_THE_WEEK = "00:00-16:00 17:00-24:00"

# The exchange's published hours of 2026, Chicago time, and what we say of 2027.
ODD_DAYS = {
    EQUITY: {
        "2026-01-01": "17:00-24:00",
        "2026-01-19": "00:00-12:00 17:00-24:00",
        "2026-02-16": "00:00-12:00 17:00-24:00",
        "2026-04-03": "00:00-08:15",
        "2026-05-25": "00:00-12:00 17:00-24:00",
        "2026-06-19": "00:00-12:00",
        "2026-07-03": "00:00-12:00",
        "2026-09-07": "00:00-12:00 17:00-24:00",
        "2026-11-26": "00:00-12:00 17:00-24:00",
        "2026-11-27": "00:00-12:15",
        "2026-12-24": "00:00-12:15",
        "2026-12-25": "closed",
        "2026-12-31": "00:00-16:00",
        "2027-01-01": "closed",
        "2027-01-18": "00:00-12:00 17:00-24:00",
        "2027-02-15": "00:00-12:00 17:00-24:00",
        "2027-03-25": "00:00-16:00",
        "2027-03-26": "closed",
        "2027-05-31": "00:00-12:00 17:00-24:00",
        "2027-06-18": "00:00-12:00",
        "2027-07-05": "00:00-12:00 17:00-24:00",
        "2027-09-06": "00:00-12:00 17:00-24:00",
        "2027-11-25": "00:00-12:00 17:00-24:00",
        "2027-11-26": "00:00-12:15",
        "2027-12-23": "00:00-16:00",
        "2027-12-24": "closed",
    },
    ENERGY: {
        "2026-01-01": "17:00-24:00",
        "2026-01-19": "00:00-13:30 17:00-24:00",
        "2026-02-16": "00:00-13:30 17:00-24:00",
        "2026-04-02": "00:00-16:00",
        "2026-04-03": "closed",
        "2026-05-25": "00:00-13:30 17:00-24:00",
        "2026-06-19": "00:00-12:00",
        "2026-07-03": "00:00-12:00",
        "2026-09-07": "00:00-13:30 17:00-24:00",
        "2026-11-26": "00:00-13:30 17:00-24:00",
        "2026-11-27": "00:00-13:45",
        "2026-12-24": "00:00-12:45",
        "2026-12-25": "closed",
        "2026-12-31": "00:00-16:00",
        "2027-01-01": "closed",
        "2027-01-18": "00:00-13:30 17:00-24:00",
        "2027-02-15": "00:00-13:30 17:00-24:00",
        "2027-03-25": "00:00-16:00",
        "2027-03-26": "closed",
        "2027-05-31": "00:00-13:30 17:00-24:00",
        "2027-06-18": "00:00-12:00",
        "2027-07-05": "00:00-13:30 17:00-24:00",
        "2027-09-06": "00:00-13:30 17:00-24:00",
        "2027-11-25": "00:00-13:30 17:00-24:00",
        "2027-11-26": "00:00-13:45",
        "2027-12-23": "00:00-16:00",
        "2027-12-24": "closed",
    },
    FX: {
        "2026-01-01": "17:00-24:00",
        "2026-04-03": "00:00-10:15",
        "2026-06-19": "00:00-12:00 12:00-16:00?",
        "2026-07-03": "00:00-12:00 12:00-16:00?",
        "2026-11-27": "00:00-12:15",
        "2026-12-24": "00:00-12:15",
        "2026-12-25": "closed",
        "2026-12-31": "00:00-16:00",
        "2027-01-01": "closed",
        "2027-03-25": "00:00-16:00",
        "2027-03-26": "closed",
        "2027-06-18": "00:00-12:00 12:00-16:00?",
        "2027-11-26": "00:00-12:15",
        "2027-12-23": "00:00-16:00",
        "2027-12-24": "closed",
    },
}
ODD_DAYS[METALS] = ODD_DAYS[ENERGY]
ODD_DAYS[RATES] = ODD_DAYS[EQUITY] | {"2026-04-03": "00:00-10:15"}


@cache
def hours(group: str) -> dict[date, str]:
    return calendars.hours_of(group, FIRST, LAST)


def at(group: str, *when: int) -> Session:
    return session_at(hours(group), datetime(*when, tzinfo=CHICAGO).astimezone(UTC))  # type: ignore[arg-type]


@pytest.mark.parametrize("group", sorted(ODD_DAYS))
def test_every_day_of_two_years_is_the_usual_one_or_a_holiday_that_was_checked_by_hand(
    group: str,
) -> None:
    odd = {
        str(day): said
        for day, said in hours(group).items()
        if said != USUAL.get(day.weekday(), IN_THE_WEEK)
    }

    assert odd == ODD_DAYS[group]
    assert len(hours(group)) == 730


@pytest.mark.parametrize("group", GROUPS)
def test_every_friday_of_the_year_closes_by_four_and_no_saturday_is_open(group: str) -> None:
    day = FIRST
    while day <= LAST:
        told = [at(group, day.year, day.month, day.day, hour).open for hour in range(24)]
        if day.weekday() == 4:
            assert True not in told[16:], day
        if day.weekday() == 5:
            assert True not in told, day
        if day.weekday() == 6:
            assert True not in told[:17], day
        day += timedelta(days=1)


@pytest.mark.parametrize("group", [EQUITY, ENERGY, METALS, FX, RATES])
def test_in_an_ordinary_week_the_market_trades_23_hours_a_day_five_times(group: str) -> None:
    week = [datetime(2026, 10, 25, tzinfo=CHICAGO).astimezone(UTC) + timedelta(minutes=15 * n)
            for n in range(7 * 24 * 4)]  # fmt: skip
    open_quarters = sum(session_at(hours(group), now).open is True for now in week)

    assert open_quarters == 5 * 23 * 4


@pytest.mark.parametrize(
    ("sunday", "opens_at"),
    [
        ((2026, 3, 8), datetime(2026, 3, 8, 22, tzinfo=UTC)),
        ((2026, 11, 1), datetime(2026, 11, 1, 23, tzinfo=UTC)),
    ],
)
def test_on_both_sundays_that_clocks_change_it_opens_at_five_in_chicago(
    sunday: tuple[int, int, int], opens_at: datetime
) -> None:
    for group in (EQUITY, ENERGY, METALS, FX, RATES):
        assert at(group, *sunday, 12).next_change_at == opens_at


def test_crypto_is_not_called_closed_since_it_trades_around_the_clock() -> None:
    assert at(CRYPTO, 2026, 5, 23, 12).open is False
    assert at(CRYPTO, 2026, 5, 29, 15, 59).open is True
    assert {at(CRYPTO, 2026, 5, 30, hour).open for hour in range(24)} == {None}
    assert at(CRYPTO, 2026, 10, 7, 16, 30).open is None
    assert at(CRYPTO, 2026, 10, 7, 12).open is True
    assert not any("closed" in said for day, said in hours(CRYPTO).items() if day.month > 5)


def test_a_calendar_that_nobody_has_is_said() -> None:
    with pytest.raises(calendars.UnknownCalendar, match="There is no calendar 'MOON'"):
        calendars.hours_of("MOON", FIRST, LAST)


def test_the_names_that_the_admin_takes_are_those_of_the_library_but_for_what_it_cannot_make() -> (
    None
):
    import pandas_market_calendars

    broken = {"ASEX", "XBEL", "XBSE", "XCYS", "XSGO"}
    assert set(pandas_market_calendars.get_calendar_names()) - CALENDAR_NAMES == broken
    assert set(GROUPS) <= CALENDAR_NAMES
    for name in broken:
        with pytest.raises((NotImplementedError, AttributeError)):
            calendars.hours_of(name, FIRST, FIRST)


def test_a_calendar_with_a_break_in_the_middle_of_its_session_keeps_it() -> None:
    day = date(2026, 3, 10)

    assert calendars.hours_of("CMEGlobex_Grains", day, day) == {
        day: "00:00-07:45 08:30-13:20 19:00-24:00"
    }


def test_the_web_process_does_not_load_pandas() -> None:
    script = (
        "import sys\n"
        "import watchdog_project.wsgi\n"
        "from django.urls import get_resolver; get_resolver().url_patterns\n"
        "from django.contrib import admin; admin.autodiscover()\n"
        "import watchdog_project.tasks\n"
        "print([name for name in ('pandas', 'numpy', 'pandas_market_calendars', 'dateutil.easter')"
        " if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "watchdog_project.settings"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
