"""The facts, from real leases, violations and folders."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from identity.models import LogFolder, WatchedMarket
from identity.registry import seed_registry
from locks.errors import LockRefused
from locks.kill_switch import set_kill_switch
from locks.models import KillSwitch, LockEvent, LockRecord, Tenure
from locks.services import reap_expired, release_lease, renew_lease, revoke_lease
from tests.locks.cast import ES, Robot, pass_time
from tests.watchdog.cast import NOW as THEN
from tests.watchdog.cast import a_held_lease, a_passing_market, a_violation
from watchdog_project.alerts import gathering
from watchdog_project.alerts.conditions import findings_of
from watchdog_project.alerts.gathering import gather_facts
from watchdog_project.heartbeat import SWEEP
from watchdog_project.models import SessionDay, TaskHeartbeat

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _registry() -> None:
    seed_registry()
    KillSwitch.objects.get_or_create(market="")


def kinds(now: Any = None) -> set[str]:
    return {key[0] for key in findings_of(gather_facts(now or timezone.now()))}


HOLDER = Robot("holder", host="trader-1")
NEWCOMER = Robot("newcomer", host="trader-2")


def refused() -> None:
    with pytest.raises(LockRefused):
        NEWCOMER.acquire()


def test_a_refusal_is_a_wait_until_the_holder_renews_and_then_an_emergency() -> None:
    grant = HOLDER.acquire()
    refused()
    assert kinds() == {"RESTART_WAITING"}

    renew_lease(HOLDER.holding(grant))

    assert kinds() == {"DUPLICATE_EXECUTOR_BLOCKED"}
    assert kinds(timezone.now() + timedelta(minutes=11)) == set()


def test_a_lease_that_ran_out_is_stale_and_waited_for() -> None:
    HOLDER.acquire()
    LockRecord.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    refused()

    assert kinds() == {"LOCK_STALE", "RESTART_WAITING"}


def test_a_lease_that_the_reaper_finds_over_since_hours_is_history() -> None:
    HOLDER.acquire()
    LockRecord.objects.update(expires_at=timezone.now() - timedelta(hours=2))
    reap_expired()

    (stale,) = findings_of(gather_facts(timezone.now())).values()

    assert (stale.kind.value, stale.news) == ("LOCK_STALE", False)


def test_a_market_that_was_forgotten_alerts_nobody() -> None:
    HOLDER.acquire()
    LockRecord.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    reap_expired()
    now = timezone.now()
    WatchedMarket.objects.create(
        market="ES", first_evidence_at=now, evidence_at=now, forgotten_at=now
    )

    assert kinds() == set()


def test_a_refused_renewal_is_a_lost_lease_unless_an_operator_took_it() -> None:
    grant = HOLDER.acquire()
    LockRecord.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    with pytest.raises(LockRefused):
        renew_lease(HOLDER.holding(grant))
    assert "LEASE_LOST" in kinds()

    LockEvent.objects.all().delete()
    Tenure.objects.all().delete()
    LockRecord.objects.all().delete()
    grant = HOLDER.acquire()
    revoke_lease(ES, grant.fencing_token, reason="drill", by="chief")
    with pytest.raises(LockRefused):
        renew_lease(HOLDER.holding(grant))
    assert "LEASE_LOST" not in kinds()


def test_a_kill_switch_that_is_engaged_or_gone_is_a_finding() -> None:
    set_kill_switch("ES", engaged=True, reason="drill", by="chief")
    assert kinds() == {"KILL_SWITCH_ENGAGED"}

    KillSwitch.objects.all().delete()
    (gone,) = findings_of(gather_facts(timezone.now())).values()
    assert (gone.market, "missing" in gone.summary) == ("", True)


def test_only_violations_that_count_and_are_no_history_are_findings() -> None:
    for market in ("ES", "NQ", "CL"):
        a_passing_market(market)
    a_violation("ES")
    a_violation("NQ", accepted_until=THEN + timedelta(days=1))
    a_violation("CL", historical=True)

    assert [key[:2] for key in findings_of(gather_facts(THEN))] == [("IDENTITY_VIOLATION", "ES")]


def test_a_folder_that_cannot_be_read_is_a_finding() -> None:
    LogFolder.objects.create(path="/robots", error="no such folder", scanned_at=THEN)
    LogFolder.objects.create(path="/off", error="no such folder", active=False)

    assert {key[3] for key in findings_of(gather_facts(THEN))} == {"/robots"}


@pytest.mark.parametrize(("age", "found"), [(150, set()), (151, {"SWEEP_OVERDUE"})])
def test_a_sweep_that_did_not_finish_in_time_is_a_finding(age: float, found: set[str]) -> None:
    finished = THEN - timedelta(seconds=age)
    TaskHeartbeat.objects.create(task=SWEEP, interval=60, started_at=finished, finished_at=finished)

    assert {key[0] for key in findings_of(gather_facts(THEN))} == found


def test_the_sessions_are_those_of_the_calendar() -> None:
    a_held_lease("ES")
    day = THEN.date()
    SessionDay.objects.create(calendar_key="CME_Equity", day=day, hours="closed", written_at=THEN)
    keys = set(SessionDay.objects.values_list("calendar_key", flat=True))

    told = gather_facts(THEN).sessions

    assert keys == {"CME_Equity"}
    assert ("ES", "") in told


def test_a_part_that_cannot_be_read_is_named_and_costs_the_others_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    HOLDER.acquire()
    set_kill_switch("ES", engaged=True, reason="drill", by="chief")
    monkeypatch.setattr(gathering, "market_identities", lambda now: 1 / 0)

    seen = gather_facts(timezone.now())

    assert seen.unread == {"breaches", "standings"}
    assert len(seen.leases) == 1
    assert len(seen.switches) == 1


def test_the_number_of_queries_does_not_grow_with_the_markets() -> None:
    def asked() -> int:
        with CaptureQueriesContext(connection) as captured:
            gather_facts(THEN)
        return len(captured)

    a_passing_market("ES")
    a_held_lease("ES")
    few = asked()
    for n in range(20):
        a_passing_market(f"M{n}")
        a_violation(f"M{n}")
        a_held_lease(f"M{n}")

    assert asked() == few <= 16


def test_a_robot_that_crashes_with_its_guard_again_and_again_is_never_an_emergency() -> None:
    """Each start asks for the lease of the dead run before it, and dies as well."""
    runs = [Robot(f"start-{n}", host="trader-1", pid=5000 + n) for n in range(12)]
    held = 0
    for run in runs:
        try:
            grant = run.acquire()
        except LockRefused:
            pass
        else:
            held += 1
            renew_lease(run.holding(grant))
        assert "DUPLICATE_EXECUTOR_BLOCKED" not in kinds()
        pass_time(4)

    assert 1 < held < len(runs)


def test_a_robot_that_crashes_under_its_keeper_is_no_alert_at_all() -> None:
    for n in range(6):
        run = Robot(f"start-{n}", host="trader-1", pid=5000 + n)
        release_lease(run.holding(run.acquire()), crashed=True)
        assert kinds() == set()
