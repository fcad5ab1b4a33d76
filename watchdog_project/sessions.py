"""Market sessions: written for the coming 60 days, corrected by operators, asked for in bulk."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from django.db import transaction
from django.db.models import Case, CharField, DateField, F, Max, TextField, Value, When

from identity.models import CanonicalInstrument
from watchdog_project.market_hours import (
    CHICAGO,
    UNKNOWN,
    HoursRefused,
    Session,
    format_hours,
    parse_hours,
    session_at,
)
from watchdog_project.models import SessionDay

logger = logging.getLogger(__name__)

AHEAD = timedelta(days=60)
# A picture of the last day, and what is open since before the weekend, look back this far.
BEHIND = timedelta(days=5)
# No market is shut for so long that the next change of its session is further away.
LOOK_AHEAD = timedelta(days=10)
KEPT = timedelta(days=400)
WRITTEN_EVERY = timedelta(hours=24)

HoursOf = Callable[[str, date, date], dict[date, str]]


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: calendar -> its last day; `unknown` are calendars that nobody has."""

    until: dict[str, date] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def write_sessions(now: datetime, hours_of: HoursOf | None = None) -> Written:
    """Write the hours of every calendar of the registry for the coming 60 days.

    Corrections stay. `hours_of(calendar, first, last)` is the library's unless it is given.
    """
    # The library and pandas behind it are loaded by who writes, and by nobody else.
    from watchdog_project import calendars

    read = hours_of or calendars.hours_of
    written = Written()
    first, last = _today(now) - BEHIND, _today(now) + AHEAD
    for key in sorted(set(_calendars().values())):
        try:
            hours = read(key, first, last)
        except calendars.UnknownCalendar:
            written.unknown.append(key)
            continue
        except Exception:
            # A library is at work here; one calendar of it costs no other.
            logger.exception("The hours of %s could not be made.", key)
            written.unknown.append(key)
            continue
        SessionDay.objects.bulk_create(
            [
                SessionDay(calendar_key=key, day=day, hours=text, written_at=now)
                for day, text in hours.items()
            ],
            update_conflicts=True,
            unique_fields=["calendar_key", "day"],
            update_fields=["hours", "written_at"],
        )
        written.until[key] = last
    SessionDay.objects.filter(day__lt=_today(now) - KEPT).delete()
    return written


def sessions_are_due(now: datetime) -> bool:
    """Whether some calendar of the registry was not written within the last day."""
    fresh = SessionDay.objects.filter(
        day=_today(now) + AHEAD - timedelta(days=1), written_at__gt=now - WRITTEN_EVERY
    )
    return bool(set(_calendars().values()) - set(fresh.values_list("calendar_key", flat=True)))


def written_until() -> dict[str, date | None]:
    """Each calendar of the registry and the last day that is written of it; None: not one."""
    last = SessionDay.objects.exclude(hours="").values_list("calendar_key").annotate(Max("day"))
    known: dict[str, date] = dict(last)
    return {key: known.get(key) for key in sorted(set(_calendars().values()))}


def sessions_of(markets: Iterable[str], now: datetime) -> dict[str, Session]:
    """Whether each market trades at `now`; one query, however many markets.

    A market without a calendar, or without days written, is not known, and that is not closed.
    """
    wanted = set(markets)
    if not wanted:
        return {}
    found = CanonicalInstrument.objects.exclude(calendar_key="").order_by()
    named = found.annotate(
        market=F("symbol"), col_day=Value(None, DateField()), col_hours=Value("", TextField())
    ).values_list("calendar_key", "market", "col_day", "col_hours")
    written = (
        SessionDay.objects.filter(
            calendar_key__in=found.values("calendar_key"),
            day__range=(_today(now) - BEHIND, _today(now) + LOOK_AHEAD),
        )
        .annotate(
            market=Value("", CharField()),
            col_hours=Case(When(corrected_hours="", then=F("hours")), default=F("corrected_hours")),
        )
        .values_list("calendar_key", "market", "day", "col_hours")
    )
    calendars: dict[str, str] = {}
    days: dict[str, dict[date, str]] = defaultdict(dict)
    for key, market, day, hours in named.union(written, all=True):
        if market:
            calendars[market] = key
        elif hours:
            days[key][day] = hours
    told = {key: session_at(days[key], now) for key in days}
    return {market: told.get(calendars.get(market, ""), UNKNOWN) for market in wanted}


def correct_day(
    calendar_key: str, day: date, hours: str, *, by: str, reason: str, now: datetime
) -> SessionDay:
    """Let an operator's hours stand above the calendar's; raises HoursRefused.

    Empty hours withdraw the correction. A day that no calendar wrote can be corrected as well.
    """
    if not reason.strip():
        raise HoursRefused("Say why, and where the exchange announces it.")
    text = format_hours(parse_hours(hours, day)) if hours.strip() else ""
    with transaction.atomic():
        row, _ = SessionDay.objects.select_for_update().get_or_create(
            calendar_key=calendar_key, day=day
        )
        row.corrected_hours = text
        row.corrected_by, row.corrected_at, row.reason = by, now, reason.strip()
        row.save(update_fields=["corrected_hours", "corrected_by", "corrected_at", "reason"])
    return row


def _calendars() -> dict[str, str]:
    """Market -> its calendar, for those that have one."""
    markets = CanonicalInstrument.objects.exclude(calendar_key="")
    return dict(markets.values_list("symbol", "calendar_key"))


def _today(now: datetime) -> date:
    return now.astimezone(CHICAGO).date()
