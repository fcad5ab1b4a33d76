"""Read robot logs, feed files or execution journals once."""

from __future__ import annotations

import gc
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from identity.admission import Place
from identity.batch import Outcome
from identity.ingest import ingest_file
from watchdog_project.handover import tenure_facts


class Command(BaseCommand):
    help = "Ingest robot logs, feed files or execution journals; what was read before adds nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("files", nargs="+", metavar="FILE", help="a file, or - for the input")
        parser.add_argument("--scope", default="", help="what their events are exclusive within")
        parser.add_argument("--host", default="", help="the machine whose robots wrote them")

    def handle(self, *args: Any, **options: Any) -> None:
        # What is loaded by now stays: no use in looking at it again with every thousand lines.
        gc.freeze()
        total, unreadable = Outcome(), []
        for name in options["files"]:
            try:
                outcome = self._ingest(name, options["scope"], options["host"])
            except OSError as problem:
                unreadable.append(f"{name}: {problem.strerror or problem}")
                self.stderr.write(f"{name} cannot be read: {problem.strerror or problem}.")
                continue
            self.stdout.write(f"{name}: {_counts(outcome)}")
            for rejected in outcome.rejected[:5]:
                self.stderr.write(f"  at byte {rejected.offset}: {rejected.detail}")
            total.add(outcome)
        if len(options["files"]) > 1:
            self.stdout.write(f"total: {_counts(total)}")
        if unreadable:
            raise CommandError(f"Not read: {'; '.join(unreadable)}. Check the path and try again.")

    def _ingest(self, name: str, scope: str, host: str) -> Outcome:
        if name == "-":
            return self._ingest_input(scope, host)
        path = Path(name).resolve()
        place = Place(log=str(path.parent), host=host or socket.gethostname(), scope=scope)
        return ingest_file(path, place, timezone.now(), tenure_facts, whole=True)

    def _ingest_input(self, scope: str, host: str) -> Outcome:
        # As a file it has a fingerprint and offsets, so that the same input twice counts once.
        place = Place(log="standard input", host=host or socket.gethostname(), scope=scope)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "standard-input"
            with path.open("wb") as copy:
                shutil.copyfileobj(sys.stdin.buffer, copy)
            return ingest_file(path, place, timezone.now(), tenure_facts, whole=True)


def _counts(outcome: Outcome) -> str:
    return (
        f"{outcome.accepted} accepted, {outcome.duplicates} duplicates, "
        f"{outcome.rejections} rejected"
    )
