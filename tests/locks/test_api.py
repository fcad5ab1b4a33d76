"""The lock authority as a robot in any language meets it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client

from locks.models import KillSwitch, LockEvent, LockRecord, Tenure
from tests.locks.cast import Robot, pass_time
from tests.locks.rivals import somebody_holds_the_row
from watchdog_project.api_keys import create_api_key

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.locks.urls"),
]
NONCE = "0123456789abcdef" * 2
ACQUIRE: dict[str, Any] = {
    "execution_instrument": "MES 03-26",
    "canonical_instrument": "ES",
    "run_id": "run-1",
    "nonce": NONCE,
    "account": "Sim101",
    "host": "trader-1",
    "boot_id": "boot-1",
    "pid": 4711,
    "lock_file_path": "/robots/runtime_locks/canonical_ES.lock",
}
Call = Callable[..., tuple[int, Any, HttpResponse]]


@pytest.fixture
def call(client: Client) -> Call:
    """POST where there is a body, else GET; status, decoded answer, and the answer itself."""
    keys = {role: create_api_key(role, role) for role in ("robot", "reader", "operator")}

    def call(path: str, body: Any = None, role: str | None = "robot", raw: Any = None) -> Any:
        headers = {"Authorization": f"Api-Key {keys[role]}"} if role else {}
        if body is None and raw is None:
            answer = client.get(path, headers=headers)
        else:
            data = json.dumps(body) if raw is None else raw
            answer = client.post(path, data, content_type="application/json", headers=headers)
        return answer.status_code, json.loads(answer.content), answer

    return call


def held(token: int = 1, **other: Any) -> dict[str, Any]:
    return {
        "kind": "canonical_market",
        "name": "ES",
        "scope": "",
        "run_id": "run-1",
        "nonce": NONCE,
        "fencing_token": token,
        **other,
    }


def test_acquire_answers_with_the_lease_and_its_durations(call: Call) -> None:
    status, answer, _ = call("/api/locks/acquire", ACQUIRE)
    assert status == 200
    assert answer == {
        "kind": "canonical_market",
        "name": "ES",
        "scope": "",
        "canonical_instrument": "ES",
        "execution_instrument": "MES",
        "run_id": "run-1",
        "fencing_token": 1,
        "ttl": 15,
        "renew_every": 5,
        "stop_after": 10,
        "kill_after": 12,
        "takeover": False,
    }
    assert call("/api/locks/acquire/", ACQUIRE)[1] == answer, "again, with a slash"


def test_a_second_run_learns_who_is_first_and_when_to_come_back(call: Call) -> None:
    call("/api/locks/acquire", ACQUIRE)
    status, problem, answer = call(
        "/api/locks/acquire",
        {**ACQUIRE, "run_id": "run-2", "nonce": "e" * 32, "execution_instrument": "ES"},
    )
    assert (status, problem["code"]) == (409, "CANONICAL_MARKET_ALREADY_ACTIVE")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert {
        "canonical_instrument", "execution_instrument", "active_run_id", "active_host",
        "active_execution_instrument", "active_since", "lock_age_seconds", "fencing_token",
        "retry_after",
    } <= set(problem)  # fmt: skip
    assert (problem["active_run_id"], problem["active_host"]) == ("run-1", "trader-1")
    assert 28 < problem["retry_after"] <= 30
    assert answer.headers["Retry-After"] in ("29", "30")


def test_a_lease_is_renewed_verified_and_released(call: Call) -> None:
    call("/api/locks/acquire", ACQUIRE)
    assert call("/api/locks/renew", held())[:2] == (
        200,
        {"ttl": 15, "fencing_token": 1, "renewals": 1, "kill_switch_active": False},
    )
    verify = {"kind": "canonical_market", "name": "ES", "scope": "", "fencing_token": 1}
    assert call("/api/locks/verify", verify)[:2] == (200, {"valid": True})
    released = {"released": True, "was_holder": True}
    assert call("/api/locks/release", held())[:2] == (200, released)
    again = {"released": True, "was_holder": False}
    assert call("/api/locks/release", held(reason="crashed"))[:2] == (200, again)
    assert call("/api/locks/renew", held())[1]["code"] == "CANONICAL_MARKET_LOCK_LOST"
    status, problem, _ = call("/api/locks/verify", verify)
    assert (status, problem["code"]) == (409, "STALE_FENCING_TOKEN")


def test_kind_and_scope_may_be_left_out(call: Call) -> None:
    call("/api/locks/acquire", ACQUIRE)
    short = {name: held()[name] for name in ("name", "run_id", "nonce", "fencing_token")}
    assert call("/api/locks/renew", short)[0] == 200


def test_another_api_key_neither_renews_nor_releases(call: Call) -> None:
    call("/api/locks/acquire", ACQUIRE)
    for path in ("/api/locks/renew", "/api/locks/release"):
        status, problem, _ = call(path, held(), role="operator")
        assert (status, problem["code"]) == (409, "CANONICAL_MARKET_LOCK_LOST")
    assert call("/api/locks/renew", held())[0] == 200


def test_the_lock_delay_says_when_it_is_over(call: Call) -> None:
    call("/api/locks/acquire", ACQUIRE)
    pass_time(15)
    status, problem, answer = call(
        "/api/locks/acquire", {**ACQUIRE, "run_id": "run-2", "nonce": "e" * 32}
    )
    assert (status, problem["code"]) == (409, "LOCK_DELAY")
    assert 14 < problem["retry_after"] <= 15
    assert answer.headers["Retry-After"] == "15"


@pytest.mark.parametrize(
    ("other", "code"),
    [
        ({"execution_instrument": "MEZ"}, "UNKNOWN_INSTRUMENT"),
        ({"canonical_instrument": "NQ"}, "MAPPING_DRIFT"),
        (
            {"execution_instrument": "MGC", "canonical_instrument": "GC", "account": None},
            "ACCOUNT_REQUIRED",
        ),
    ],
)
def test_what_the_registry_refuses_is_422(call: Call, other: dict[str, Any], code: str) -> None:
    status, problem, _ = call("/api/locks/acquire", {**ACQUIRE, **other})
    assert (status, problem["code"]) == (422, code)
    assert not LockRecord.objects.exists()


def test_only_an_operator_revokes(call: Call) -> None:
    call("/api/locks/acquire", ACQUIRE)
    body = {"name": "ES", "fencing_token": 1, "reason": "wrong account"}
    assert call("/api/locks/revoke", body)[0] == 403
    assert call("/api/locks/revoke", {**body, "reason": " "}, role="operator")[0] == 400
    status, answer, _ = call("/api/locks/revoke", body, role="operator")
    assert (status, answer["state"], answer["fencing_token"]) == (200, "REVOKED", 2)
    assert LockEvent.objects.latest("id").data["revoked_by"] == "operator"
    status, problem, _ = call("/api/locks/revoke", body, role="operator")
    assert (status, problem["code"]) == (409, "STALE_FENCING_TOKEN")


def test_the_kill_switch_is_read_by_readers_and_used_by_operators(call: Call) -> None:
    body = {"engaged": True, "market": "MES", "reason": "fat finger"}
    assert call("/api/kill-switch", body)[0] == 403
    status, answer, _ = call("/api/kill-switch", body, role="operator")
    assert (status, answer["market"], answer["engaged"]) == (200, "ES", True)
    status, problem, _ = call("/api/locks/acquire", ACQUIRE)
    assert (status, problem["code"], problem["market"]) == (423, "KILL_SWITCH_ACTIVE", "ES")
    _, switches, _ = call("/api/kill-switch", role="reader")
    assert switches["engaged"] is False
    assert [row["market"] for row in switches["switches"]] == [None, "ES"]

    everywhere = {"engaged": True, "market": None, "reason": "news"}
    assert call("/api/kill-switch", everywhere, role="operator")[1]["market"] is None
    assert call("/api/kill-switch", role="reader")[1]["engaged"] is True
    unknown = {"engaged": True, "market": "XX", "reason": "x"}
    assert call("/api/kill-switch", unknown, role="operator")[1]["code"] == "UNKNOWN_INSTRUMENT"


@pytest.mark.parametrize("path", ["/api/locks", "/api/locks/tenures", "/api/locks/events"])
def test_nothing_is_listed_for_strangers_and_no_nonce_for_anybody(call: Call, path: str) -> None:
    call("/api/locks/acquire", ACQUIRE)
    assert call(path, role=None)[0] == 401
    status, page, answer = call(path, role="reader")
    assert status == 200
    assert set(page) == {"next", "previous", "results"}
    assert len(page["results"]) == 1
    assert NONCE not in answer.content.decode()
    assert LockRecord.objects.get().nonce_hash not in answer.content.decode()


def test_the_lists_are_filtered(call: Call) -> None:
    call("/api/locks/acquire", ACQUIRE)
    Robot("run-2", "MNQ").acquire()

    def names(query: str) -> list[str]:
        return [row["name"] for row in call(f"/api/locks{query}", role="reader")[1]["results"]]

    assert names("?name=ES") == ["ES"]
    assert names("?state=HELD&kind=canonical_market&scope=") == ["NQ", "ES"]
    assert names("?state=FREE") == []
    assert names("/tenures/?name=NQ") == ["NQ"]
    assert names("/events?type=CANONICAL_MARKET_LOCK_ACQUIRED&name=ES") == ["ES"]
    assert names("/events?since=2100-01-01T00:00:00Z") == []
    assert names("/events?since=2020-01-01T00:00:00Z") == ["NQ", "ES"]
    (row,) = call("/api/locks?name=ES", role="reader")[1]["results"]
    assert 13 < row["expires_in"] <= 15


@pytest.mark.parametrize(
    "query",
    [
        "/api/locks?state=MAYBE",
        "/api/locks?name=%00",
        "/api/locks/events?type=NEWS",
        "/api/locks/events?since=yesterday",
        "/api/locks/events?since=2020-01-01",
        "/api/locks/events?since=2020-01-01T00:00:00",
        "/api/locks/events?since=0001-01-01T00:00:00%2B14:00",
        "/api/locks/events?since=9999-12-31T23:59:59-14:00",
        "/api/locks/tenures?kind=x",
        "/api/locks?nmae=ES",
        "/api/locks?name=ES&name=NQ",
        "/api/locks?page_size=0",
        "/api/locks?page_size=-1",
        "/api/locks?page_size=1001",
        "/api/locks?page_size=ten",
        "/api/locks?page_size=",
        "/api/locks?page_size=١",
        "/api/locks?page_size=" + "9" * 5000,
        "/api/locks?lock__nonce_hash=5",
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(call: Call, query: str) -> None:
    status, problem, _ = call(query, role="reader")
    assert (status, problem["code"]) == (400, "INVALID_QUERY")


@pytest.mark.parametrize("wild", ["%25", "_S", "E%25", "*", "E?", "ES' OR '1'='1", "ES\\"])
def test_a_filter_means_what_it_says_and_no_pattern(call: Call, wild: str) -> None:
    call("/api/locks/acquire", ACQUIRE)
    for path in ("locks", "locks/tenures", "locks/events"):
        status, page, _ = call(f"/api/{path}?name={wild}", role="reader")
        assert (status, page["results"]) == (200, [])


@pytest.mark.parametrize("cursor", ["x", "cD1hYmM=", "cD05OTk5OTk5OTk5OTk5OTk5OTk5OTk5"])
def test_a_cursor_that_nobody_gave_out_is_refused(call: Call, cursor: str) -> None:
    assert call(f"/api/locks/events?cursor={cursor}", role="reader")[0] == 404


def test_pages_follow_one_another_without_gap_or_repetition(call: Call) -> None:
    call("/api/locks/acquire", ACQUIRE)
    for _ in range(4):
        robot = Robot("other", run := "MNQ")
        robot.acquire(canonical_instrument="NQ", execution_instrument=run)
        pass_time(60)
        with pytest.raises(Exception, match="granted again"):
            Robot("next", "MNQ").acquire()
        pass_time(60)
    seen: list[int] = []
    address = "/api/locks/events?page_size=2"
    while address:
        _, page, _ = call(address, role="reader")
        assert len(page["results"]) <= 2
        seen += [row["id"] for row in page["results"]]
        address = page["next"]
    assert seen == list(LockEvent.objects.order_by("-id").values_list("id", flat=True))
    assert len(seen) > 6


BAD_VALUES: dict[str, list[Any]] = {
    "run_id": [None, "", 7, True, [], {}, "x" * 129, "a\x00b", "a\nb", "\ud800"],
    "nonce": [None, "", 7, "g" * 32, "a" * 31, "a" * 129, "\u0661" * 32],
    "host": [None, "", 7, "x" * 256, "a\x00"],
    "pid": [-1, 2**63, 1.5, "7", True, [], 10**400],
    "account": [7, "x" * 129, "\x00", "trimmed\x1c"],
    "kind": ["", "x", None, 7, [], {}],
    "execution_instrument": [None, "", 7, "x" * 65, "\x00"],
    "canonical_instrument": [None, "", 7, "x" * 17],
    "lock_file_path": ["x" * 1025, 7],
}


@pytest.mark.parametrize("field", BAD_VALUES)
def test_a_bad_value_is_a_clear_400_and_changes_nothing(call: Call, field: str) -> None:
    for value in BAD_VALUES[field]:
        status, problem, _ = call("/api/locks/acquire", {**ACQUIRE, field: value})
        assert (status, problem["code"]) == (400, "INVALID_BODY"), (field, value, problem)
        assert problem["detail"].startswith(f"{field}: "), problem
    assert not LockRecord.objects.exists()
    assert not LockEvent.objects.exists()


@pytest.mark.parametrize("missing", ["run_id", "nonce", "name", "fencing_token"])
@pytest.mark.parametrize("path", ["renew", "release"])
def test_nobody_renews_or_releases_without_saying_who_he_is(
    call: Call, path: str, missing: str
) -> None:
    call("/api/locks/acquire", ACQUIRE)
    body = held()
    del body[missing]
    status, problem, _ = call(f"/api/locks/{path}", body)
    assert (status, problem["code"]) == (400, "INVALID_BODY")
    assert LockRecord.objects.get().state == "HELD"


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"null", b"[]", b"7", b'"x"', b"{", b'{"run_id": NaN}', b"\xff\xfe", b"[" * 60_000,
        b'{"run_id": "a", "run_id": "b"}', b'{"pid": Infinity}', '{"host": "x"}'.encode("utf-16"),
        b'{"a":' * 9_000 + b"1" + b"}" * 9_000, b'{"pid": ' + b"9" * 5_000 + b"}",
    ],
    ids=lambda raw: raw[:12].decode(errors="replace"),
)  # fmt: skip
@pytest.mark.parametrize("path", ["acquire", "renew", "verify"])
def test_what_is_not_a_json_object_is_refused(call: Call, path: str, raw: bytes) -> None:
    status, problem, _ = call(f"/api/locks/{path}", raw=raw)
    assert status == 400, problem
    assert problem["code"] in ("INVALID_BODY", "MALFORMED_BODY")


def test_a_body_larger_than_any_request_is_refused(call: Call) -> None:
    status, problem, _ = call("/api/locks/acquire", {**ACQUIRE, "more": "x" * 70_000})
    assert (status, problem["code"]) == (413, "BODY_TOO_LARGE")


def test_a_database_that_does_not_answer_is_503_and_grants_nothing(call: Call) -> None:
    call("/api/locks/acquire", ACQUIRE)
    call("/api/locks/release", held())
    with somebody_holds_the_row():
        status, problem, answer = call(
            "/api/locks/acquire", {**ACQUIRE, "run_id": "run-2", "nonce": "e" * 32}
        )
    assert (status, problem["code"]) == (503, "LOCK_AUTHORITY_UNAVAILABLE")
    assert answer.headers["Retry-After"] == "1"
    assert Tenure.objects.count() == 1


def test_a_missing_kill_switch_is_423_in_words_an_operator_can_act_on(call: Call) -> None:
    KillSwitch.objects.all().delete()
    status, problem, _ = call("/api/locks/acquire", ACQUIRE)
    assert (status, problem["code"]) == (423, "KILL_SWITCH_ACTIVE")
    assert "an operator has to set it" in problem["detail"]
