"""Acceptance: identity, from a robot's line to the status and the badge, over real HTTP."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from tests.server import Server


def event(name: str, *, run: str = "run-1", **data: Any) -> dict[str, Any]:
    """A robot log line as a robot writes it, of now."""
    return {
        "event_id": uuid.uuid4().hex,
        "ts_utc": datetime.now(UTC).isoformat(),
        "level": "INFO",
        "source": "RobotEngine",
        "instrument": data.pop("instrument", ""),
        "stream": data.pop("stream", None),
        "run_id": run,
        "event": name,
        "message": name,
        "data": data,
    }


def post(server: Server, *events: dict[str, Any]) -> dict[str, Any]:
    status, answer = server.request("POST", "/api/events", list(events))
    assert status == 200, answer
    return dict(answer)


def complete_order(**more: Any) -> dict[str, Any]:
    return event(
        "ORDER_SUBMITTED",
        instrument="MES",
        stream="ES1",
        canonical_instrument="ES",
        execution_instrument="MES",
        **more,
    )


def status_of(server: Server, market: str = "ES") -> dict[str, Any]:
    status, answer = server.request("GET", f"/api/watchdog/status?market={market}", role="reader")
    assert status == 200, answer
    return dict(answer)


def results(server: Server) -> list[dict[str, Any]]:
    status, page = server.request(
        "GET", "/api/events?event_type=IDENTITY_INVARIANTS_STATUS&market=ES", role="reader"
    )
    assert status == 200, page
    return list(page["results"])


def badge(server: Server) -> str:
    status, svg = server.request("GET", "/api/watchdog/badge.svg", role="reader")
    assert status == 200
    return str(svg)


def test_an_order_on_mes_keeps_both_identities(server: Server) -> None:
    assert post(server, complete_order())["accepted"] == 1

    _, page = server.request("GET", "/api/events?event_type=ORDER_SUBMITTED", role="reader")
    (kept,) = page["results"]
    assert kept["market"] == "ES"
    assert kept["data"]["canonical_instrument"] == "ES"
    assert kept["data"]["execution_instrument"] == "MES"
    _, open_ones = server.request("GET", "/api/identity/violations?open=true", role="reader")
    assert open_ones["results"] == []


def test_a_violation_is_seen_and_surfaced_in_api_and_badge(server: Server) -> None:
    post(server, complete_order())
    post(server, event("ORDER_SUBMITTED", instrument="MES", stream="ES1"))

    told = status_of(server)
    assert told["status"] == "VIOLATION"
    assert told["last_identity_invariants_pass"] is False
    assert told["last_identity_invariants_event_chicago"] is not None
    (message,) = told["last_identity_violations"]
    assert "ORDER_SUBMITTED" in message
    (row,) = told["markets"]
    (violation,) = row["identity"]["violations"]
    assert violation["code"] == "EVENT_IDENTITY_INCOMPLETE"
    assert "IDENTITY VIOLATION" in badge(server)


def test_a_violation_is_mended_by_a_right_event_of_the_same_run_only(server: Server) -> None:
    # Intents, because two runs with orders would be two executors.
    complete = {"event": "INTENT_REGISTERED"}
    post(server, event("INTENT_REGISTERED", instrument="MES", stream="ES1"))
    post(server, complete_order() | complete | {"run_id": "another-run"})
    assert status_of(server)["status"] == "VIOLATION"
    post(server, complete_order() | complete)
    assert status_of(server)["last_identity_violations"] == []


def test_one_markets_pass_does_not_hide_anothers_failure(server: Server) -> None:
    post(server, event("ORDER_SUBMITTED", instrument="MNQ", stream="NQ1", run="run-2"))
    post(server, complete_order())
    assert server.manage("sweep").returncode == 1
    _, told = server.request("GET", "/api/watchdog/status", role="reader")
    assert told["status"] == "VIOLATION"
    assert {row["market"]: row["identity"]["status"] for row in told["markets"]} == {
        "NQ": "VIOLATION",
        "ES": "OK",
    }


def test_the_result_is_emitted_at_once_on_change_and_by_every_sweep(server: Server) -> None:
    post(server, complete_order())
    on_first_sight = results(server)
    assert [result["data"]["pass"] for result in on_first_sight] == [True]

    post(server, complete_order())
    assert len(results(server)) == 1, "nothing changed, so nothing is said"

    post(server, event("ORDER_FILLED", instrument="MES", stream="ES1"))
    assert results(server)[0]["data"]["pass"] is False

    for _ in range(2):
        assert server.manage("sweep").returncode == 1
    assert len(results(server)) == 4, "a sweep says it whether it changed or not"
    assert {
        "pass", "violations", "canonical_instrument", "execution_instrument", "stream_ids",
        "checked_at_utc",
    } <= set(results(server)[0]["data"])  # fmt: skip


def test_nothing_to_check_is_unknown_and_not_a_pass(server: Server) -> None:
    _, told = server.request("GET", "/api/watchdog/status", role="reader")
    assert told["status"] == "UNKNOWN"
    assert told["last_identity_invariants_pass"] is None
    assert told["markets"] == []
    assert "IDENTITY UNKNOWN" in badge(server)


def test_a_clean_stop_is_idle_and_never_a_pass(server: Server) -> None:
    post(server, event("ENGINE_START"), complete_order(), event("ENGINE_STOP"))
    server.manage("sweep")
    told = status_of(server)
    assert told["status"] == "IDLE"
    assert told["last_identity_invariants_pass"] is None


def test_a_body_that_cannot_be_read_is_refused_and_a_bad_line_costs_only_itself(
    server: Server,
) -> None:
    status, answer = server.request("POST", "/api/events", [complete_order(), "rubbish"])
    assert status == 200
    assert answer["accepted"] == 1
    assert [(row["index"], row["code"]) for row in answer["rejected"]] == [(1, "UNREADABLE")]
    status, problem = server.request("POST", "/api/events", [complete_order()], role=None)
    assert (status, problem["status"]) == (401, 401)
