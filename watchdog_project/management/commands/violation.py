"""An operator's word on an open violation: acknowledged, accepted for a time, or mended."""

from __future__ import annotations

import getpass
from datetime import datetime, time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from django.utils.dateparse import parse_date

from identity.errors import IdentityRefused
from identity.operators import accept_violation, acknowledge_violation, mend_violation

DONE = {"acknowledge": "acknowledged", "accept": "accepted", "mend": "mended"}


class Command(BaseCommand):
    help = "Acknowledge, accept or mend an open violation; `explain MARKET` tells their numbers."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=list(DONE))
        parser.add_argument("number", type=int)
        parser.add_argument("--reason", default="", help="kept, and shown to who comes next")
        parser.add_argument("--until", help="the first day on which it is red again: 2026-05-01")

    def handle(self, *args: Any, **options: Any) -> None:
        who: dict[str, Any] = {
            "by": getpass.getuser(),
            "reason": options["reason"].strip(),
            "now": timezone.now(),
        }
        number: int = options["number"]
        try:
            if options["action"] == "accept":
                accept_violation(number, until=_morning_of(options["until"]), **who)
            elif options["action"] == "mend":
                mend_violation(number, **who)
            else:
                acknowledge_violation(number, **who)
        except IdentityRefused as refused:
            raise CommandError(f"{refused.code}: {refused.detail}") from None
        self.stdout.write(f"Violation {number}: {DONE[options['action']]} by {who['by']}.")


def _morning_of(written: str | None) -> datetime:
    try:
        day = parse_date(written or "")
    except ValueError:
        day = None
    if day is None:
        raise CommandError("Say until when, as a day: --until 2026-05-01.")
    return timezone.make_aware(datetime.combine(day, time()))
