"""Follow the robots' log folders."""

from __future__ import annotations

import gc
import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from identity.tailer import Tailer, follow_folder, run
from watchdog_project.handover import tenure_facts


class Command(BaseCommand):
    help = "Follow robot_*.jsonl in the configured log folders until it is told to stop."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folders", nargs="*", help="folders to follow from now on")
        parser.add_argument("--scope", default="", help="what their events are exclusive within")
        parser.add_argument("--host", default="", help="the machine whose robots write there")
        parser.add_argument("--once", action="store_true", help="read what is there and end")

    def handle(self, *args: Any, **options: Any) -> None:
        # What is loaded by now stays: no use in looking at it again with every thousand lines.
        gc.freeze()
        for folder in options["folders"]:
            follow_folder(folder, options["scope"], options["host"])
        tailer = Tailer(tenure_facts)
        if options["once"]:
            total = tailer.catch_up(timezone.now())
            self.stdout.write(
                f"{total.accepted} accepted, {total.duplicates} duplicates, "
                f"{total.rejections} rejected"
            )
            return
        stop = threading.Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda *_: stop.set())
        run(tailer, timezone.now, stop.wait)
