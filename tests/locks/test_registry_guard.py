"""What the registry must know before it remaps a market."""

from __future__ import annotations

import threading

import pytest
from django.db import connection, transaction

from locks.acquisition import acquire_lease
from locks.errors import LockRefused
from locks.market import MarketTerms
from locks.models import LockRecord, LockState
from locks.services import market_under_lease, reap_expired, release_lease, revoke_lease
from tests.locks.cast import ES, Robot, pass_time, record

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_market_is_under_lease_until_its_delay_is_over() -> None:
    assert not market_under_lease("ES")
    Robot("run-1").acquire()
    assert market_under_lease("ES")
    pass_time(15)
    assert market_under_lease("ES"), "past its end, but nobody has seen so and no delay has run"
    reap_expired()
    assert market_under_lease("ES")
    pass_time(15)
    assert not market_under_lease("ES")


def test_a_released_market_is_free_at_once_and_a_revoked_one_is_not() -> None:
    robot = Robot("run-1")
    release_lease(robot.holding(robot.acquire()))
    assert not market_under_lease("ES")
    revoke_lease(ES, Robot("run-2").acquire().fencing_token, reason="x", by="olga")
    assert market_under_lease("ES")


def test_one_account_under_lease_is_enough() -> None:
    Robot("run-1", "MGC", account="Sim101").acquire()
    assert market_under_lease("GC")
    assert not market_under_lease("ES")


@pytest.mark.parametrize("takeover", [False, True])
def test_a_remap_between_the_look_and_the_grant_costs_the_grant(takeover: bool) -> None:
    if takeover:
        crashed = Robot("run-0")
        release_lease(crashed.holding(crashed.acquire()), crashed=True)
    answers = iter(["ES", "NQ"])

    def remapped_meanwhile(symbol: str) -> MarketTerms:
        return MarketTerms(next(answers), "MES", False, 15.0)

    with pytest.raises(LockRefused) as refused:
        acquire_lease(Robot("run-1").request(), remapped_meanwhile)
    assert refused.value.code == "MAPPING_DRIFT"
    assert record().state == LockState.FREE
    assert Robot("run-2").acquire().takeover is takeover, "what the next one has to know is kept"


def test_a_scope_rule_changed_between_the_look_and_the_grant_costs_the_grant() -> None:
    rules = iter([True, False])

    def changed_meanwhile(symbol: str) -> MarketTerms:
        return MarketTerms("ES", "MES", next(rules), 15.0)

    with pytest.raises(LockRefused) as refused:
        acquire_lease(Robot("run-1", account="Sim101").request(), changed_meanwhile)
    assert refused.value.code == "MAPPING_DRIFT"
    assert not LockRecord.objects.filter(state=LockState.HELD).exists()


@pytest.mark.parametrize("used_before", [False, True])
def test_while_a_remap_is_being_saved_nobody_is_granted_the_market(used_before: bool) -> None:
    if used_before:
        robot = Robot("run-0", "MGC", account="Sim101")
        release_lease(robot.holding(robot.acquire()))
    refusals: list[str] = []

    def contend() -> None:
        try:
            Robot("run-1", "MGC", account="Sim101").acquire()
        except LockRefused as refusal:
            refusals.append(refusal.code)
        finally:
            connection.close()

    with transaction.atomic():
        assert not market_under_lease("GC")
        contender = threading.Thread(target=contend)
        contender.start()
        contender.join(30)
    assert refusals == ["LOCK_AUTHORITY_UNAVAILABLE"]
    Robot("run-1", "MGC", account="Sim101").acquire()
