"""Acceptance: the production settings on PostgreSQL and Redis, with two of everything but beat."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.robot import Robot
from tests.postgres import PostgresServer
from tests.redis_server import RedisServer
from tests.server import ROOT, Server, Template

FASTER_BEAT = """
from django_celery_beat.models import IntervalSchedule, PeriodicTask
second, _ = IntervalSchedule.objects.get_or_create(every=1, period="seconds")
for task in PeriodicTask.objects.filter(interval__isnull=False):
    task.interval = second
    task.save()
print(PeriodicTask.objects.filter(interval=second).count())
"""
OVERLAPS = """
from locks.models import Tenure
ends = {}
for tenure in Tenure.objects.filter(lock__kind="pipeline_run").order_by("fencing_token"):
    last = ends.get(tenure.lock_id)
    assert last is None or last <= tenure.acquired_at, tenure
    ends[tenure.lock_id] = tenure.ended_at
print(len(ends))
"""


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
        self.workers = [
            self.celery(web, "worker", "--pool", "threads", "--concurrency", "2", "--queues",
                        "watchdog,sweep", "--without-gossip", "--without-mingle")
            for web in self.webs
        ]  # fmt: skip
        self.beat = self.celery(self.webs[0], "beat", "--max-interval", "1", "--pidfile=")

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


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("DATABASE_URL", "")
    broker = RedisServer()
    database = PostgresServer()
    made: Site | None = None
    try:
        broker.start()
        database.start("fsync=off")
        made = Site(tmp_path, database, broker)
        made.start()
        yield made
    finally:
        if made is not None:
            made.stop()
        database.remove()
        broker.remove()


@pytest.mark.timeout(240)
def test_two_hosts_share_one_authority_and_go_on_when_a_worker_the_broker_or_the_database_restarts(
    site: Site, tmp_path: Path
) -> None:
    first, second = site.webs
    for trader in ("trader-1", "trader-2"):
        (tmp_path / trader).mkdir()
    robot = Robot("MES", tmp_path / "trader-1", first).trading()
    refused = Robot("ES", tmp_path / "trader-2", second)
    try:
        assert refused.process.wait(30) == 75, "the other host's web process knows of it"
        wait_for(lambda: beats_every_second(first), 60, site.said)
        site.sweeps_again()

        site.workers[0].send_signal(signal.SIGTERM)
        assert site.workers[0].wait(30) == 0
        site.sweeps_again()

        site.broker.stop()
        site.broker.start()
        site.sweeps_again()

        site.database.stop()
        site.database.start("fsync=off")
        wait_for(lambda: all(answers(web) for web in site.webs), 20, site.said)
        site.sweeps_again()
        assert robot.process.poll() is None, "and the robot never noticed"
        done = second.manage("shell", "-v", "0", "-c", OVERLAPS)
        assert int(done.stdout) >= 2, done.stderr
    finally:
        robot.close()
        refused.close()


def beats_every_second(web: Server) -> bool:
    """Beat writes its schedule down as it starts; from then on it can be changed."""
    done = web.manage("shell", "-v", "0", "-c", FASTER_BEAT)
    assert done.returncode == 0, done.stderr
    return int(done.stdout) >= 3


def answers(web: Server) -> bool:
    status, _ = web.request("GET", "/readyz")
    return status == 200
