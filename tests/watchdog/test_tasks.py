"""The periodic work does its work, leaves a sign of life, and survives its own failures."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from identity.models import EventOrigin, IdentityEvent, WatchedMarket
from locks.acquisition import acquire_lease
from locks.jobs import job_lease
from locks.leases import AcquireRequest
from locks.models import LockRecord, LockState, Tenure
from watchdog_project import tasks
from watchdog_project.celery import app
from watchdog_project.handover import resolve_market
from watchdog_project.heartbeat import PRUNE, REAP, SWEEP, beat
from watchdog_project.models import TaskHeartbeat

pytestmark = pytest.mark.django_db(transaction=True)

NOW = datetime(2026, 3, 2, 15, 0, 0, tzinfo=UTC)
STATUS_EVENT = "IDENTITY_INVARIANTS_STATUS"


@pytest.fixture
def es_is_executed(instruments: None) -> None:
    asked = AcquireRequest(
        execution_instrument="MES",
        canonical_instrument="ES",
        run_id="0f9c",
        nonce="ab" * 16,
        key_prefix="0123abcd",
        host="trader-1",
    )
    acquire_lease(asked, resolve_market)


def test_the_tasks_are_found_under_the_names_of_the_schedule() -> None:
    app.loader.import_default_modules()

    assert {SWEEP, REAP, PRUNE} <= set(app.tasks)


def test_a_task_that_the_web_process_sends_goes_to_our_broker() -> None:
    script = (
        "import django; django.setup()\n"
        "from celery import current_app\n"
        "print(current_app.main, current_app.conf.broker_url)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "watchdog_project.settings"},
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split() == ["watchdog", settings.CELERY_BROKER_URL]


def test_the_sweep_watches_a_market_that_is_under_a_lease_and_emits_its_status(
    es_is_executed: None,
) -> None:
    tasks.sweep_identity.apply().get()

    assert WatchedMarket.objects.filter(market="ES", scope="").exists()
    assert IdentityEvent.objects.filter(
        event_type=STATUS_EVENT, market="ES", origin=EventOrigin.SWEEP
    ).exists()
    heartbeat = TaskHeartbeat.objects.get(task=SWEEP)
    assert heartbeat.interval == 60
    assert heartbeat.started_at is not None
    assert heartbeat.finished_at is not None
    assert heartbeat.started_at <= heartbeat.finished_at
    assert heartbeat.error == ""


def test_the_reaper_expires_a_lease_past_its_end(
    es_is_executed: None, caplog: pytest.LogCaptureFixture
) -> None:
    LockRecord.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

    tasks.reap_stale_locks.apply().get()

    assert LockRecord.objects.get(name="ES").state == LockState.EXPIRED
    assert Tenure.objects.get(lock__name="ES").ended_at is not None
    assert TaskHeartbeat.objects.get(task=REAP).finished_at is not None
    assert "The lease of ES, held by run 0f9c, had expired." in caplog.text


def test_a_lease_in_force_is_left_alone(es_is_executed: None) -> None:
    tasks.reap_stale_locks.apply().get()

    assert LockRecord.objects.get(name="ES").state == LockState.HELD


def test_a_task_that_fails_is_noted_and_not_finished(caplog: pytest.LogCaptureFixture) -> None:
    def fail(now: datetime) -> None:
        raise RuntimeError("the sweep stumbled")

    TaskHeartbeat.objects.create(task=SWEEP, interval=60, finished_at=NOW - timedelta(hours=1))

    assert beat(SWEEP, fail, clock=lambda: NOW) is False

    heartbeat = TaskHeartbeat.objects.get(task=SWEEP)
    assert heartbeat.started_at == NOW
    assert heartbeat.finished_at == NOW - timedelta(hours=1)
    assert heartbeat.error == "RuntimeError: the sweep stumbled"
    assert "its next run tries again" in caplog.text


def test_the_next_success_clears_the_error() -> None:
    TaskHeartbeat.objects.create(task=SWEEP, interval=60, error="RuntimeError: once")

    assert beat(SWEEP, lambda now: None, clock=lambda: NOW) is True

    heartbeat = TaskHeartbeat.objects.get(task=SWEEP)
    assert (heartbeat.error, heartbeat.finished_at) == ("", NOW)


def test_the_work_is_given_the_time_at_which_it_began() -> None:
    given: list[datetime] = []
    times = iter([NOW, NOW + timedelta(seconds=5)])

    beat(SWEEP, given.append, clock=lambda: next(times))

    heartbeat = TaskHeartbeat.objects.get(task=SWEEP)
    assert given == [heartbeat.started_at] == [NOW]
    assert heartbeat.finished_at == NOW + timedelta(seconds=5)


def test_a_failure_of_the_database_inside_the_work_is_noted_all_the_same() -> None:
    def fail(now: datetime) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT nothing FROM nowhere")

    assert beat(REAP, fail, clock=lambda: NOW) is False

    assert "Error" in TaskHeartbeat.objects.get(task=REAP).error


def test_a_heartbeat_that_cannot_be_written_does_not_end_the_worker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    done: list[datetime] = []
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE watchdog_taskheartbeat RENAME TO gone")
    try:
        assert beat(SWEEP, done.append, clock=lambda: NOW) is False
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE gone RENAME TO watchdog_taskheartbeat")

    assert "could not be written either" in caplog.text


def test_a_task_that_another_process_is_at_leaves_it_to_that_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with job_lease("sweep_identity"):
        assert beat(SWEEP, lambda now: pytest.fail("it ran twice at once")) is False

    assert not TaskHeartbeat.objects.filter(task=SWEEP).exists()
    assert "did not run: sweep_identity is held by run" in caplog.text


def test_retention_forgets_what_the_settings_say(
    es_is_executed: None, caplog: pytest.LogCaptureFixture
) -> None:
    tasks.sweep_identity.apply().get()
    tasks.sweep_identity.apply().get()
    IdentityEvent.objects.update(occurred_at=timezone.now() - timedelta(days=8))
    assert IdentityEvent.objects.filter(changed=False).exists()

    tasks.prune_history.apply().get()

    assert not IdentityEvent.objects.filter(changed=False).exists()
    assert IdentityEvent.objects.filter(changed=True).exists()
    heartbeat = TaskHeartbeat.objects.get(task=PRUNE)
    assert heartbeat.interval == 3600
    assert heartbeat.finished_at is not None
    assert "Forgot 1 unchanged results, 0 events" in caplog.text
