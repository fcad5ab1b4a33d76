"""No orders: for one market, or for all of them."""

from __future__ import annotations

import pytest

from locks.acquisition import acquire_lease
from locks.errors import LockRefused
from locks.kill_switch import kill_switch_engaged, set_kill_switch
from locks.leases import AcquireRequest
from locks.models import KillSwitch, LockEvent, LockEventType
from locks.services import release_lease, renew_lease, verify_token
from tests.locks.cast import ES, Robot, event_types, resolve_market

pytestmark = pytest.mark.django_db(transaction=True)


def engage(market: str = "") -> None:
    set_kill_switch(market, engaged=True, reason="fat finger", by="olga")


def release(market: str = "") -> None:
    set_kill_switch(market, engaged=False, reason="checked", by="olga")


@pytest.mark.parametrize("market", ["", "ES"])
def test_an_engaged_switch_grants_nothing(market: str) -> None:
    engage(market)
    with pytest.raises(LockRefused) as refused:
        Robot("run-1").acquire()
    assert (refused.value.code, refused.value.status) == ("KILL_SWITCH_ACTIVE", 423)
    assert "fat finger" in refused.value.detail
    release(market)
    assert Robot("run-1").acquire().fencing_token == 1


def test_the_switch_of_one_market_leaves_the_others_alone() -> None:
    engage("NQ")
    assert Robot("run-1", "MES").acquire()
    assert kill_switch_engaged("NQ")
    assert not kill_switch_engaged("ES")
    assert not kill_switch_engaged()


def test_the_holder_keeps_his_market_and_is_told() -> None:
    robot = Robot("run-1")
    grant = robot.acquire()
    engage()

    assert renew_lease(robot.holding(grant)).kill_switch_active
    with pytest.raises(LockRefused) as refused:
        verify_token(ES, grant.fencing_token)
    assert refused.value.status == 423

    release()
    assert not renew_lease(robot.holding(grant)).kill_switch_active
    verify_token(ES, grant.fencing_token)
    engage()
    assert release_lease(robot.holding(grant)), "what is held can always be given back"


def test_a_lost_reply_is_not_repeated_while_the_switch_is_engaged() -> None:
    robot = Robot("run-1")
    robot.acquire()
    engage()
    with pytest.raises(LockRefused) as refused:
        robot.acquire()
    assert refused.value.code == "KILL_SWITCH_ACTIVE"


@pytest.mark.parametrize("market", ["", "ES"])
def test_a_switch_that_is_not_there_counts_as_engaged(market: str) -> None:
    robot = Robot("run-1")
    grant = robot.acquire()
    KillSwitch.objects.filter(market=market).delete()

    assert kill_switch_engaged("ES")
    assert renew_lease(robot.holding(grant)).kill_switch_active
    release_lease(robot.holding(grant))
    with pytest.raises(LockRefused) as refused:
        Robot("run-2").acquire()
    assert refused.value.code == "KILL_SWITCH_ACTIVE"
    assert not KillSwitch.objects.filter(market=market).exists(), "asking does not make it"


def test_a_further_account_does_not_bring_a_missing_switch_back() -> None:
    Robot("run-1", "MGC", account="Sim101").acquire()
    KillSwitch.objects.filter(market="GC").delete()
    with pytest.raises(LockRefused) as refused:
        Robot("run-2", "MGC", account="Sim102").acquire()
    assert refused.value.code == "KILL_SWITCH_ACTIVE"


def test_a_market_never_seen_can_be_switched_off_before_its_first_robot() -> None:
    engage("ES")
    with pytest.raises(LockRefused) as refused:
        Robot("run-1").acquire()
    assert refused.value.code == "KILL_SWITCH_ACTIVE"


def test_jobs_and_log_writers_send_no_orders() -> None:
    engage()
    asked = AcquireRequest("run-1", "1" * 32, "aaaa1111", "h", kind="pipeline_run", name="sweep")
    assert acquire_lease(asked, resolve_market).fencing_token == 1


def test_every_use_of_the_switch_is_audited() -> None:
    engage()
    release()
    engage("ES")
    assert event_types() == ["KILL_SWITCH_ACTIVE", "KILL_SWITCH_RELEASED", "KILL_SWITCH_ACTIVE"]
    last = LockEvent.objects.filter(type=LockEventType.KILL_SWITCH_ACTIVE).latest("id")
    assert (last.name, last.data) == ("ES", {"reason": "fat finger", "by": "olga"})
    switch = KillSwitch.objects.get(market="ES")
    assert (switch.engaged, switch.changed_by, switch.reason) == (True, "olga", "fat finger")
    assert switch.changed_at == last.at
