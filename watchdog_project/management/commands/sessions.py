"""Market sessions from the command line: write them now, or show a market's."""

from __future__ import annotations

import argparse
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from canonical_guard.errors import UnknownInstrument
from identity.models import CanonicalInstrument
from identity.registry import load_registry
from watchdog_project.market_hours import CHICAGO, Session
from watchdog_project.models import SessionDay
from watchdog_project.sessions import sessions_of, write_sessions

SHOWN = timedelta(days=14)
WORDS = {True: "open", False: "closed", None: "not known"}


class Command(BaseCommand):
    help = "Write the market sessions of the coming 60 days now; --show MARKET only shows them."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--show", metavar="MARKET", help="the hours of its next two weeks")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["show"]:
            self._show(options["show"])
            return
        written = write_sessions(timezone.now())
        for key, until in written.until.items():
            self.stdout.write(f"{key}: written until {until}")
        if written.unknown:
            names = ", ".join(repr(key) for key in written.unknown)
            raise CommandError(
                f"There is no calendar {names}; correct the calendar key of the markets that name "
                "it, under Canonical markets. Until then their sessions are not known."
            )

    def _show(self, symbol: str) -> None:
        try:
            market = load_registry().resolve(symbol).canonical_instrument
        except UnknownInstrument as reason:
            raise CommandError(str(reason)) from reason
        now = timezone.now()
        self.stdout.write(_sentence(market, sessions_of([market], now)[market]))
        today = now.astimezone(CHICAGO).date()
        key = CanonicalInstrument.objects.get(symbol=market).calendar_key
        for row in SessionDay.objects.filter(
            calendar_key=key, day__range=(today, today + SHOWN)
        ).order_by("day"):
            note = f"  corrected by {row.corrected_by}" if row.corrected_hours else ""
            hours = row.corrected_hours or row.hours or "not known"
            self.stdout.write(f"{row.day:%a %Y-%m-%d}  {hours}{note}")


def _sentence(market: str, session: Session) -> str:
    line = f"{market} is {WORDS[session.open]}"
    if session.next_change_at:
        line += f" until {session.next_change_at.astimezone(CHICAGO):%a %Y-%m-%d %H:%M %Z}"
    elif session.open is None:
        line += ": no session is written for this time; `manage.py sessions` writes them"
    return f"{line}."
