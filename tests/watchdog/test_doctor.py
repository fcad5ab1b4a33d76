"""The doctor sees what is wrong, says what to do, and is content where nothing is."""

from __future__ import annotations

import os
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone

from identity.models import LogFolder
from identity.registry import seed_registry
from locks.models import KillSwitch, LockRecord
from locks.services import distrust_database
from tests.redis_server import RedisServer
from tests.server import Server, free_port
from watchdog_project import doctor
from watchdog_project.api_keys import create_api_key, revoke_api_key
from watchdog_project.heartbeat import REAP, SWEEP
from watchdog_project.models import SessionDay, TaskHeartbeat
from watchdog_project.sessions import write_sessions


@pytest.fixture
def healthy(transactional_db: None) -> None:
    KillSwitch.objects.get_or_create(market="")
    for task, interval in ((SWEEP, 60), (REAP, 15)):
        TaskHeartbeat.objects.create(task=task, interval=interval, finished_at=timezone.now())


def sick() -> dict[str, str]:
    return {one.part: f"{one.told} {one.remedy}" for one in doctor.examine() if not one.well}


@pytest.mark.django_db(transaction=True)
def test_sessions_that_nobody_writes_are_found_before_they_run_out(healthy: None) -> None:
    seed_registry()
    assert "Run `manage.py sessions`" in sick()["sessions"]

    write_sessions(timezone.now())
    assert "sessions" not in sick()

    SessionDay.objects.filter(day__gt=timezone.localdate() + timedelta(days=6)).delete()
    assert "not written: CME Globex Crypto, CME Globex Equity" in sick()["sessions"]


@pytest.mark.django_db(transaction=True)
def test_a_key_that_ends_soon_is_told_of_before_its_robot_stops(healthy: None) -> None:
    now = timezone.now()
    for name, days in (("soon", 13), ("later", 15), ("over", 1)):
        create_api_key(name, "robot", expires_at=now + timedelta(days=days), now=now)
    revoke_api_key("over", now)

    told = sick()["keys"]

    assert "'soon' ends at" in told
    assert "later" not in told
    assert "over" not in told


@pytest.mark.django_db(transaction=True)
@pytest.mark.sqlite_only
def test_a_healthy_installation_has_a_line_for_each_part_and_no_complaint(healthy: None) -> None:
    parts = [finding.part for finding in doctor.examine()]

    assert sick() == {}
    assert {
        "settings",
        "database",
        "authority",
        "commits",
        "clock",
        "broker",
        "beat",
        "folders",
        "sessions",
        "keys",
    } == set(parts)


@pytest.mark.django_db(transaction=True)
def test_a_sweep_that_is_overdue_and_a_folder_that_is_gone_are_complaints(
    healthy: None, tmp_path: Path
) -> None:
    TaskHeartbeat.objects.filter(task=SWEEP).update(
        finished_at=timezone.now() - timedelta(seconds=200), error="RuntimeError: stumbled"
    )
    LogFolder.objects.create(path=str(tmp_path / "gone"))

    told = sick()
    assert "due every 60 s, finished 200 s ago; RuntimeError: stumbled" in told["beat"]
    assert "Start a worker" in told["beat"]
    assert "gone cannot be read" in told["folders"]


@pytest.mark.django_db(transaction=True)
def test_after_a_restore_it_says_that_grants_wait_and_what_of_the_switch_is_missing(
    healthy: None,
) -> None:
    KillSwitch.objects.all().delete()
    assert "reads as engaged" in sick()["authority"]
    LockRecord.objects.create(name="ES", fencing_token=7)
    distrust_database()
    assert "no lease is granted before" in sick()["authority"]


@pytest.mark.django_db(transaction=True)
def test_a_database_that_may_forget_is_told_of_and_nothing_else_goes_unseen(healthy: None) -> None:
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA synchronous=NORMAL")
    # The tests' own PostgreSQL runs without fsync.
    assert set(sick()) == {"commits"}
    connection.close()


def doctor_beside(server: Server, **environment: str) -> subprocess.CompletedProcess[str]:
    server.environment |= environment
    return server.manage("doctor")


def test_as_a_command_it_ends_with_one_and_tells_no_secret(server: Server) -> None:
    broker = f"redis://user:hush-hush@127.0.0.1:{free_port()}/0"
    database = f"postgres://watchdog:hush-hush@127.0.0.1:{free_port()}/gone"
    done = doctor_beside(server, CELERY_BROKER_URL=broker)
    assert done.returncode == 1, done.stdout
    assert "FAIL  broker    redis does not answer" in done.stdout
    assert "FAIL  beat      sweep_identity never finished" in done.stdout

    outage = doctor_beside(server, DATABASE_URL=database)
    assert outage.returncode == 1
    assert "FAIL  database  does not answer" in outage.stdout
    assert "FAIL  beat      not looked at" in outage.stdout
    assert "Traceback" not in outage.stderr
    for said in (done, outage):
        assert "hush-hush" not in said.stdout + said.stderr


def test_a_redis_that_is_there_answers(server: Server) -> None:
    broker = RedisServer()
    try:
        broker.start()
        done = doctor_beside(server, CELERY_BROKER_URL=broker.url)
    finally:
        broker.remove()
    assert "ok    broker    redis answers" in done.stdout


@pytest.mark.skipif(os.name != "posix", reason="who may read a file is said otherwise there")
def test_a_key_that_others_can_read_is_a_complaint(server: Server) -> None:
    server.key_file.chmod(0o644)
    assert f"chmod 600 {server.key_file}" in server.manage("doctor").stdout
