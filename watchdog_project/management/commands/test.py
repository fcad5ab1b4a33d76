"""`manage.py test`: lint, types, import contracts, and every test on both databases.

With pytest arguments it runs only the tests they choose.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from django.conf import settings
from django.core.management.base import BaseCommand

NOTHING_COLLECTED = 5

CHECKS: dict[str, list[str]] = {
    "lint": ["ruff", "check", "--quiet", "."],
    "format": ["ruff", "format", "--quiet", "--check", "."],
    "types": ["mypy"],
    "types of the guard on Windows": ["mypy", "--platform", "win32", "-p", "canonical_guard"],
    "migrations are complete": ["manage.py", "makemigrations", "--check", "--dry-run"],
}
RUNS: dict[str, list[str]] = {
    "tests on SQLite": ["-m", "not browser", "--database", "sqlite"],
    "tests on PostgreSQL": ["-m", "not browser", "--database", "postgres"],
    "tests in a browser": ["-m", "browser", "--database", "sqlite"],
}


class Command(BaseCommand):
    help = "Run every check and every test; arguments go to pytest and then choose the tests."

    def run_from_argv(self, argv: list[str]) -> None:
        if "--help" in argv[2:3]:
            super().run_from_argv(argv)
            return
        sys.exit(run_everything(argv[2:]))


def run_everything(pytest_arguments: Sequence[str], root: Path = settings.BASE_DIR) -> int:
    """0 when all that ran passed, else 1; what failed is named at the end."""
    if importlib.util.find_spec("pytest") is None:
        print("The tests need more: pip install -r requirements-dev.txt", file=sys.stderr)
        return 1
    failed: list[str] = []
    if not pytest_arguments:
        failed += [name for name, command in CHECKS.items() if not _check(name, command, root)]
    statuses = {
        name: _step(name, ["pytest", *fixed, *pytest_arguments], root)
        for name, fixed in RUNS.items()
    }
    nothing = [name for name, status in statuses.items() if status == NOTHING_COLLECTED]
    failed += [name for name, status in statuses.items() if status not in (0, NOTHING_COLLECTED)]
    if len(nothing) == len(RUNS) or (nothing and not pytest_arguments):
        failed += [f"{name} (no test was found)" for name in nothing]
    print(f"\nFAILED: {'; '.join(failed)}" if failed else "\nAll passed.", flush=True)
    return 1 if failed else 0


def _check(name: str, command: Sequence[str], root: Path) -> bool:
    return _step(name, command, root) == 0


def _step(name: str, command: Sequence[str], root: Path) -> int:
    program, *rest = command
    start = [sys.executable] if program.endswith(".py") else [sys.executable, "-m"]
    parallel = ["-n", "2"] if program == "pytest" else []
    print(f"== {name}", flush=True)
    began = time.monotonic()
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("DATABASE_URL", None)
    status = subprocess.run(
        [*start, program, *rest, *parallel], cwd=root, env=environment, check=False
    ).returncode
    print(f"== {name}: {time.monotonic() - began:.0f} s", flush=True)
    return status
