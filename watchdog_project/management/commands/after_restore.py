"""After a restore: what the backup does not know must not be granted again."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from locks.errors import LockRefused
from locks.kill_switch import set_kill_switch
from locks.services import distrust_database

REASON = "The database was restored from a backup: reconcile orders and positions, then release."


class Command(BaseCommand):
    help = (
        "Run this once after the database was restored from a backup, before anything else "
        "is started: no fencing token is given twice, and no market to a second robot."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--keep-kill-switch",
            action="store_true",
            help="do not engage the kill switch for all markets",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            # The switch first: every grant reads it under a lock, so none is under way afterwards.
            if not options["keep_kill_switch"]:
                set_kill_switch("", engaged=True, reason=REASON, by="after_restore")
            until = distrust_database()
        except LockRefused as refused:
            raise CommandError(refused.detail) from refused
        self.stdout.write(
            f"Nothing is granted before {until:%Y-%m-%d %H:%M:%S %Z}: leases that the backup does "
            "not know of are over by then."
        )
        self.stdout.write("Every market's next fencing token is above all that were given.")
        if not options["keep_kill_switch"]:
            self.stdout.write(
                "The kill switch is engaged for all markets. When orders and positions are "
                "reconciled: manage.py kill_switch release --reason '…'"
            )
        self.stdout.write(
            "As of the backup are also: API keys (one revoked since works again), the kill "
            "switches of single markets, people and their permissions. Look at them now."
        )
