"""`manage.py up`: the whole product in one terminal."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from kombu.exceptions import KombuError

from watchdog_project import demo, first_start, tasks
from watchdog_project.home import HomeInUse, hold_home
from watchdog_project.supervisor import Program, Supervisor

logger = logging.getLogger(__name__)

READY_SECONDS = 60.0
FIRST_TASK_EXPIRES = 600


class Command(BaseCommand):
    help = "Migrate, seed, and run web, worker, beat and the log tailer until Ctrl-C."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--bind", default="127.0.0.1", help="address to listen on")
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument(
            "--robot-logs",
            action="append",
            default=[],
            metavar="DIR",
            help="follow the robot logs of this folder; may be given again",
        )
        parser.add_argument(
            "--demo",
            action="store_true",
            help="add simulated robots: one that executes ES with MES, and a rival that is refused",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        folders = [_existing_folder(name) for name in options["robot_logs"]]
        _require_free_port(options["bind"], options["port"])
        try:
            with hold_home(settings.WATCHDOG_HOME):
                self._run(options["bind"], options["port"], folders, with_demo=options["demo"])
        except HomeInUse as exc:
            raise CommandError(str(exc)) from exc

    def _run(self, bind: str, port: int, folders: list[Path], *, with_demo: bool) -> None:
        call_command("migrate", interactive=False, verbosity=0)
        address = f"http://{_in_url(bind)}:{port}"
        # Messages link to where people reach this; a proxy's address is given from outside.
        os.environ.setdefault("WATCHDOG_URL", address)
        demo_folder = settings.WATCHDOG_HOME / "demo"
        if with_demo:
            demo_folder.mkdir(exist_ok=True)
            folders = [*folders, demo_folder]
        prepared = first_start.prepare(settings.WATCHDOG_HOME, folders)
        # What was known before the last end is old; the first sweep of beat is a minute away.
        tasks.sweep_identity()
        _ask_for_sessions()
        # Children have connections of their own; a forked or idle one of ours helps nobody.
        connections.close_all()
        running = programs(bind, port)
        if with_demo:
            running += [
                Program(role, demo.command(role, address, prepared.robot_key, demo_folder))
                for role in ("robot", "rival")
            ]
        supervisor = Supervisor(running, sys.stdout)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: supervisor.stop())
        supervisor.run(lambda: _announce(supervisor, address, prepared))


def programs(bind: str, port: int) -> list[Program]:
    """What `up` runs, as commands."""
    python = sys.executable
    celery = [python, "-m", "celery", "-A", "watchdog_project", "--quiet"]
    return [
        Program(
            "web",
            [
                python, "-m", "granian", "--interface", "wsgi", "--no-ws",
                "--host", bind, "--port", str(port), "--log-level", "warning",
                "--workers", "1", "--blocking-threads", "4",
                "watchdog_project.wsgi:application",
            ],
        ),
        Program(
            "worker",
            [
                *celery, "worker", "--loglevel", "INFO", "--pool", "threads", "--concurrency", "6",
                "--queues", "watchdog,sweep", "--without-gossip", "--without-mingle",
                "--without-heartbeat",
            ],
        ),
        Program("beat", [*celery, "beat", "--loglevel", "INFO", "--pidfile="]),
        Program("tail", [python, "manage.py", "tail"]),
    ]  # fmt: skip


def _ask_for_sessions() -> None:
    """Let the worker write them once it is up; nobody waits for the calendars' library to load."""
    try:
        tasks.write_market_sessions.apply_async(expires=FIRST_TASK_EXPIRES, retry=False)
    except (KombuError, OSError):
        # The worker waits for its broker, and the task comes again within the hour.
        logger.warning("The broker does not answer yet; market sessions come within the hour.")


def _announce(supervisor: Supervisor, address: str, prepared: first_start.Prepared) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and not supervisor.stopping.is_set():
        try:
            with urllib.request.urlopen(f"{address}/healthz", timeout=2):  # noqa: S310 ours
                break
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    else:
        return
    supervisor.say("up", f"Watchdog is at {address}/admin/")
    if prepared.password:
        supervisor.say(
            "up", f"Log in as {prepared.operator!r} with the password {prepared.password}"
        )
        supervisor.say("up", "(shown this once; `manage.py changepassword` sets another)")
    supervisor.say("up", f"The robots' API key is in {prepared.robot_key}")
    supervisor.say("up", "Ctrl-C ends everything.")


def _existing_folder(name: str) -> Path:
    folder = Path(name).expanduser().resolve()
    if not folder.is_dir():
        raise CommandError(f"--robot-logs {name}: there is no such folder.")
    return folder


def _require_free_port(bind: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            if sys.platform != "win32":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((bind, port))
    except (OSError, OverflowError) as exc:
        raise CommandError(
            f"Cannot listen on {bind} port {port} ({exc}): is it running already? "
            "Another port: --port 8001."
        ) from exc


def _in_url(bind: str) -> str:
    if bind in ("0.0.0.0", "::"):  # noqa: S104 compared, not bound
        return "127.0.0.1"
    return f"[{bind}]" if ":" in bind else bind
