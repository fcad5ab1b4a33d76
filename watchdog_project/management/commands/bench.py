"""`manage.py bench`: how fast we are, side by side with others."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

NEEDED = ("psutil", "redis", "tests.bench")


class Command(BaseCommand):
    help = "Measure side by side with others; needs what requirements-dev.txt lists."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("names", nargs="*", metavar="NAME", help="measure these parts only")
        parser.add_argument("--quick", action="store_true", help="in under a minute")
        parser.add_argument("--json", metavar="FILE", help="write what was measured there")

    def handle(self, *args: Any, **options: Any) -> None:
        missing = [name for name in NEEDED if not _is_there(name)]
        if missing:
            raise CommandError(
                f"To measure, {', '.join(missing)} must be there: "
                "pip install -r requirements-dev.txt, in a checkout with its tests."
            )
        command = [sys.executable, "-m", "tests.bench", *options["names"]]
        if options["quick"]:
            command.append("--quick")
        if options["json"]:
            command += ["--json", options["json"]]
        done = subprocess.run(command, cwd=settings.BASE_DIR, check=False)
        if done.returncode:
            raise SystemExit(done.returncode)


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
