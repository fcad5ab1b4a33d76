"""The kill switch from the command line: *no orders*, for one market or for all of them."""

from __future__ import annotations

import argparse
import getpass
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from identity.registry import load_registry
from locks.errors import LockRefused
from locks.kill_switch import set_kill_switch
from locks.models import KillSwitch


class Command(BaseCommand):
    help = "Show, engage or release the kill switch; engaged means that no order may be sent."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("action", choices=["status", "engage", "release"])
        parser.add_argument("--market", default="", help="a canonical instrument; else all markets")
        parser.add_argument("--reason", default="", help="kept, and shown to who is refused")

    def handle(self, *args: Any, **options: Any) -> None:
        market = options["market"].strip().upper()
        if market and not load_registry().is_canonical(market):
            raise CommandError(f"{market} is no canonical instrument of the registry.")
        if options["action"] != "status":
            self._set(market, options["action"] == "engage", options["reason"].strip())
        self._show(market)

    def _set(self, market: str, engaged: bool, reason: str) -> None:
        if not reason:
            raise CommandError("Say why: --reason '…'.")
        try:
            set_kill_switch(market, engaged=engaged, reason=reason, by=getpass.getuser())
        except LockRefused as refusal:
            raise CommandError(f"Nothing was switched: {refusal.detail}") from refusal

    def _show(self, market: str) -> None:
        rows = {row.market: row for row in KillSwitch.objects.order_by("market")}
        if "" not in rows:
            self.stdout.write("all markets: ENGAGED (its row is missing, which counts as engaged)")
        for row in rows.values():
            if market in ("", row.market) or row.market == "":
                self.stdout.write(_line(row))


def _line(switch: KillSwitch) -> str:
    state = "ENGAGED" if switch.engaged else "released"
    line = f"{switch}: {state}"
    if switch.changed_at is not None:
        line += f" by {switch.changed_by} at {switch.changed_at:%Y-%m-%d %H:%M:%S %Z}"
        line += f": {switch.reason}"
    return line
