"""`manage.py api_key`: make, list, rotate and revoke API keys."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from watchdog_project.api_keys import (
    ApiKeyRefused,
    create_api_key,
    list_api_keys,
    revoke_api_key,
    rotate_api_key,
)
from watchdog_project.audit import at_the_command_line
from watchdog_project.models import ApiKey, Role


class Command(BaseCommand):
    help = "Make, list, rotate and revoke the keys that robots and programs call the API with."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        create = actions.add_parser("create", help="print a new key, alone on standard output")
        create.add_argument("name", help="who will use it; unique, also among revoked keys")
        create.add_argument(
            "--role", default=Role.ROBOT.value, help=f"{', '.join(Role.values)}; default: robot"
        )
        create.add_argument(
            "--market",
            action="append",
            default=[],
            metavar="SYMBOL",
            help="a market that it may lock; again for more; default: all",
        )
        create.add_argument(
            "--expires",
            metavar="TIME",
            help="when it ends: a number of days, as `90`, or an ISO 8601 time with a zone",
        )
        actions.add_parser("list", help="every key, without its secret")
        rotate = actions.add_parser(
            "rotate", help="print a new secret of a key, alone on standard output"
        )
        rotate.add_argument("name")
        rotate.add_argument(
            "--grace-hours",
            type=float,
            default=24.0,
            help="how long the old secret stays good; default: 24; 0 where it has leaked",
        )
        rotate.add_argument("--reason", default="", help="kept in the audit trail")
        revoke = actions.add_parser("revoke", help="end a key for good")
        revoke.add_argument("name")
        revoke.add_argument("--reason", default="", help="kept in the audit trail")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        now = timezone.now()
        try:
            if action == "create":
                self._create(now, options)
            elif action == "rotate":
                self._rotate(now, options)
            elif action == "revoke":
                self._revoke(now, options)
            else:
                self._list(now)
        except ApiKeyRefused as refused:
            raise CommandError(str(refused)) from refused

    def _create(self, now: datetime, options: dict[str, Any]) -> None:
        name, role = options["name"], options["role"]
        key = create_api_key(
            name,
            role,
            by=at_the_command_line(),
            markets=options["market"],
            expires_at=_end(options["expires"], now),
            now=now,
        )
        self.stderr.write(
            f"Key {name!r} with the role {role}. It is shown this once: keep it safe."
        )
        self.stdout.write(key)

    def _rotate(self, now: datetime, options: dict[str, Any]) -> None:
        name, hours = options["name"], options["grace_hours"]
        try:
            grace = timedelta(hours=hours)
        except (OverflowError, ValueError):
            raise ApiKeyRefused(f"{hours} is no number of hours.") from None
        key = rotate_api_key(
            name, now, grace=grace, by=at_the_command_line(), reason=options["reason"]
        )
        self.stderr.write(
            f"Key {name!r} has a new secret. It is shown this once: keep it safe. "
            f"The old one is good for {hours:g} more hours."
        )
        self.stdout.write(key)

    def _revoke(self, now: datetime, options: dict[str, Any]) -> None:
        key = revoke_api_key(
            options["name"], now, by=at_the_command_line(), reason=options["reason"]
        )
        self.stderr.write(
            f"Key {key.name!r} is revoked: who uses it is refused within seconds, and a robot that "
            "holds a lease with it loses that at its next renewal."
        )

    def _list(self, now: datetime) -> None:
        for key in list_api_keys():
            self.stdout.write(_line(key, now))


def _end(text: str | None, now: datetime) -> datetime | None:
    if text is None:
        return None
    try:
        if text.isascii() and text.isdigit():
            return now + timedelta(days=int(text))
        moment = parse_datetime(text)
    except (OverflowError, ValueError):
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ApiKeyRefused(
            f"{text!r} is neither a number of days nor an ISO 8601 time with a zone, "
            "as 2027-01-31T00:00Z."
        )
    return moment


def _line(key: ApiKey, now: datetime) -> str:
    if key.revoked_at:
        state = f"revoked {_day(key.revoked_at)}"
    elif key.expires_at:
        state = f"{'ended' if key.expires_at <= now else 'ends'} {_day(key.expires_at)}"
    else:
        state = "in force"
    used = f"used {_day(key.last_used_at)}" if key.last_used_at else "never used"
    markets = ",".join(key.markets) or "all markets"
    made = f"made {_day(key.created_at)}"
    return f"{key.prefix}  {key.role:<8}  {made}  {state}  {used}  {markets}  {key.name}"


def _day(moment: datetime) -> str:
    return f"{timezone.localtime(moment):%Y-%m-%d %H:%M}"
