"""Two hosts that share a PostgreSQL and a Redis, with the production settings: real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.postgres import PostgresServer
from tests.redis_server import RedisServer
from tests.server import ROOT, Server, Template


class Site:
    """Two hosts with a web process and a worker each, one of them with beat as well."""

    def __init__(self, folder: Path, database: PostgresServer, broker: RedisServer) -> None:
        self.database, self.broker = database, broker
        os.environ["DATABASE_URL"] = database.url
        template = Template(folder / "template")
        self.webs = [Server(template, folder / f"host{number}") for number in (1, 2)]
        production = {
            "WATCHDOG_PRODUCTION": "1",
            "SECRET_KEY": "a secret of this test's own, long enough to be one: 0123456789",
            "ALLOWED_HOSTS": "127.0.0.1",
            "CELERY_BROKER_URL": broker.url,
            "DATABASE_URL": self.webs[0].environment["DATABASE_URL"],
            "SECURE_SSL_REDIRECT": "0",
        }
        for web in self.webs:
            web.environment |= production
        self.programs: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        for web in self.webs:
            web.start()
        self.workers = [self.worker(web) for web in self.webs]
        self.beat = self.celery(self.webs[0], "beat", "--max-interval", "1", "--pidfile=")

    def worker(self, host: Server) -> subprocess.Popen[bytes]:
        return self.celery(
            host, "worker", "--pool", "threads", "--concurrency", "2", "--queues",
            "watchdog,sweep", "--without-gossip", "--without-mingle",
        )  # fmt: skip

    def celery(self, host: Server, role: str, *options: str) -> subprocess.Popen[bytes]:
        with (host.home / f"{role}.log").open("ab") as log:
            program = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "watchdog_project", "--quiet", role,
                 "--loglevel", "INFO", *options],
                cwd=ROOT, env=host.environment, stdout=log, stderr=log,
            )  # fmt: skip
        self.programs.append(program)
        return program

    def sweeps(self) -> list[str]:
        """When the last sweep ended, as each web process tells it."""
        told = []
        for web in self.webs:
            with urllib.request.urlopen(f"{web.url}/readyz", timeout=10) as answer:
                told.append(json.load(answer)["last_sweep_at"] or "")
        return told

    def sweeps_again(self, seconds: float = 40) -> None:
        # The first to come may have been under way already.
        for _ in range(2):
            before = max(self.sweeps())
            wait_for(lambda before=before: min(self.sweeps()) > before, seconds, self.said)  # type: ignore[misc]

    def said(self) -> str:
        logs = [path for web in self.webs for path in web.home.glob("*.log")]
        return "\n".join(f"== {path}\n{path.read_text()[-3000:]}" for path in logs)

    def stop(self) -> None:
        for program in self.programs:
            program.terminate()
        for program in self.programs:
            try:
                program.wait(20)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()
        for web in self.webs:
            web.stop()


def wait_for(happened: Callable[[], Any], seconds: float, said: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, said()
        time.sleep(0.1)


@contextmanager
def running_site(folder: Path) -> Iterator[Site]:
    """A site with servers of its own."""
    with ExitStack() as ending:
        broker, database = RedisServer(), PostgresServer()
        ending.callback(broker.remove)
        ending.callback(database.remove)
        broker.start()
        database.start("fsync=off")
        site = Site(folder, database, broker)
        ending.callback(site.stop)
        site.start()
        yield site
