"""Identity over HTTP: what is taken, what is refused and how, and what can be read back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from identity.models import IdentityEvent
from tests.identity.cast import NOW, ago, complete, incomplete, line, post
from watchdog_project.api_keys import create_api_key

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("registry")]


def client(role: str) -> APIClient:
    made = APIClient()
    made.credentials(HTTP_AUTHORIZATION=f"Api-Key {create_api_key(role, role)}")
    return made


@pytest.fixture
def robot() -> APIClient:
    return client("robot")


@pytest.fixture
def reader() -> APIClient:
    return client("reader")


def send(robot: APIClient, body: Any, content_type: str = "application/json") -> Any:
    content = body if isinstance(body, (bytes, str)) else json.dumps(body)
    return robot.generic("POST", "/api/events", content, content_type)


def test_one_event_a_list_and_one_a_line_are_taken(robot: APIClient) -> None:
    now = timezone.now()
    assert send(robot, complete(at=now)).json()["accepted"] == 1
    assert send(robot, [line("A", at=now), line("B", at=now)]).json()["accepted"] == 2
    lines = "".join(json.dumps(line(name, at=now)) + "\r\n\n" for name in "CDE")
    answer = send(robot, lines, "application/x-ndjson")
    assert (answer.status_code, answer.json()["accepted"]) == (200, 3)


@pytest.mark.parametrize("content_type", ["application/json", "application/x-ndjson"])
def test_one_event_that_fills_the_body_is_refused_and_costs_only_itself(
    robot: APIClient, content_type: str
) -> None:
    huge = json.dumps(line("A", data={"text": "x" * (5 * 1024 * 1024 - 2_000)}))
    good = json.dumps(line("B"))
    bodies = {"application/json": f"[{huge},{good}]", "application/x-ndjson": f"{huge}\n{good}"}
    answer = send(robot, bodies[content_type], content_type)
    assert (answer.status_code, answer.json()["accepted"]) == (200, 1)
    assert [(bad["index"], bad["code"]) for bad in answer.json()["rejected"]] == [(0, "UNREADABLE")]


def test_sending_again_adds_nothing(robot: APIClient) -> None:
    body = [complete(), line("A", event_id="7"), line("B")]
    assert send(robot, body).json() == {
        "accepted": 3, "duplicates": 0, "rejected": [], "warnings": [],
    }  # fmt: skip
    assert send(robot, body).json()["duplicates"] == 3
    again = "\n".join(json.dumps(one) for one in body)
    assert send(robot, again, "application/x-ndjson").json()["duplicates"] == 3


def test_an_event_id_makes_it_the_same_event_in_its_run_only(robot: APIClient) -> None:
    send(robot, line("A", event_id="7", message="first"))
    assert send(robot, line("A", event_id="7", message="again")).json()["duplicates"] == 1
    assert send(robot, line("A", event_id="7", run="run-b")).json()["accepted"] == 1


def test_a_bad_line_costs_only_itself(robot: APIClient) -> None:
    twice = '{"event": "X", "ts_utc": "2026-04-01T15:00:00Z", "run_id": "a", "run_id": "b"}'
    body = f'[{json.dumps(line("A"))}, "rubbish", {{"event": "X"}}, {twice}, null]'
    answer = send(robot, body).json()
    assert answer["accepted"] == 1
    assert [(one["index"], one["code"]) for one in answer["rejected"]] == [
        (1, "UNREADABLE"), (2, "TIME_UNREADABLE"), (3, "UNREADABLE"), (4, "UNREADABLE"),
    ]  # fmt: skip
    assert all(one["detail"].endswith(".") for one in answer["rejected"])
    lines = send(robot, b"rubbish\n\xff\n" + json.dumps(line("B")).encode(), "application/x-ndjson")
    assert (lines.json()["accepted"], len(lines.json()["rejected"])) == (1, 2)


def test_a_thousand_bad_lines_are_each_named(robot: APIClient) -> None:
    answer = send(robot, [1] * 1000).json()
    assert [one["index"] for one in answer["rejected"]] == list(range(1000))


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        ("rubbish", "application/json", 400, "MALFORMED_BODY"),
        (b"\xff\xfe", "application/json", 400, "MALFORMED_BODY"),
        ("[" * 100_000, "application/json", 400, "MALFORMED_BODY"),
        ("", "application/json", 400, "MALFORMED_BODY"),
        ("{}", "text/csv", 415, "UNSUPPORTED_MEDIA_TYPE"),
        ([1] * 1001, "application/json", 413, "TOO_MANY_EVENTS"),
        ("{}\n" * 1001, "application/x-ndjson", 413, "TOO_MANY_EVENTS"),
        (b"x" * (5 * 1024 * 1024 + 1), "application/x-ndjson", 413, "BODY_TOO_LARGE"),
    ],
)
def test_a_bad_body_is_refused_and_changes_nothing(
    robot: APIClient, body: Any, content_type: str, status: int, code: str
) -> None:
    answer = send(robot, body, content_type)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer["Content-Type"] == "application/problem+json"
    assert not IdentityEvent.objects.exists()


def test_readers_read_and_only_robots_report(robot: APIClient, reader: APIClient) -> None:
    assert send(reader, complete()).status_code == 403
    assert send(APIClient(), complete()).status_code == 401
    for address in ("events", "identity/violations", "identity/resolve?symbol=MES"):
        assert APIClient().get(f"/api/{address}").status_code == 401
        assert reader.get(f"/api/{address}").status_code == 200
        assert robot.get(f"/api/{address.replace('?', '/?')}").status_code == 200


def test_events_are_narrowed_by_every_filter(reader: APIClient) -> None:
    post(complete(at=ago(60)), line("A", at=ago(30), run="run-b"), line("B"))

    def found(**wanted: str) -> list[str]:
        answer = reader.get("/api/events", {"origin": "robot", **wanted})
        assert answer.status_code == 200, answer.json()
        return [row["event_type"] for row in answer.json()["results"]]

    assert found() == ["B", "A", "ORDER_SUBMITTED"]
    assert found(event_type="A") == ["A"]
    assert found(market="ES") == ["ORDER_SUBMITTED"]
    assert found(run_id="run-b") == ["A"]
    assert found(since=ago(30).isoformat()) == ["B", "A"]
    assert found(until=ago(30).isoformat()) == ["ORDER_SUBMITTED"]
    assert found(since="2026-04-01T15:00:00 00:00") == ["B"], "a plus that was not escaped"


@pytest.mark.parametrize(
    "query", ["since=yesterday", "until=2026-04-01T15:00:00", "origin=x", "market=a%00b"]
)
def test_a_filter_that_makes_no_sense_is_refused(reader: APIClient, query: str) -> None:
    assert reader.get(f"/api/events?{query}").status_code == 400


def test_pages_go_through_everything_once(reader: APIClient) -> None:
    post(*[line("A", number=number) for number in range(25)])
    address, seen = "/api/events?page_size=10", []
    while address:
        page = reader.get(address).json()
        assert set(page) == {"next", "previous", "results"}
        seen += [row["id"] for row in page["results"]]
        address = page["next"]
    assert len(seen) == len(set(seen)) == 25
    assert reader.get("/api/events?cursor=rubbish").status_code == 404


def test_an_event_is_shown_with_its_own_data_and_the_line_as_it_was_written(
    reader: APIClient,
) -> None:
    post(complete())
    (row,) = reader.get("/api/events?event_type=ORDER_SUBMITTED").json()["results"]
    assert row["data"]["execution_instrument"] == "MES"
    assert row["record"] == json.loads(json.dumps(complete()))


def test_violations_are_listed_open_or_all_with_every_promised_field(reader: APIClient) -> None:
    post(incomplete(at=ago(20)), incomplete("INTENT_X"), complete())
    rows = reader.get("/api/identity/violations").json()["results"]
    assert {row["subject"] for row in rows} == {"ORDER_SUBMITTED", "INTENT_X"}
    (row,) = reader.get("/api/identity/violations?open=true").json()["results"]
    assert row["subject"] == "INTENT_X"
    assert {
        "code", "subject", "market", "scope", "message", "count", "sample", "opened_at",
        "last_seen_at", "ended_at", "accepted_until", "acknowledged_by", "acknowledged_reason",
    } <= set(row)  # fmt: skip
    assert row["runbook"] == "docs/runbook.md#event_identity_incomplete"
    (ended,) = reader.get("/api/identity/violations?open=false").json()["results"]
    assert ended["subject"] == "ORDER_SUBMITTED"


def test_a_symbol_is_resolved_in_any_notation_and_an_unknown_one_names_the_nearest(
    reader: APIClient,
) -> None:
    answer = reader.get("/api/identity/resolve", {"symbol": "mes 03-26"}).json()
    assert answer == {
        "symbol": "MES 03-26", "execution_instrument": "MES", "canonical_instrument": "ES",
        "contract": "2026-03",
    }  # fmt: skip
    unknown = reader.get("/api/identity/resolve", {"symbol": "MESS"})
    assert (unknown.status_code, unknown.json()["code"]) == (422, "UNKNOWN_INSTRUMENT")
    assert "MES" in unknown.json()["detail"]
    assert reader.get("/api/identity/resolve").status_code == 400


def test_who_sent_events_is_their_log(robot: APIClient) -> None:
    send(robot, incomplete(at=NOW))
    row = robot.get("/api/identity/violations").json()["results"][0]
    assert row["log"].startswith("robot (")
