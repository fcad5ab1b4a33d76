"""One sweep over every watched market, now."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from identity.status import IdentityStatus, MarketIdentity, overall
from watchdog_project.heartbeat import SWEEP, beat
from watchdog_project.history import sweep_markets

EXIT = {
    IdentityStatus.OK: 0,
    IdentityStatus.IDLE: 0,
    IdentityStatus.VIOLATION: 1,
    IdentityStatus.UNKNOWN: 2,
    IdentityStatus.STALE: 2,
}


class Command(BaseCommand):
    help = (
        "Check every watched market now; exit 0 all pass or idle, 1 violation, 2 unknown or stale."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        identities: list[MarketIdentity] = []
        # The same sign of life as the periodic sweep's: whoever sweeps, it was done.
        if not beat(SWEEP, lambda now: identities.extend(sweep_markets(now))):
            raise CommandError("The sweep failed; the message above says why.")
        for identity in identities:
            self.stdout.write(_line(identity))
        if not identities:
            self.stdout.write("UNKNOWN  no market is watched yet: nothing was ingested")
        sys.exit(EXIT[overall(identities)])


def _line(identity: MarketIdentity) -> str:
    name = identity.market or "(no market)"
    if identity.scope:
        name = f"{name}@{identity.scope}"
    parts = [f"{identity.status:<9} {name}"]
    if identity.violations:
        counts = sum(violation.count for violation in identity.violations)
        codes = ", ".join(sorted({violation.code for violation in identity.violations}))
        parts.append(f"{len(identity.violations)} open violations, seen {counts} times: {codes}")
    parts.append(identity.label or f"evidence of {identity.evidence_at:%Y-%m-%d %H:%M:%S %Z}")
    return "  ".join(parts)
