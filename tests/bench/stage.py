"""What a measurement runs against: databases and services of its own, with durability on."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.postgres import PostgresServer
from tests.server import ROOT, START_SECONDS, free_port

DURABLE = ("fsync=on", "synchronous_commit=on", "full_page_writes=on")


@contextmanager
def postgres() -> Iterator[str]:
    """A new server; yields its DATABASE_URL."""
    server = PostgresServer()
    try:
        server.start(*DURABLE)
        yield server.url
    finally:
        server.remove()


@contextmanager
def redis() -> Iterator[int | None]:
    """A Redis that writes each command to disk before it answers; its port, None where absent."""
    program = shutil.which("redis-server")
    if program is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="watchdog-redis-") as folder:
        port = free_port()
        process = subprocess.Popen(
            [
                program, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder,
                "--appendonly", "yes", "--appendfsync", "always", "--save", "",
            ],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            _wait_for_port(port, process)
            yield port
        finally:
            process.terminate()
            process.wait(10)


@contextmanager
def etcd() -> Iterator[int | None]:
    """etcd with its HTTP gateway; its port, None where etcd or its Python client is absent."""
    program = shutil.which("etcd")
    if program is None or importlib.util.find_spec("etcd3gw") is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="watchdog-etcd-") as folder:
        port, peer = free_port(), free_port()
        address = f"http://127.0.0.1:{port}"
        process = subprocess.Popen(
            [
                program, "--data-dir", folder, "--log-level", "error",
                "--listen-client-urls", address, "--advertise-client-urls", address,
                "--listen-peer-urls", f"http://127.0.0.1:{peer}",
                "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}",
                "--initial-cluster", f"default=http://127.0.0.1:{peer}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            _wait_for_port(port, process)
            yield port
        finally:
            process.terminate()
            process.wait(10)


@contextmanager
def web(
    application: str, environment: dict[str, str], *, workers: int = 2, healthy: str = "/healthz"
) -> Iterator[int]:
    """granian with `application`; yields its port."""
    port = free_port()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "granian", "--interface", "wsgi", "--no-ws",
                "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning",
                "--workers", str(workers), "--blocking-threads", "8", application,
            ],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
        )  # fmt: skip
        try:
            _wait_for_answer(f"http://127.0.0.1:{port}{healthy}", process)
            yield port
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args} did not start")
        time.sleep(0.05)


def _wait_for_answer(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=2):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{url} does not answer")
        time.sleep(0.05)


def set_up_django(home: Path, database_url: str | None) -> None:
    """This process on a new, migrated, seeded database; once in a process."""
    os.environ["WATCHDOG_HOME"] = str(home)
    os.environ["DJANGO_SETTINGS_MODULE"] = "watchdog_project.settings"
    os.environ["WATCHDOG_LOG_LEVEL"] = "ERROR"
    os.environ.pop("DATABASE_URL", None)
    if database_url:
        os.environ["DATABASE_URL"] = database_url
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connections

    from identity.registry import seed_registry
    from locks.connections import close_lease_connections

    call_command("migrate", interactive=False, verbosity=0)
    seed_registry()
    # Clients are forked: they must find no connection.
    close_lease_connections()
    connections.close_all()
    for alias in connections:
        if getattr(connections[alias], "close_pool", None):
            connections[alias].close_pool()  # type: ignore[attr-defined]
