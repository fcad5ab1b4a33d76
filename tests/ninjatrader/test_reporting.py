"""What a chart reports of its identity reaches the badge, exactly once and within bounds."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from tests.guard.authority import KEY
from tests.ninjatrader.conftest import ShortAuthority, StartDriver
from tests.ninjatrader.driver import Driver
from tests.ninjatrader.network import LosingNetwork
from tests.server import Server

# A guard does not see which database its server has.
pytestmark = pytest.mark.sqlite_only


def market_status(watchdog: Server, market: str) -> dict[str, Any]:
    _, told = watchdog.request("GET", f"/api/watchdog/status?market={market}")
    rows = told["markets"]
    return rows[0] if rows else {"identity": {"status": "not watched", "violations": []}}


def badge(watchdog: Server, market: str) -> str:
    return str(market_status(watchdog, market)["identity"]["status"])


def events(watchdog: Server, run_id: str) -> list[dict[str, Any]]:
    _, told = watchdog.request("GET", f"/api/events?run_id={run_id}&page_size=200")
    return [event for event in told["results"] if event["origin"] != "sweep"]


def test_a_chart_s_badge_goes_green_red_green_and_idle(
    watchdog: Server, start_driver: StartDriver, root: str
) -> None:
    driver = start_driver()
    asks = {"server": watchdog.url, "key": watchdog.keys["robot"], "root": root}
    held = driver.acquire("M6B 03-26", streams=["6B1"], **asks)
    assert driver.eventually(lambda: badge(watchdog, "6B") == "OK")
    identity = market_status(watchdog, "6B")["identity"]
    assert identity["stream_ids"] == ["6B1"]
    assert identity["execution_instrument"] == "M6B"

    driver.call("stream", stream="6B1", canonical="6B", execution="M6E")
    assert driver.state()["violations"] == [
        "EXECUTION_NOT_OF_CANONICAL 6B1: 6B1 of 6B executes 'M6E'."
    ]
    assert driver.eventually(lambda: badge(watchdog, "6B") == "VIOLATION")
    (violation,) = market_status(watchdog, "6B")["identity"]["violations"]
    assert violation["message"] == (
        "The robot reports a violation: EXECUTION_NOT_OF_CANONICAL 6B1: 6B1 of 6B executes 'M6E'."
    )

    driver.call("stream", stream="6B1", canonical="6B", execution="M6B")
    assert driver.eventually(lambda: badge(watchdog, "6B") == "OK")

    order = {"order_id": "7", "quantity": 1, "price": 1.25, "is_long": True, "note": "ä\n"}
    driver.call("tell", event="ORDER_SUBMITTED", stream="6B1", data=order)
    driver.call("release")
    assert badge(watchdog, "6B") == "IDLE", "a release waits for what was said before it"
    told = {event["event_type"]: event for event in events(watchdog, held["run_id"])}
    assert set(told) == {
        "ENGINE_START",
        "CANONICALIZATION_SELF_TEST",
        "IDENTITY_INVARIANTS_STATUS",
        "ORDER_SUBMITTED",
        "ENGINE_STOP",
    }
    assert told["CANONICALIZATION_SELF_TEST"]["data"] == {
        "instrument_mappings": {"M6B": "6B"},
        "canonical_stream_ids": ["6B1"],
    }
    assert told["ORDER_SUBMITTED"]["data"] == order
    assert market_status(watchdog, "6B")["identity"]["violations"] == []


def test_an_order_event_carries_both_identities_and_the_token(
    authority: ShortAuthority, start_driver: StartDriver, root: str
) -> None:
    driver = start_driver()
    asks = {"server": authority.url, "key": KEY, "root": root, "account": "Sim101"}
    held = driver.acquire("MES 03-26", streams=["ES1"], **asks)
    driver.call("tell", event="ORDER_SUBMITTED", stream="ES1")
    assert driver.eventually(lambda: any(e["event"] == "ORDER_SUBMITTED" for e in authority.events))
    order = authority.events[-1]
    expected = {
        "run_id": held["run_id"],
        "canonical_instrument": "ES",
        "execution_instrument": "MES",
        "stream": "ES1",
        "account": "Sim101",
        "fencing_token": held["fencing_token"],
    }
    assert expected.items() <= order.items()
    assert order["event_id"]
    assert order["host"]
    status = next(e for e in authority.events if e["event"] == "IDENTITY_INVARIANTS_STATUS")
    assert "fencing_token" not in status, "a late report must not look like a late order"
    assert {"pass": True, "violations": [], "stream_ids": ["ES1"]}.items() <= status["data"].items()
    driver.call("release")


def test_the_invariants_are_reported_every_minute_too(
    authority: ShortAuthority, start_driver: StartDriver, root: str
) -> None:
    """With a clock that runs sixty times faster than the world's."""
    authority.terms.update(ttl=3000, renew_every=1000, stop_after=2000, kill_after=2500)
    driver = start_driver()
    asks = {"server": authority.url, "key": KEY, "root": root, "hurry": 60}
    driver.acquire("ES", streams=["ES1"], **asks)

    def reports() -> list[dict[str, Any]]:
        return [e for e in authority.events if e["event"] == "IDENTITY_INVARIANTS_STATUS"]

    assert driver.eventually(lambda: len(reports()) == 3)
    first, _, third = (datetime.fromisoformat(e["data"]["checked_at_utc"]) for e in reports())
    assert (third - first).total_seconds() > 1.9, "two minutes of its own"
    assert len({event["event_id"] for event in reports()}) == 3
    driver.call("release")


@pytest.mark.parametrize(
    ("streams", "passed", "violations"),
    [
        ([("ES1", "ES", "MES"), ("ES2", "ES", "MES 03-26")], True, []),
        ([], None, []),
        ([("ES1", "ES", "QZZ")], None, []),
        (
            [("MES1", "ES", "MES")],
            False,
            [
                "STREAM_ID_NOT_CANONICAL MES1: The stream id 'MES1' is not a canonical instrument "
                "and a number, like ES1."
            ],
        ),
        (
            [("", "ES", "MES")],
            False,
            [
                "STREAM_ID_NOT_CANONICAL : An empty stream id is not a canonical instrument and a "
                "number, like ES1."
            ],
        ),
        (
            [("ES1", "MES", "MES")],
            False,
            ["INSTRUMENT_MISMATCH ES1: ES1 names 'MES' as its canonical instrument, not ES."],
        ),
        (
            [("ES1", "ES", "")],
            False,
            ["EXECUTION_INSTRUMENT_MISSING ES1: Stream ES1 has no execution instrument."],
        ),
        (
            [("ES1", "ES", "MNQ")],
            False,
            ["EXECUTION_NOT_OF_CANONICAL ES1: ES1 of ES executes 'MNQ'."],
        ),
        (
            [("NG1", "NG", "MNG")],
            False,
            ["INSTRUMENT_MISMATCH NG1: NG1 is a stream of NG, but this guard holds ES."],
        ),
    ],
)
def test_a_chart_judges_its_own_streams_as_the_watchdog_does(
    staged: Driver,
    streams: list[tuple[str, str, str]],
    passed: bool | None,
    violations: list[str],
) -> None:
    for stream, canonical, execution in streams:
        staged.call("stream", stream=stream, canonical=canonical, execution=execution)
    state = staged.state()
    assert (state["pass"], state["violations"]) == (passed, violations)


@pytest.fixture
def staged(start_driver: StartDriver, root: str) -> Iterator[Driver]:
    driver = start_driver()
    driver.acquire("MES", root=root, host_only=True)
    yield driver
    driver.call("release")


def test_what_is_said_while_the_server_is_away_is_kept_up_to_a_bound(
    authority: ShortAuthority, start_driver: StartDriver, root: str
) -> None:
    authority.refuses_events = 503
    driver = start_driver()
    driver.acquire("ES", streams=["ES1"], server=authority.url, key=KEY, root=root)
    driver.call("tell", event="ORDER_SUBMITTED", stream="ES1", times=1500)
    dropped = driver.state()["events_dropped"]
    said = 1503
    # A batch of a hundred may be under way beside the thousand that wait.
    assert said - 1100 <= dropped <= said - 1000
    assert driver.check() == "held", "events starve no renewals"
    (sentence,) = [told for _, event, told in driver.told if event == "EVENTS_DROPPED"]
    assert sentence.startswith("1 of this run's events were dropped: there is no room for more")
    authority.refuses_events = 0
    assert driver.eventually(lambda: len(authority.events) == said - dropped)
    ids = {event["event_id"] for event in authority.events}
    assert len(ids) == said - dropped
    assert driver.eventually(
        lambda: (
            (
                "",
                "EVENTS_DROPPED",
                f"The server takes events again; {dropped} were dropped so far.",
            )
            in driver.told
        )
    )
    driver.call("stream", stream="ES2")
    assert driver.eventually(lambda: authority.events[-1]["data"].get("events_dropped") == dropped)
    driver.call("release")


def test_an_event_that_is_too_long_costs_only_itself(
    authority: ShortAuthority, start_driver: StartDriver, root: str
) -> None:
    driver = start_driver()
    driver.acquire("ES", streams=["ES1"], server=authority.url, key=KEY, root=root)
    driver.call("tell", event="ORDER_SUBMITTED", stream="ES1", data={"note": "x" * 40_000})
    driver.call("tell", event="ORDER_FILLED", stream="ES1")
    assert driver.state()["events_dropped"] == 1
    driver.call("release")
    names = [event["event"] for event in authority.events]
    assert "ORDER_FILLED" in names
    assert "ORDER_SUBMITTED" not in names


def test_data_that_has_no_end_costs_only_its_event(
    authority: ShortAuthority, start_driver: StartDriver, root: str
) -> None:
    driver = start_driver()
    driver.acquire("ES", streams=["ES1"], server=authority.url, key=KEY, root=root)
    driver.call("tell endlessly")
    assert driver.state()["events_dropped"] == 3
    assert driver.check() == "held"
    driver.call("release")


def test_after_a_loss_a_chart_reports_what_it_does_but_not_how_its_market_stands(
    authority: ShortAuthority, start_driver: StartDriver, root: str
) -> None:
    driver = start_driver()
    held = driver.acquire("ES", streams=["ES1"], server=authority.url, key=KEY, root=root)
    assert driver.eventually(lambda: len(authority.events) == 3)
    authority.leases["ES"]["fencing_token"] += 1
    assert driver.eventually(lambda: driver.lost)
    driver.call("stream", stream="ES2")
    driver.call("tell", event="ORDER_SUBMITTED", stream="ES1")
    driver.call("release")
    after = [(event["event"], event.get("fencing_token")) for event in authority.events[3:]]
    assert after == [("ORDER_SUBMITTED", held["fencing_token"]), ("ENGINE_STOP", None)]


def test_events_that_the_server_refuses_for_good_are_counted_and_said(
    authority: ShortAuthority, start_driver: StartDriver, root: str
) -> None:
    authority.refuses_events = 403
    driver = start_driver()
    driver.acquire("ES", streams=["ES1"], server=authority.url, key=KEY, root=root)
    assert driver.eventually(lambda: driver.state()["events_dropped"] == 3)
    assert "EVENTS_DROPPED" in driver.said()
    driver.call("release")


def test_events_whose_reply_was_lost_are_counted_once(
    watchdog: Server, start_driver: StartDriver, root: str
) -> None:
    network = LosingNetwork(watchdog, "/api/events")
    driver = start_driver()
    try:
        asks = {"server": network.url, "key": watchdog.keys["robot"], "root": root}
        held = driver.acquire("6S", streams=["6S1"], **asks)
        assert driver.eventually(lambda: network.carried == 2)
        driver.call("release")
    finally:
        network.stop()
    kept = [event["event_type"] for event in events(watchdog, held["run_id"])]
    assert sorted(kept) == [
        "CANONICALIZATION_SELF_TEST",
        "ENGINE_START",
        "ENGINE_STOP",
        "IDENTITY_INVARIANTS_STATUS",
    ]
    assert driver.state()["events_dropped"] == 0
