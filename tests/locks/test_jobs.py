"""A job never runs twice at once, and never for ever."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction

from canonical_guard.terms import LeaseTerms
from locks import jobs
from locks.errors import LockRefused
from locks.jobs import job_lease, prune_job_history
from locks.models import LockEvent, LockRecord, LockState, Tenure

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_job_that_runs_is_not_started_a_second_time() -> None:
    with (
        job_lease("sweep"),
        pytest.raises(LockRefused, match="sweep is held by run") as refused,
        job_lease("sweep"),
    ):
        raise AssertionError("it ran twice at once")
    assert refused.value.code == "ALREADY_LOCKED"


def test_another_job_runs_beside_it() -> None:
    with job_lease("sweep"), job_lease("reaper"):
        assert LockRecord.objects.filter(state=LockState.HELD).count() == 2


def test_a_job_that_ended_may_run_again_at_once_also_after_a_failure() -> None:
    with pytest.raises(ZeroDivisionError), job_lease("sweep"):
        raise ZeroDivisionError
    with job_lease("sweep"):
        pass
    assert [tenure.end for tenure in Tenure.objects.order_by("fencing_token")] == [
        "crashed",
        "released",
    ]


def test_a_long_job_keeps_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    renewed = threading.Event()
    renew = jobs.renew_lease

    def renew_and_tell(holder: jobs.Holder) -> object:
        try:
            return renew(holder)
        finally:
            renewed.set()

    monkeypatch.setattr(jobs, "renew_lease", renew_and_tell)
    monkeypatch.setattr(
        LeaseTerms, "__post_init__", lambda terms: object.__setattr__(terms, "renew_every", 0.05)
    )
    with job_lease("sweep"):
        assert renewed.wait(20)
        renewed.clear()
        assert renewed.wait(20)
    assert LockRecord.objects.get().renewals >= 1


def test_old_history_of_jobs_is_forgotten_and_that_of_markets_is_not() -> None:
    with job_lease("sweep"):
        pass
    at = datetime.now(UTC)
    LockEvent.objects.create(
        type="CANONICAL_MARKET_LOCK_ACQUIRED", name="ES", at=at, last_at=at, data={}
    )
    assert prune_job_history(at - timedelta(minutes=1)) == 0
    assert prune_job_history(at + timedelta(minutes=1)) == 3
    assert [event.name for event in LockEvent.objects.all()] == ["ES"]
    assert not Tenure.objects.exists()


def test_a_job_does_not_run_inside_somebodys_transaction() -> None:
    with pytest.raises(RuntimeError), transaction.atomic(), job_lease("sweep"):
        raise AssertionError("its lease could be rolled back")
    assert connection.get_autocommit()
