"""Sessions in the database: written daily, corrected by operators, told of every market."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from identity.models import CanonicalInstrument
from tests.watchdog.cast import NOW, a_held_lease, a_passing_market, a_sweep_finished
from watchdog_project import tasks
from watchdog_project.calendars import UnknownCalendar
from watchdog_project.heartbeat import SESSIONS
from watchdog_project.market_hours import CHICAGO, HoursRefused
from watchdog_project.models import SessionDay, TaskHeartbeat
from watchdog_project.sessions import (
    correct_day,
    sessions_are_due,
    sessions_of,
    write_sessions,
)
from watchdog_project.status import snapshot

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("instruments")]

EQUITY = "CME Globex Equity"
THANKSGIVING = date(2026, 11, 26)
TUESDAY = datetime(2026, 11, 24, 9, tzinfo=CHICAGO).astimezone(UTC)


def usual(key: str, first: date, last: date) -> dict[date, str]:
    """A calendar without holidays."""
    week = {4: "00:00-16:00", 5: "closed", 6: "17:00-24:00"}
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    return {day: week.get(day.weekday(), "00:00-16:00 17:00-24:00") for day in days}


def chicago(*when: int) -> datetime:
    return datetime(*when, tzinfo=CHICAGO).astimezone(UTC)  # type: ignore[arg-type]


def correct(hours: str, day: date = THANKSGIVING, reason: str = "notice 26-118") -> SessionDay:
    return correct_day(EQUITY, day, hours, by="chief", reason=reason, now=TUESDAY)


def test_sixty_days_are_written_for_every_calendar_of_the_registry() -> None:
    written = write_sessions(TUESDAY)

    assert written.unknown == []
    keys = set(CanonicalInstrument.objects.values_list("calendar_key", flat=True))
    assert set(written.until) == keys
    assert set(written.until.values()) == {date(2027, 1, 23)}
    ahead = SessionDay.objects.filter(day__gt=date(2026, 11, 24))
    assert ahead.count() == 60 * len(keys)
    row = SessionDay.objects.get(calendar_key=EQUITY, day=THANKSGIVING)
    assert row.hours == "00:00-12:00 17:00-24:00"


def test_writing_again_changes_what_the_calendar_changed_and_adds_no_row() -> None:
    write_sessions(TUESDAY, usual)
    count = SessionDay.objects.count()

    write_sessions(TUESDAY, lambda *asked: usual(*asked) | {THANKSGIVING: "closed"})

    assert SessionDay.objects.count() == count
    assert SessionDay.objects.get(calendar_key=EQUITY, day=THANKSGIVING).hours == "closed"


def test_a_correction_stands_above_the_calendar_and_survives_the_next_daily_job() -> None:
    write_sessions(TUESDAY, usual)
    noon = chicago(2026, 11, 26, 12)
    assert sessions_of(["ES"], noon)["ES"].open is True

    correct("00:00-12:00, 17:00-24:00")
    write_sessions(TUESDAY + timedelta(days=1), usual)

    told = sessions_of(["ES"], noon)["ES"]
    assert (told.open, told.next_change_at) == (False, chicago(2026, 11, 26, 17))
    row = SessionDay.objects.get(calendar_key=EQUITY, day=THANKSGIVING)
    assert row.hours == "00:00-16:00 17:00-24:00"
    assert (row.corrected_by, row.reason) == ("chief", "notice 26-118")


def test_a_correction_that_is_withdrawn_gives_the_calendar_its_word_back() -> None:
    write_sessions(TUESDAY, usual)
    correct("closed")
    correct("", reason="it was another exchange's notice")

    assert sessions_of(["ES"], chicago(2026, 11, 26, 12))["ES"].open is True


def test_a_day_that_no_calendar_wrote_can_be_told_by_an_operator() -> None:
    correct("09:00-10:00", day=date(2028, 7, 4))

    assert sessions_of(["ES"], chicago(2028, 7, 4, 9, 30))["ES"].open is True
    assert sessions_of(["ES"], chicago(2028, 7, 5, 9, 30))["ES"].open is None


@pytest.mark.parametrize(("hours", "reason"), [("noon", "notice 1"), ("closed", "  ")])
def test_a_correction_that_makes_no_sense_or_has_no_reason_changes_nothing(
    hours: str, reason: str
) -> None:
    with pytest.raises(HoursRefused):
        correct(hours, reason=reason)

    assert not SessionDay.objects.exists()


def test_every_market_is_told_of_with_one_query() -> None:
    write_sessions(TUESDAY, usual)
    markets = list(CanonicalInstrument.objects.values_list("symbol", flat=True))

    with CaptureQueriesContext(connection) as queries:
        told = sessions_of([*markets, "", "NO_SUCH"], TUESDAY)

    assert len(queries) == 1
    assert {told[market].open for market in markets} == {True}
    assert told[""].open is None
    assert told["NO_SUCH"].open is None


def test_without_any_session_written_a_market_is_not_known_and_that_is_not_closed() -> None:
    told = sessions_of(["ES"], TUESDAY)["ES"]

    assert (told.open, told.next_change_at) == (None, None)


def test_the_status_tells_of_each_markets_session() -> None:
    write_sessions(NOW, usual)
    a_sweep_finished()
    a_passing_market("ES")
    a_passing_market("XX")
    a_held_lease("NQ")

    sessions = {row["market"]: row["session"] for row in snapshot(NOW)["markets"]}

    assert sessions["ES"] == {"open": True, "next_change_at": chicago(2026, 3, 2, 16)}
    assert sessions["NQ"] == sessions["ES"]
    assert sessions["XX"] == {"open": None, "next_change_at": None}


def test_sessions_are_written_once_a_day_and_at_once_for_a_new_calendar() -> None:
    assert sessions_are_due(TUESDAY)
    write_sessions(TUESDAY, usual)
    assert not sessions_are_due(TUESDAY + timedelta(hours=23))
    assert sessions_are_due(TUESDAY + timedelta(hours=24))

    CanonicalInstrument.objects.filter(symbol="ES").update(calendar_key="CME_Equity")
    assert sessions_are_due(TUESDAY + timedelta(minutes=1))


@pytest.mark.parametrize("failure", [UnknownCalendar, NotImplementedError])
def test_a_calendar_that_nobody_has_or_can_make_costs_only_its_own_markets(
    failure: type[Exception],
) -> None:
    CanonicalInstrument.objects.filter(symbol="ES").update(calendar_key="MOON")

    def hours_of(key: str, first: date, last: date) -> dict[date, str]:
        if key == "MOON":
            raise failure(key)
        return usual(key, first, last)

    written = write_sessions(TUESDAY, hours_of)

    assert written.unknown == ["MOON"]
    told = sessions_of(["ES", "NQ"], TUESDAY)
    assert (told["ES"].open, told["NQ"].open) == (None, True)


def test_days_long_past_are_forgotten() -> None:
    old = SessionDay.objects.create(calendar_key=EQUITY, day=date(2025, 1, 2), hours="closed")
    write_sessions(TUESDAY, usual)

    assert not SessionDay.objects.filter(pk=old.pk).exists()


@pytest.mark.django_db(transaction=True)
def test_the_periodic_task_writes_them_and_leaves_a_sign_of_life() -> None:
    tasks.write_market_sessions.apply().get()

    assert SessionDay.objects.filter(calendar_key=EQUITY).count() == 66
    assert TaskHeartbeat.objects.get(task=SESSIONS).finished_at is not None
    SessionDay.objects.update(hours="closed")

    tasks.write_market_sessions.apply().get()

    assert set(SessionDay.objects.values_list("hours", flat=True)) == {"closed"}


def test_the_command_writes_and_shows(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("sessions")
    assert f"{EQUITY}: written until " in capsys.readouterr().out

    call_command("sessions", "--show", "MES")

    said = capsys.readouterr().out
    assert said.startswith("ES is ")
    assert len(said.splitlines()) == 16


def test_the_command_says_which_calendar_nobody_has() -> None:
    CanonicalInstrument.objects.filter(symbol="ES").update(calendar_key="MOON")

    with pytest.raises(CommandError, match="There is no calendar 'MOON'"):
        call_command("sessions")

    with pytest.raises(CommandError, match="NOPE"):
        call_command("sessions", "--show", "NOPE")


@pytest.fixture
def page_of(client: Client) -> Callable[..., Client]:
    def as_user(*permissions: str) -> Client:
        user = User.objects.create_user("chief", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client.force_login(user)
        return client

    return as_user


def test_an_operator_corrects_a_day_in_the_admin_and_it_is_kept_who_did(
    page_of: Callable[..., Client],
) -> None:
    write_sessions(TUESDAY, usual)
    row = SessionDay.objects.get(calendar_key=EQUITY, day=THANKSGIVING)
    page = page_of("view_sessionday", "operate")
    address = reverse("admin:watchdog_sessionday_change", args=[row.pk])

    refused = page.post(address, {"corrected_hours": "noon", "reason": "notice"})
    assert "not a span of hours" in refused.content.decode()
    done = page.post(address, {"corrected_hours": "00:00-12:00", "reason": "notice 26-118"})

    assert done.status_code == 302
    row.refresh_from_db()
    assert (row.corrected_hours, row.corrected_by) == ("00:00-12:00", "chief")
    assert row.hours == "00:00-16:00 17:00-24:00"
    (entry,) = LogEntry.objects.all()
    assert "Corrected hours" in entry.get_change_message()


def test_an_operator_adds_a_day_in_the_admin(page_of: Callable[..., Client]) -> None:
    page = page_of("view_sessionday", "operate")
    told = {"calendar_key": EQUITY, "day": "2028-01-03", "reason": "day of mourning"}
    address = reverse("admin:watchdog_sessionday_add")

    refused = page.post(address, told | {"corrected_hours": ""})
    assert "Give the hours of this day" in refused.content.decode()
    done = page.post(address, told | {"corrected_hours": "closed"})

    assert done.status_code == 302
    assert SessionDay.objects.get(day=date(2028, 1, 3)).corrected_hours == "closed"
    assert LogEntry.objects.count() == 1


def test_a_day_is_told_of_a_calendar_that_a_market_names_and_of_no_other(
    page_of: Callable[..., Client],
) -> None:
    page = page_of("view_sessionday", "operate")
    told = {"calendar_key": "MOON", "day": "2028-01-03", "corrected_hours": "closed", "reason": "x"}

    refused = page.post(reverse("admin:watchdog_sessionday_add"), told)

    assert "MOON is not one of the available choices" in refused.content.decode()
    assert not SessionDay.objects.exists()


def test_the_list_begins_today_and_can_be_narrowed_to_corrections(
    page_of: Callable[..., Client],
) -> None:
    today = timezone.localdate()
    for days, corrected in ((-2, ""), (0, ""), (2, "closed")):
        SessionDay.objects.create(
            calendar_key=EQUITY,
            day=today + timedelta(days=days),
            hours="00:00-16:00",
            corrected_hours=corrected,
        )
    page = page_of("view_sessionday")
    address = reverse("admin:watchdog_sessionday_changelist")

    def listed(query: str) -> int:
        return len(page.get(address + query).context["cl"].result_list)

    assert [listed(""), listed("?days=all"), listed("?days=corrected")] == [2, 3, 1]


def test_a_calendar_that_nobody_has_is_refused_where_it_is_entered(
    page_of: Callable[..., Client],
) -> None:
    page = page_of("view_canonicalinstrument", "change_canonicalinstrument")
    market = CanonicalInstrument.objects.get(symbol="ES")
    address = reverse("admin:identity_canonicalinstrument_change", args=[market.pk])
    told = {"name": "E-mini", "exchange": "CME", "lease_ttl": "15"}

    refused = page.post(address, told | {"calendar_key": "CME Globex Equities"})
    assert "There is no calendar &#x27;CME Globex Equities&#x27;" in refused.content.decode()
    for key in ("CME_Equity", ""):
        assert page.post(address, told | {"calendar_key": key}).status_code == 302
        market.refresh_from_db()
        assert market.calendar_key == key


def test_who_may_only_look_changes_no_session(page_of: Callable[..., Client]) -> None:
    write_sessions(TUESDAY, usual)
    row = SessionDay.objects.get(calendar_key=EQUITY, day=THANKSGIVING)
    address = reverse("admin:watchdog_sessionday_change", args=[row.pk])

    answer = page_of("view_sessionday").post(
        address, {"corrected_hours": "closed", "reason": "because"}
    )

    assert answer.status_code == 403
    row.refresh_from_db()
    assert row.corrected_hours == ""
