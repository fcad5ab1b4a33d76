"""The short ways answer as the long ones do, and never know better."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from identity.models import WatchedMarket
from locks.quick_renewal import holder_at_a_glance
from locks.serializers import RenewBody
from tests.locks.cast import Robot, pass_time
from watchdog_project.api_keys import create_api_key, known_principal, revoke_api_key
from watchdog_project.key_memory import MEMORY
from watchdog_project.status_memory import STATUS

pytestmark = pytest.mark.django_db(transaction=True)
Renew = Callable[..., HttpResponse]


@pytest.fixture
def key() -> Iterator[str]:
    MEMORY.remembered.clear()
    yield create_api_key("robot", "robot")
    MEMORY.remembered.clear()


@pytest.fixture
def body(key: str) -> dict[str, Any]:
    """Of a renewal of a lease that lasts."""
    robot = Robot("run-1", key_prefix=key.partition(".")[0])
    grant = robot.acquire()
    return {
        "kind": "canonical_market",
        "name": "ES",
        "scope": "",
        "run_id": "run-1",
        "nonce": robot.nonce,
        "fencing_token": grant.fencing_token,
    }


@pytest.fixture
def renew(client: Client, key: str, settings: Any) -> Renew:
    def renew(body: Any, *, at_a_glance: bool = True, **headers: str) -> HttpResponse:
        settings.WATCHDOG_KEY_MEMORY_SECONDS = 30 if at_a_glance else 0
        MEMORY.remembered.clear()
        if at_a_glance:
            known_principal(key, timezone.now())
        return client.post(  # type: ignore[return-value]
            "/api/locks/renew",
            json.dumps(body),
            content_type="application/json",
            headers={"Authorization": f"Api-Key {key}", **headers},
        )

    return renew


def told(answer: HttpResponse) -> tuple[int, str, Any]:
    body = json.loads(answer.content)
    for changing in ("renewals", "request_id"):
        body.pop(changing, None)
    return answer.status_code, answer.headers["Content-Type"], body


def test_both_ways_spell_a_renewals_answer_the_same(renew: Renew, body: dict[str, Any]) -> None:
    at_a_glance, at_length = (renew(body, at_a_glance=way).content for way in (True, False))
    assert at_a_glance == at_length.replace(b'"renewals":2', b'"renewals":1')


def test_a_renewal_by_a_known_key_asks_for_nothing_but_the_lease(
    client: Client, key: str, body: dict[str, Any]
) -> None:
    known_principal(key, timezone.now())
    # The lease has a connection of its own.
    with CaptureQueriesContext(connection) as others:
        answer = client.post(
            "/api/locks/renew",
            json.dumps(body),
            content_type="application/json",
            headers={"Authorization": f"Api-Key {key}"},
        )
    assert (answer.status_code, answer.json()["renewals"]) == (200, 1)
    assert answer.headers["Content-Length"] == str(len(answer.content))
    assert len(others) == 0


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"fencing_token": 99},
        {"nonce": "f" * 32},
        {"name": "NQ"},
        {"name": " ES "},
        {"name": ""},
        {"run_id": "run-2"},
        {"scope": "Sim101"},
        {"kind": "log_sink"},
        {"kind": "nonsense"},
        {"fencing_token": "1"},
        {"fencing_token": True},
        {"fencing_token": 1.0},
        {"more": 1},
        {"run_id": "r" * 129},
    ],
    ids=str,
)
def test_the_short_way_and_the_long_way_give_one_answer(
    renew: Renew, body: dict[str, Any], change: dict[str, Any]
) -> None:
    asked = {**body, **change}
    assert told(renew(asked)) == told(renew(asked, at_a_glance=False))


def test_a_lease_past_its_end_is_lost_on_the_short_way_too(
    renew: Renew, body: dict[str, Any]
) -> None:
    assert renew(body).status_code == 200
    pass_time(16)
    answer = renew(body)
    assert (answer.status_code, json.loads(answer.content)["code"]) == (
        409,
        "CANONICAL_MARKET_LOCK_LOST",
    )


def test_a_revoked_key_renews_nothing_from_then_on(renew: Renew, body: dict[str, Any]) -> None:
    assert renew(body).status_code == 200
    revoke_api_key("robot", timezone.now())
    assert MEMORY.remembered == {}
    assert renew(body).status_code == 401


def test_a_reader_and_a_strange_host_are_refused_as_ever(
    client: Client, renew: Renew, body: dict[str, Any]
) -> None:
    assert renew(body, Host="evil.example").status_code == 400
    reader = create_api_key("reader", "reader")
    for _ in range(2):
        answer = client.post(
            "/api/locks/renew",
            json.dumps(body),
            content_type="application/json",
            headers={"Authorization": f"Api-Key {reader}"},
        )
        assert answer.status_code == 403


TEXT = st.one_of(st.text(max_size=6), st.sampled_from(["ES", "run-1", " ES", "x" * 128, "x" * 129]))
VALUE = st.one_of(TEXT, st.none(), st.booleans(), st.integers(-1, 2**63), st.floats(), st.just([]))
NONCES = st.sampled_from(["0123456789abcdef" * 2, "g" * 32, "a" * 31, "A" * 128])
BODIES = st.fixed_dictionaries(
    {
        "name": st.one_of(TEXT, VALUE),
        "run_id": st.one_of(TEXT, VALUE),
        "nonce": st.one_of(NONCES, VALUE),
        "fencing_token": st.one_of(st.integers(0, 9), VALUE),
    },
    optional={
        "scope": st.one_of(TEXT, VALUE),
        "kind": st.one_of(st.just("canonical_market"), VALUE),
        "more": VALUE,
    },
)


@given(BODIES)
def test_what_is_taken_at_a_glance_is_what_the_serializer_takes(body: dict[str, Any]) -> None:
    glance = holder_at_a_glance(json.dumps(body).encode(), "aaaa1111")
    if glance is None:
        return
    form = RenewBody(data=json.loads(json.dumps(body)))
    assert form.is_valid(), form.errors
    valid = form.validated_data
    assert (glance.lock, glance.run_id, glance.nonce, glance.fencing_token) == (
        form.lock(), valid["run_id"], valid["nonce"], valid["fencing_token"],
    )  # fmt: skip


@pytest.mark.parametrize("raw", [b"", b"[]", b"7", b"{", b"\xff", b"[" * 4000, b"x" * 5000])
def test_what_is_no_object_is_left_to_the_long_way(raw: bytes) -> None:
    assert holder_at_a_glance(raw, "aaaa1111") is None


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def status_clock(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[Clock]:
    settings.WATCHDOG_STATUS_SECONDS = 1.0
    clock = Clock()
    monkeypatch.setattr(STATUS, "clock", clock)
    STATUS.answers.clear()
    yield clock
    STATUS.answers.clear()


def poll(client: Client, tag: str = "", **headers: str) -> HttpResponse:
    asked = {"If-None-Match": tag, **headers} if tag else headers
    return client.get("/api/watchdog/status", headers=asked)  # type: ignore[return-value]


def watch(market: str) -> None:
    now = timezone.now()
    WatchedMarket.objects.create(
        market=market, first_evidence_at=now, evidence_at=now - timedelta(minutes=9)
    )


def test_a_poll_that_nothing_changed_for_touches_no_table(
    client: Client, status_clock: Clock
) -> None:
    tag = poll(client).headers["ETag"]
    with CaptureQueriesContext(connection) as queries:
        again = poll(client, tag)
    assert (again.status_code, again.headers["ETag"], len(queries)) == (304, tag, 0)
    assert {"Cache-Control", "Vary", "ETag"} <= set(again.headers)


def test_the_short_304_has_the_headers_of_the_long_one(client: Client, status_clock: Clock) -> None:
    tag = poll(client).headers["ETag"]
    short = poll(client, tag)
    status_clock.now += 2
    long = poll(client, tag)
    names = ("ETag", "Cache-Control", "Vary")
    assert [short.headers[name] for name in names] == [long.headers[name] for name in names]


def test_what_changed_is_told_a_second_later_at_the_latest(
    client: Client, status_clock: Clock
) -> None:
    tag = poll(client).headers["ETag"]
    watch("ES")
    status_clock.now += 0.9
    assert poll(client, tag).status_code == 304
    status_clock.now += 0.2
    changed = poll(client, tag)
    assert changed.status_code == 200
    assert [row["market"] for row in json.loads(changed.content)["markets"]] == ["ES"]


def test_no_answer_is_told_twice_where_the_settings_say_so(
    client: Client, status_clock: Clock, settings: Any
) -> None:
    settings.WATCHDOG_STATUS_SECONDS = 0
    tag = poll(client).headers["ETag"]
    watch("ES")
    assert poll(client, tag).status_code == 200


def test_the_short_way_tells_nothing_to_a_stranger(
    client: Client, status_clock: Clock, settings: Any
) -> None:
    tag = poll(client).headers["ETag"]
    settings.WATCHDOG_PUBLIC_STATUS = False
    assert poll(client, tag).status_code == 401
    assert poll(client, tag, Authorization="Api-Key 0badc0de." + "x" * 43).status_code == 401
    reader = create_api_key("reader", "reader")
    for _ in range(2):
        assert poll(client, tag, Authorization=f"Api-Key {reader}").status_code == 304


def test_a_key_that_asks_too_often_is_told_so_on_the_short_way_too(
    client: Client, status_clock: Clock, settings: Any
) -> None:
    settings.WATCHDOG_KEY_REQUESTS_PER_SECOND = 0.3
    reader = create_api_key("hurried", "reader")
    header = {"Authorization": f"Api-Key {reader}"}
    tag = poll(client, **header).headers["ETag"]
    answers = [poll(client, tag, **header).status_code for _ in range(4)]
    assert 200 not in answers
    assert answers[-1] == 429
