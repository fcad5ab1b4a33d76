"""What each release needs before its processes start; `up` does the same by itself."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand

from watchdog_project import first_start


class Command(BaseCommand):
    help = (
        "Migrate and, the first time, seed the instruments and make the first operator and robot "
        "key. Run it on one host, before the processes of a new release start."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", interactive=False, verbosity=options["verbosity"])
        prepared = first_start.prepare(settings.WATCHDOG_HOME)
        if prepared.password:
            self.stdout.write(
                f"Log in as {prepared.operator!r} with the password {prepared.password} "
                "(shown this once)."
            )
        self.stdout.write(f"The robots' API key is in {prepared.robot_key}")
