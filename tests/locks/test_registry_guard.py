"""What the registry must know before it remaps a market."""

from __future__ import annotations

import pytest

from locks.services import market_under_lease, reap_expired, release_lease, revoke_lease
from tests.locks.cast import ES, Robot, pass_time

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
