"""Periodic work that is overdue is told, whichever it is, and one that never ran as well."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from tests.watchdog.cast import NOW, a_passing_market, a_sweep_finished, seconds_ago
from tests.watchdog.conftest import ClientOf
from watchdog_project import tasks
from watchdog_project.heartbeat import (
    PRUNE,
    REAP,
    SESSIONS,
    SWEEP,
    expect_tasks,
    overdue_after,
    overdue_tasks,
)
from watchdog_project.models import TaskHeartbeat
from watchdog_project.status import readiness, snapshot

pytestmark = pytest.mark.django_db


def finished(task: str, at: datetime, error: str = "") -> None:
    TaskHeartbeat.objects.create(task=task, interval=60, finished_at=at, error=error)


@pytest.mark.parametrize(
    ("task", "seconds"), [(SWEEP, 150), (REAP, 150), (PRUNE, 9000), (SESSIONS, 9000)]
)
def test_a_task_is_overdue_after_two_and_a_half_of_its_intervals_or_the_sweeps(
    task: str, seconds: int
) -> None:
    assert overdue_after(task) == timedelta(seconds=seconds)
    finished(task, seconds_ago(seconds), error="what it said last")
    assert overdue_tasks(NOW) == []

    (late,) = overdue_tasks(NOW + timedelta(seconds=7))

    assert (late.task, late.since, late.error) == (task, NOW, "what it said last")


def test_a_task_that_never_ran_is_overdue_once_it_should_have() -> None:
    expect_tasks(NOW)
    expect_tasks(NOW + timedelta(hours=1))
    quick = TaskHeartbeat.objects.exclude(task__in=(PRUNE, SESSIONS))
    quick.update(finished_at=seconds_ago(-9000))

    assert overdue_tasks(NOW + timedelta(seconds=9000)) == []
    late = overdue_tasks(NOW + timedelta(seconds=9001))

    assert {one.task for one in late} == {PRUNE, SESSIONS}


def test_a_task_that_finished_in_the_future_is_overdue_now() -> None:
    finished(REAP, NOW + timedelta(seconds=61))

    (late,) = overdue_tasks(NOW)

    assert late.since == NOW


def test_a_task_that_is_not_scheduled_any_more_is_missed_by_nobody() -> None:
    finished("watchdog_project.tasks.of_long_ago", seconds_ago(1_000_000))

    assert overdue_tasks(NOW) == []


def test_overdue_work_of_any_kind_turns_the_status_stale_and_says_which() -> None:
    a_sweep_finished()
    a_passing_market("ES")
    assert snapshot(NOW)["status"] == "OK"
    finished(PRUNE, seconds_ago(9001))

    told = snapshot(NOW)

    assert told["status"] == "STALE"
    assert told["overdue_tasks"] == ["prune history"]
    assert told["sweep"]["overdue"] is False
    assert told["last_identity_invariants_pass"] is None
    assert readiness(NOW)["overdue_tasks"] == ["prune history"]
    assert readiness(NOW)["ready"] is True


def test_readiness_and_the_badge_say_which_periodic_task_is_overdue(client_of: ClientOf) -> None:
    TaskHeartbeat.objects.create(task=SWEEP, interval=60, finished_at=timezone.now())
    finished(PRUNE, timezone.now() - timedelta(days=2))

    ready = client_of("nobody").get("/readyz").json()
    page = client_of("staff").get("/admin/").content.decode()

    assert (ready["sweep"], ready["overdue_tasks"]) == ("ok", ["prune history"])
    assert 'data-look="stale"' in page
    assert "The periodic task prune history is overdue" in page


@pytest.mark.django_db(transaction=True)
def test_a_sweep_expects_every_task_of_the_schedule() -> None:
    tasks.sweep_identity.apply().get()

    known = set(TaskHeartbeat.objects.values_list("task", flat=True))
    assert {SWEEP, REAP, PRUNE, SESSIONS} <= known
