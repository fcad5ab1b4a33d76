"""The guard for NinjaTrader against the real server."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from tests.guard.authority import KEY
from tests.ninjatrader.conftest import ShortAuthority, StartDriver
from tests.ninjatrader.driver import Refused
from tests.ninjatrader.network import LosingNetwork
from tests.server import Server

# A guard does not see which database its server has.
pytestmark = pytest.mark.sqlite_only


@pytest.fixture
def asks(watchdog: Server, root: str) -> dict[str, Any]:
    return {"server": watchdog.url, "key_file": str(watchdog.key_file), "root": root}


def test_a_chart_holds_a_lease_while_it_trades_and_none_after(
    watchdog: Server, start_driver: StartDriver, asks: dict[str, Any]
) -> None:
    driver = start_driver()
    held = driver.acquire("MNQ 03-26", account="Sim101", **asks)
    assert driver.check() == "held"
    assert 0 < held["seconds_left"] <= 10
    (lock,) = watchdog.request("GET", "/api/locks?name=NQ")[1]["results"]
    assert (lock["state"], lock["fencing_token"]) == ("HELD", held["fencing_token"])
    token = {"name": "NQ", "fencing_token": held["fencing_token"]}
    assert watchdog.request("POST", "/api/locks/verify", token)[0] == 200
    driver.call("release")
    driver.call("release")
    assert driver.check() == "LeaseLost: MNQ 03-26 is not held."
    assert watchdog.request("POST", "/api/locks/verify", token)[0] == 409
    again = driver.acquire("NQ", **asks)
    assert again["fencing_token"] > held["fencing_token"]
    assert again["takeover"] is False
    driver.call("release")
    assert driver.said()[:2] == ["PROJECT_ROOT", "CANONICAL_MARKET_LOCK_ACQUIRED"]


def test_two_charts_of_one_process_have_a_lease_each_and_never_the_same_market(
    watchdog: Server, start_driver: StartDriver, asks: dict[str, Any], root: str
) -> None:
    driver = start_driver()
    first = driver.acquire("RTY", "first", **asks)
    other = driver.acquire("MYM", "other", **asks)
    with pytest.raises(Refused, match="RTY is already executed on this host by run") as refused:
        driver.acquire("M2K", "second", **asks)
    assert refused.value.told["active"]["run_id"] == first["run_id"]
    elsewhere = asks | {"root": f"{root}-of-another-host"}
    with pytest.raises(Refused, match=f"RTY is already executed by run {first['run_id']}"):
        driver.acquire("M2K", "second", **elsewhere)
    assert driver.check("first") == driver.check("other") == "held"
    driver.call("release", guard="first")
    assert driver.check("other") == "held"
    assert driver.acquire("M2K", "second", **asks)["fencing_token"] > first["fencing_token"]
    assert other["canonical_instrument"] == "YM"
    for guard in ("second", "other"):
        driver.call("release", guard=guard)


def test_the_kill_switch_forbids_orders_without_costing_the_market(
    watchdog: Server, start_driver: StartDriver, asks: dict[str, Any], root: str
) -> None:
    driver = start_driver()
    driver.acquire("CL", **asks)
    switch = {"engaged": True, "market": "CL", "reason": "a test"}
    assert watchdog.request("POST", "/api/kill-switch", switch, role="operator")[0] == 200
    with pytest.raises(Refused, match="The kill switch is engaged") as refused:
        start_driver().acquire("CL", **asks | {"root": f"{root}-of-another-host"})
    assert refused.value.code == "KILL_SWITCH_ACTIVE"
    assert driver.eventually(lambda: driver.check() != "held")
    assert driver.check() == "KillSwitchEngaged: The kill switch is engaged: no orders."
    assert driver.state()["held"] is True
    assert "KILL_SWITCH_ACTIVE" in driver.said()
    (lock,) = watchdog.request("GET", "/api/locks?name=CL")[1]["results"]
    assert lock["renewals"] >= 1
    driver.call("release")


def test_a_grant_whose_reply_was_lost_is_the_same_when_asked_again(
    watchdog: Server, start_driver: StartDriver, asks: dict[str, Any]
) -> None:
    network = LosingNetwork(watchdog, "/api/locks/acquire")
    driver = start_driver()
    try:
        held = driver.acquire("NIY", **asks | {"server": network.url})
        assert network.carried == 2
        driver.call("release")
    finally:
        network.stop()
    _, told = watchdog.request("GET", "/api/locks/tenures?name=NIY")
    assert [row["fencing_token"] for row in told["results"]] == [held["fencing_token"]]


def test_a_release_whose_reply_was_lost_is_clean_all_the_same(
    watchdog: Server, start_driver: StartDriver, asks: dict[str, Any]
) -> None:
    network = LosingNetwork(watchdog, "/api/locks/release")
    driver = start_driver()
    try:
        driver.acquire("EMD", **asks | {"server": network.url})
        driver.call("release")
    finally:
        network.stop()
    assert network.carried == 2
    assert driver.said()[-1] == "CANONICAL_MARKET_LOCK_RELEASED"
    assert driver.acquire("EMD", **asks)["takeover"] is False
    driver.call("release")


def test_a_process_that_ends_with_its_market_gives_it_back_as_crashed(
    watchdog: Server, start_driver: StartDriver, asks: dict[str, Any]
) -> None:
    driver = start_driver()
    driver.acquire("GC", **asks)
    assert driver.exit() == 0
    assert start_driver().acquire("MGC", **asks)["takeover"] is True


def test_after_a_kill_the_market_is_closed_until_the_lease_is_over(
    start_driver: StartDriver, asks: dict[str, Any]
) -> None:
    driver = start_driver()
    held = driver.acquire("SI", **asks)
    driver.kill()
    successor = start_driver()
    with pytest.raises(Refused) as refused:
        successor.acquire("SI", **asks)
    assert refused.value.code == "CANONICAL_MARKET_ALREADY_ACTIVE"
    assert refused.value.told["active"]["run_id"] == held["run_id"]
    assert 25 < refused.value.told["retry_after"] <= 30, "its time, and the lock delay"
    assert successor.said() == ["PROJECT_ROOT", "CANONICAL_MARKET_LOCK_STALE"]


@pytest.mark.parametrize(
    ("market", "options", "code", "exit_status"),
    [
        ("HG", {"key_file": None, "key": "robot.wrong"}, "LOCK_AUTHORITY_UNAVAILABLE", 69),
        ("HG", {"key_file": None}, "LOCK_AUTHORITY_UNAVAILABLE", 69),
        ("HG", {"server": None}, "LOCK_AUTHORITY_UNAVAILABLE", 69),
        ("HG", {"server": "http://127.0.0.1:1"}, "LOCK_AUTHORITY_UNAVAILABLE", 69),
        ("HG", {"server": "http://no-such-host.invalid"}, "LOCK_AUTHORITY_UNAVAILABLE", 69),
        ("HG", {"server": "127.0.0.1:8000"}, "INVALID_CONFIGURATION", 64),
        ("HG", {"server": "http://u:p@127.0.0.1:8000"}, "INVALID_CONFIGURATION", 64),
        ("HG", {"host_only": True}, "INVALID_CONFIGURATION", 64),
        ("HG", {"key_file": "/no/such/file"}, "INVALID_CONFIGURATION", 64),
        ("HG", {"account": "x" * 129}, "INVALID_CONFIGURATION", 64),
        ("HG", {"kill_switch_file": "x"}, "INVALID_CONFIGURATION", 64),
        (
            "HG",
            {"server": None, "key_file": None, "host_only": True, "kill_switch_file": "a\0b"},
            "INVALID_CONFIGURATION",
            64,
        ),
        ("HG", {"root": "a\0b"}, "INVALID_CONFIGURATION", 64),
        ("HG", {"root": "/proc/nowhere"}, "LOCK_AUTHORITY_UNAVAILABLE", 69),
        ("XYZ 03-26", {}, "UNKNOWN_INSTRUMENT", 64),
        ("", {}, "INVALID_CONFIGURATION", 64),
    ],
)
def test_what_makes_no_sense_is_refused_and_leaves_nothing_behind(
    start_driver: StartDriver,
    asks: dict[str, Any],
    market: str,
    options: dict[str, Any],
    code: str,
    exit_status: int,
) -> None:
    driver = start_driver()
    with pytest.raises(Refused) as refused:
        driver.acquire(market, **asks | options)
    assert (refused.value.code, refused.value.told["exit"]) == (code, exit_status)
    assert refused.value.message.endswith("."), "one sentence for an operator"
    held = driver.acquire("HG", **asks)
    assert held["takeover"] is False
    driver.call("release")


def test_an_instrument_that_only_the_registry_knows_is_asked_for(
    authority: ShortAuthority, start_driver: StartDriver, root: str
) -> None:
    driver = start_driver()
    asks = {"server": authority.url, "key": KEY, "root": root}
    assert driver.acquire("QZZ", **asks)["canonical_instrument"] == "6E"
    (asked,) = authority.made("acquire")
    assert (asked["execution_instrument"], asked["canonical_instrument"]) == ("QZZ", "6E")
    driver.call("release")


def test_an_observed_chart_trades_on_whatever_happens(
    start_driver: StartDriver, asks: dict[str, Any]
) -> None:
    driver = start_driver()
    driver.acquire("PA", "first", **asks)
    driver.acquire("PA", "observed", observe=True, **asks)
    for _ in range(2):
        assert driver.check("observed") == "held"
    said = [sentence for by, _, sentence in driver.told if by == "observed"]
    observing = [sentence for sentence in said if sentence.startswith("Observing, so going on")]
    assert len(observing) == 2, "the refusal, and the check that would have failed, once"
    for guard in ("first", "observed"):
        driver.call("release", guard=guard)


def test_host_only_needs_no_server_and_has_a_file_for_a_kill_switch(
    start_driver: StartDriver, root: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    switch = tmp_path_factory.mktemp("switch") / "kill-switch"
    driver = start_driver()
    with pytest.raises(Refused) as refused:
        driver.acquire("ES", root=root, host_only=True, kill_switch_file=str(switch))
    assert refused.value.code == "KILL_SWITCH_ACTIVE"
    switch.write_text("Released\n")
    driver.acquire("ES", root=root, host_only=True, kill_switch_file=str(switch))
    assert driver.check() == "held"
    switch.write_text("stop")
    assert driver.check() == (
        f"KillSwitchEngaged: The kill switch file {switch} says 'stop', so it counts as engaged: "
        "no orders. Write 'released' into it to release it."
    )
    assert driver.eventually(lambda: "KILL_SWITCH_ACTIVE" in driver.said())
    driver.call("release")


def test_the_environment_may_say_where_and_by_what_key(
    watchdog: Server, start_driver: StartDriver, root: str
) -> None:
    driver = start_driver(
        WATCHDOG_URL=watchdog.url,
        WATCHDOG_API_KEY=watchdog.keys["robot"],
        WATCHDOG_PROJECT_ROOT=root,
    )
    assert driver.acquire("HO")["fencing_token"] >= 1
    with contextlib.suppress(Refused):
        driver.acquire("HO", "second")
        raise AssertionError("two executors of one market")
    driver.call("release")
