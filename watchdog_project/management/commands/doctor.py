"""Check this installation: a line for each part, and what to do."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand

from watchdog_project import doctor


class Command(BaseCommand):
    help = "Check settings, clock, database, broker, beat and folders; exit 0 if all are well."
    # What is wrong with the settings is one of the findings.
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        sick = False
        for finding in doctor.examine():
            verdict = "ok  " if finding.well else "FAIL"
            self.stdout.write(f"{verdict}  {finding.part:<8}  {finding.told}")
            if not finding.well:
                self.stdout.write(f"                {finding.remedy}")
                sick = True
        sys.exit(1 if sick else 0)
