"""Acceptance: the production settings on PostgreSQL and Redis, with two of everything but beat."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.robot import Robot
from tests.hosts import Site, running_site, wait_for
from tests.server import Server

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


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("DATABASE_URL", "")
    with running_site(tmp_path) as site:
        yield site


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
