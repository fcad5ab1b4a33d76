"""`manage.py api_key`: make, list and revoke API keys."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from watchdog_project.api_keys import (
    ApiKeyRefused,
    create_api_key,
    list_api_keys,
    revoke_api_key,
)
from watchdog_project.models import ApiKey, Role


class Command(BaseCommand):
    help = "Make, list and revoke the keys that robots and programs call the API with."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        create = actions.add_parser("create", help="print a new key, alone on standard output")
        create.add_argument("name", help="who will use it; unique, also among revoked keys")
        create.add_argument(
            "--role", default=Role.ROBOT.value, help=f"{', '.join(Role.values)}; default: robot"
        )
        actions.add_parser("list", help="every key, without its secret")
        revoke = actions.add_parser("revoke", help="end a key for good")
        revoke.add_argument("name")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        try:
            if action == "create":
                self._create(options["name"], options["role"])
            elif action == "revoke":
                self._revoke(options["name"])
            else:
                self._list()
        except ApiKeyRefused as refused:
            raise CommandError(str(refused)) from refused

    def _create(self, name: str, role: str) -> None:
        key = create_api_key(name, role)
        self.stderr.write(
            f"Key {name!r} with the role {role}. It is shown this once: keep it safe."
        )
        self.stdout.write(key)

    def _revoke(self, name: str) -> None:
        key = revoke_api_key(name, timezone.now())
        self.stderr.write(
            f"Key {key.name!r} is revoked: who uses it is refused from now on, and a robot that "
            "holds a lease with it loses that at its next renewal."
        )

    def _list(self) -> None:
        for key in list_api_keys():
            self.stdout.write(_line(key))


def _line(key: ApiKey) -> str:
    made = f"{timezone.localtime(key.created_at):%Y-%m-%d %H:%M}"
    revoked = (
        f"revoked {timezone.localtime(key.revoked_at):%Y-%m-%d %H:%M}"
        if key.revoked_at
        else "in force"
    )
    return f"{key.prefix}  {key.role:<8}  made {made}  {revoked}  {key.name}"
