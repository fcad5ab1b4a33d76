"""What counts as a yes of the lock authority, and what ends it."""

from __future__ import annotations

import math
import socket
import time
from typing import Any

import pytest

from canonical_guard import lease
from canonical_guard.client import Authority
from canonical_guard.errors import (
    CanonicalMarketAlreadyActive,
    GuardError,
    InvalidConfiguration,
    KillSwitchEngaged,
    LeaseLost,
    LockAuthorityUnavailable,
    MappingDrift,
    Unanswered,
    UnknownInstrument,
)
from tests.guard.authority import KEY, TERMS, Answer, LockAuthority, answering, request


def test_a_grant_carries_token_terms_and_takeover(client: Authority) -> None:
    before = lease.clock.now()
    grant = lease.acquire(client, request()).grant
    assert (grant.fencing_token, grant.execution_instrument, grant.scope) == (1, "MES", "")
    assert grant.takeover is False
    assert (grant.terms.stop_after, grant.terms.kill_after) == (4.3, 4.9)
    assert before <= grant.asked_at <= lease.clock.now()


def test_a_held_market_names_its_holder(client: Authority) -> None:
    lease.acquire(client, request())
    with pytest.raises(CanonicalMarketAlreadyActive, match="by run run-1 on host trader-1") as no:
        lease.acquire(client, request(run_id="run-2"))
    assert no.value.active["execution_instrument"] == "MES 03-26"
    assert no.value.retry_after == pytest.approx(TERMS["ttl"], abs=1)


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (401, "AUTHENTICATION_FAILED", LockAuthorityUnavailable),
        (403, "PERMISSION_DENIED", LockAuthorityUnavailable),
        (404, "NOT_FOUND", LockAuthorityUnavailable),
        (422, "UNKNOWN_INSTRUMENT", UnknownInstrument),
        (422, "MAPPING_DRIFT", MappingDrift),
        (422, "ACCOUNT_REQUIRED", InvalidConfiguration),
        (423, "KILL_SWITCH_ACTIVE", KillSwitchEngaged),
        (409, "LOCK_DELAY", CanonicalMarketAlreadyActive),
        (302, "", LockAuthorityUnavailable),
        (500, "", LockAuthorityUnavailable),
        (503, "LOCK_AUTHORITY_UNAVAILABLE", LockAuthorityUnavailable),
        (429, "THROTTLED", LockAuthorityUnavailable),
        (204, "", LockAuthorityUnavailable),
    ],
)
def test_every_refusal_is_its_own_error_and_says_why(
    client: Authority, authority: LockAuthority, status: int, code: str, error: type[GuardError]
) -> None:
    body = {"code": code, "detail": "Because of that.", "location": authority.url}
    authority.interfere = answering(status, body)
    with pytest.raises(error) as refused:
        lease.acquire(client, request())
    assert code == "LOCK_DELAY" or "Because of that." in str(refused.value) or status == 204
    assert authority.holder() is None


def test_a_lock_delay_says_when_the_market_is_free(
    client: Authority, authority: LockAuthority
) -> None:
    authority.interfere = answering(409, {"code": "LOCK_DELAY", "retry_after": 11.2})
    with pytest.raises(CanonicalMarketAlreadyActive, match="free in 12 s") as refused:
        lease.acquire(client, request())
    assert refused.value.retry_after == 11.2


GOOD: dict[str, Any] = {
    "name": "ES",
    "scope": "",
    "canonical_instrument": "ES",
    "execution_instrument": "MES",
    "run_id": "run-1",
    "fencing_token": 7,
    "takeover": False,
    **TERMS,
}


def test_the_complete_answer_that_the_next_test_spoils_is_a_grant(
    client: Authority, authority: LockAuthority
) -> None:
    authority.interfere = answering(200, GOOD)
    assert lease.acquire(client, request()).grant.fencing_token == 7


@pytest.mark.parametrize(
    "spoiled",
    [
        {"fencing_token": None},
        {"fencing_token": True},
        {"fencing_token": "7"},
        {"fencing_token": 0},
        {"run_id": "run-2"},
        {"canonical_instrument": "NQ"},
        {"scope": None},
        {"name": 5},
        {"ttl": None},
        {"ttl": math.nan},
        {"ttl": 4.95, "kill_after": 4.9, "stop_after": 4.9},
        {"kill_after": 6},
        {"renew_every": 3},
        {"renew_every": "0.3"},
    ],
)
def test_an_answer_that_does_not_hold_together_is_no_grant(
    client: Authority, authority: LockAuthority, spoiled: dict[str, Any]
) -> None:
    authority.interfere = answering(200, {**GOOD, **spoiled})
    with pytest.raises(LockAuthorityUnavailable):
        lease.acquire(client, request())


@pytest.mark.parametrize(
    "body", [b"", b"<html>Welcome</html>", b"[]", b"\xff\xfe", b'{"a":' * 9999]
)
def test_an_answer_that_is_no_json_object_is_no_grant(
    client: Authority, authority: LockAuthority, body: bytes
) -> None:
    authority.interfere = answering(200, body)
    with pytest.raises(LockAuthorityUnavailable):
        lease.acquire(client, request())


def test_a_lost_reply_is_asked_for_again_with_the_same_nonce(
    client: Authority, authority: LockAuthority
) -> None:
    authority.interfere = answering(503, {}, times=1)
    before = lease.clock.now()
    grant = lease.acquire(client, request()).grant
    assert [body["nonce"] for body in authority.made("acquire")] == ["ab" * 16] * 2
    assert grant.asked_at == pytest.approx(before, abs=0.5)


def test_time_counts_from_the_first_asking(client: Authority, authority: LockAuthority) -> None:
    def slow_once(path: str, body: Any) -> Answer | None:
        if len(authority.requests) == 1:
            time.sleep(2.5)
        return None

    authority.interfere = slow_once
    before = lease.clock.now()
    grant = lease.acquire(client, request()).grant
    assert grant.asked_at - before < 0.5
    assert lease.clock.now() - grant.asked_at > 1.9


def test_nobody_there_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(LockAuthorityUnavailable, match="Connection refused"):
        lease.acquire(Authority(f"http://127.0.0.1:{port}", KEY), request())
    assert time.monotonic() - started < 1


def test_a_renewal_pushes_the_deadline_from_before_it_was_sent(client: Authority) -> None:
    held = lease.acquire(client, request())
    before = lease.clock.now()
    renewal = held.renew(2.0)
    assert before <= renewal.sent_at <= lease.clock.now()
    assert renewal.kill_switch_active is False


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422])
def test_a_4xx_ends_a_tenure_at_once(
    client: Authority, authority: LockAuthority, status: int
) -> None:
    held = lease.acquire(client, request())
    authority.interfere = answering(status, {"code": "X", "detail": "Gone."})
    with pytest.raises(LeaseLost, match=r"Gone\."):
        held.renew(2.0)


@pytest.mark.parametrize("status", [301, 307, 429, 500, 502, 503, 504])
def test_what_may_pass_is_no_loss(client: Authority, authority: LockAuthority, status: int) -> None:
    held = lease.acquire(client, request())
    authority.interfere = answering(status, {"location": "/"}, times=1)
    with pytest.raises(Unanswered):
        held.renew(2.0)
    assert held.renew(2.0).kill_switch_active is False


@pytest.mark.parametrize("body", [{}, {"ttl": 5.5}, {"ttl": 5.5, "fencing_token": 2}])
def test_a_renewal_that_names_no_token_or_another_one_is_no_success(
    client: Authority, authority: LockAuthority, body: dict[str, Any]
) -> None:
    held = lease.acquire(client, request())
    authority.interfere = answering(200, body)
    with pytest.raises(Unanswered):
        held.renew(2.0)


@pytest.mark.parametrize("ttl", [None, 5.4, True, "5.5"])
def test_a_renewal_for_less_than_was_granted_ends_the_tenure(
    client: Authority, authority: LockAuthority, ttl: object
) -> None:
    held = lease.acquire(client, request())
    authority.interfere = answering(200, {"ttl": ttl, "fencing_token": 1})
    with pytest.raises(LeaseLost):
        held.renew(2.0)


@pytest.mark.parametrize("said", [None, "False", 0, "missing"])
def test_a_kill_switch_that_cannot_be_read_is_engaged(
    client: Authority, authority: LockAuthority, said: object
) -> None:
    held = lease.acquire(client, request())
    body = {"ttl": 5.5, "fencing_token": 1, "kill_switch_active": said}
    if said == "missing":
        del body["kill_switch_active"]
    authority.interfere = answering(200, body)
    assert held.renew(2.0).kill_switch_active is True


def test_a_takeover_that_is_not_denied_is_one(client: Authority, authority: LockAuthority) -> None:
    authority.interfere = answering(200, {**GOOD, "takeover": None})
    assert lease.acquire(client, request()).grant.takeover is True


def test_giving_back_is_tried_twice(client: Authority, authority: LockAuthority) -> None:
    held = lease.acquire(client, request())
    authority.interfere = answering(503, {}, times=1)
    held.release("clean")
    assert authority.holder() is None


def test_giving_back_what_cannot_be_given_back_says_so(
    client: Authority, authority: LockAuthority
) -> None:
    held = lease.acquire(client, request())
    authority.interfere = answering(503, {"detail": "Not now."})
    with pytest.raises(Unanswered, match="Not now"):
        held.release("clean")
