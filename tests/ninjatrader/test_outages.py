"""What the guard for NinjaTrader does when its server, or its own process, fails it. Real time."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from canonical_guard import clock
from tests.guard.authority import KEY, TERMS, RawServer
from tests.guard.test_client import dribbling, endless, hanging_up, no_http
from tests.ninjatrader.conftest import ShortAuthority, StartDriver
from tests.ninjatrader.driver import Driver, Refused

GRACE = TERMS["kill_after"] - TERMS["stop_after"]
BUSY = 4.0
"""Seconds that a machine with too much to do may take; the vectors are exact."""


@pytest.fixture
def three() -> Iterator[list[ShortAuthority]]:
    running = [ShortAuthority() for _ in range(3)]
    yield running
    for authority in running:
        authority.stop()


def asks(authority: ShortAuthority, root: str) -> dict[str, Any]:
    return {"server": authority.url, "key": KEY, "root": root}


def test_a_server_that_dies_hangs_or_talks_nonsense_costs_the_market_at_stop_time(
    three: list[ShortAuthority], start_driver: StartDriver, root: str
) -> None:
    """Three charts in one process, each with a server of its own."""
    driver = start_driver()
    dying, hanging, talking = three
    for market, authority in zip(("ES", "NQ", "YM"), three, strict=True):
        driver.acquire(market, market, **asks(authority, root), fails_when_lost=market == "YM")
    failed_at = clock.now()
    dying.interfere = lambda path, body: (500, b"Traceback (most recent call last)")
    hanging.interfere = lambda path, body: time.sleep(3) or (200, {})  # type: ignore[func-returns-value]
    talking.interfere = lambda path, body: (200, b"<html>Welcome</html>")
    assert driver.eventually(lambda: len(driver.lost) == 3)
    assert {lost["guard"] for lost in driver.lost} == {"ES", "NQ", "YM"}
    for lost in driver.lost:
        assert failed_at + 1 < lost["at"] < failed_at + TERMS["stop_after"] + BUSY, lost
        assert GRACE - BUSY < lost["left"] <= GRACE
        assert lost["kill_time"] is False
        assert lost["sentence"] == "No renewal succeeded in time; trading had to stop."
    for market in ("ES", "NQ", "YM"):
        assert driver.check(market).startswith("LeaseLost: No renewal succeeded in time")
        assert driver.state(market)["seconds_left"] == 0
    assert driver.eventually(lambda: len(driver.lost) == 6)
    for lost in driver.lost[3:]:
        assert lost["kill_time"] is True
        assert lost["left"] <= 0
        assert "A chart cannot end NinjaTrader" in lost["sentence"]
    assert "ON_LOST_FAILED" in driver.said("YM"), "the robot's own failure ends nothing"
    assert driver.process.poll() is None


def test_a_server_that_comes_back_before_stop_time_is_no_loss(
    authority: ShortAuthority, start_driver: StartDriver, root: str
) -> None:
    driver = start_driver()
    driver.acquire("ES", **asks(authority, root))
    authority.interfere = lambda path, body: (503, {"code": "X", "detail": "Not now."})
    before = len(authority.made("renew"))
    assert driver.eventually(lambda: len(authority.made("renew")) > before + 3)
    authority.interfere = lambda path, body: None
    full = TERMS["stop_after"] - TERMS["renew_every"] - 0.4
    assert driver.eventually(lambda: driver.state()["seconds_left"] > full)
    assert driver.lost == []
    driver.call("release")


def test_a_process_that_was_stopped_past_its_time_may_not_order(
    authority: ShortAuthority, start_driver: StartDriver, root: str
) -> None:
    """The authority would still renew: what counts is the holder's own clock, read by Check()."""
    authority.terms["ttl"] = 60
    driver = start_driver()
    driver.acquire("ES", **asks(authority, root))
    assert driver.check() == "held"
    driver.signal(signal.SIGSTOP)
    time.sleep(TERMS["kill_after"] + 0.1)
    driver.signal(signal.SIGCONT)
    assert driver.check() == "LeaseLost: No renewal succeeded in time; trading had to stop."
    assert driver.eventually(lambda: len(driver.lost) == 2)
    assert driver.lost[0]["left"] <= 0, "there is no time left to flatten"
    renewals = len(authority.made("renew"))
    driver.call("release")
    assert len(authority.made("renew")) == renewals, "nothing is renewed once it is lost"


def test_a_lease_that_is_taken_away_is_told_at_once(
    authority: ShortAuthority, start_driver: StartDriver, root: str
) -> None:
    grace = 2.0
    authority.terms.update(kill_after=TERMS["stop_after"] + grace, ttl=10)
    driver = start_driver()
    driver.acquire("ES", **asks(authority, root))
    authority.leases["ES"]["fencing_token"] += 1
    assert driver.eventually(lambda: driver.lost)
    assert driver.check() == "LeaseLost: The lease of ES is over: Another token is due."
    assert 0 < driver.lost[0]["left"] <= grace
    driver.call("release")
    time.sleep(grace + 0.2)
    driver.drain()
    assert len(driver.lost) == 1, "who has released is not told of kill time"


def test_an_observed_chart_is_not_told_to_stop(
    authority: ShortAuthority, start_driver: StartDriver, root: str
) -> None:
    driver = start_driver()
    driver.acquire("ES", observe=True, **asks(authority, root))
    authority.leases["ES"]["fencing_token"] += 1
    assert driver.eventually(lambda: "CANONICAL_MARKET_LOCK_LOST" in driver.said())
    assert driver.check() == "held"
    assert driver.lost == []
    driver.call("release")


def test_after_a_kill_the_same_chart_takes_over_once_the_lease_has_ended(
    authority: ShortAuthority, start_driver: StartDriver, root: str
) -> None:
    driver = start_driver()
    first = driver.acquire("ES", **asks(authority, root))
    driver.kill()
    authority.leases["ES"]["expires"] = time.monotonic()
    successor = start_driver()
    held = successor.acquire("ES", **asks(authority, root))
    assert held["takeover"] is True
    assert held["fencing_token"] > first["fencing_token"]
    assert successor.said()[1:] == ["CANONICAL_MARKET_LOCK_STALE", "CANONICAL_MARKET_LOCK_ACQUIRED"]
    successor.call("release")


@pytest.mark.parametrize(
    ("write", "why"),
    [
        (dribbling, "no answer within 2 s"),
        (endless, "the answer is longer than 1048576 bytes"),
        (hanging_up, ""),
        (no_http, ""),
    ],
)
def test_what_is_no_answer_starts_nothing_and_costs_little_time(
    start_driver: StartDriver, root: str, write: Callable[[socket.socket], None], why: str
) -> None:
    server = RawServer(write)
    driver: Driver = start_driver()
    started = time.monotonic()
    try:
        with pytest.raises(Refused, match=r"gave no answer that counts") as refused:
            driver.acquire("ES", server=server.url, key=KEY, root=root)
        assert time.monotonic() - started < 4.0 + 2 * BUSY, "two tries of 2 s"
    finally:
        server.stop()
    assert refused.value.code == "LOCK_AUTHORITY_UNAVAILABLE"
    assert why in refused.value.message
    assert driver.acquire("ES", root=root, host_only=True)["takeover"] is False
    driver.call("release")


@pytest.mark.parametrize("status", [302, 307])
def test_a_redirection_is_not_followed_because_the_key_would_go_along(
    three: list[ShortAuthority], start_driver: StartDriver, root: str, status: int
) -> None:
    asked, elsewhere, _ = three
    location = f"{elsewhere.url}/api/locks/acquire"
    asked.interfere = lambda path, body: (status, {"location": location})
    with pytest.raises(Refused) as refused:
        start_driver().acquire("ES", **asks(asked, root))
    assert refused.value.code == "LOCK_AUTHORITY_UNAVAILABLE"
    assert elsewhere.requests == []


def test_no_proxy_is_asked_because_the_key_would_go_along(
    three: list[ShortAuthority], start_driver: StartDriver, root: str
) -> None:
    asked, proxy, _ = three
    driver = start_driver(http_proxy=proxy.url, HTTP_PROXY=proxy.url, ALL_PROXY=proxy.url)
    driver.acquire("ES", **asks(asked, root))
    driver.call("release")
    assert proxy.requests == []
