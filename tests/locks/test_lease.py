"""One contract of the lease, on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import timedelta

import pytest

from locks.acquisition import acquire_lease
from locks.errors import LockRefused
from locks.leases import AcquireRequest, LockId
from locks.models import LockEvent, LockEventType, LockRecord, LockState, Tenure
from locks.services import reap_expired, release_lease, renew_lease, revoke_lease, verify_token
from tests.locks.cast import ES, Robot, event_types, pass_time, record, resolve_market

pytestmark = pytest.mark.django_db(transaction=True)


def refusal(code: str) -> pytest.RaisesExc[LockRefused]:
    return pytest.raises(LockRefused, check=lambda error: error.code == code)


def test_a_micro_takes_the_canonical_market() -> None:
    grant = Robot("run-1", "MES 03-26").acquire(canonical_instrument="ES")

    assert (grant.lock, grant.execution_instrument) == (ES, "MES")
    assert (grant.fencing_token, grant.takeover) == (1, False)
    held = record()
    assert (held.state, held.run_id, held.host, held.pid) == ("HELD", "run-1", "trader-1", 4711)
    assert held.lock_file_path == "/robots/runtime_locks/canonical_ES.lock"
    assert held.expires_at is not None
    assert held.acquired_at is not None
    assert held.expires_at - held.acquired_at == timedelta(seconds=15)


def test_a_market_has_its_own_ttl_and_the_other_durations_scale_with_it() -> None:
    terms = Robot("run-1", "NQ").acquire().terms

    assert (terms.ttl, terms.renew_every, terms.stop_after, terms.kill_after) == (60, 20, 40, 48)


def test_the_second_executor_is_refused_and_told_who_is_first() -> None:
    first = Robot("run-1").acquire()
    pass_time(5)

    with refusal("CANONICAL_MARKET_ALREADY_ACTIVE") as refused:
        Robot("run-2", "ES", host="trader-2").acquire()

    extra = refused.value.extra
    assert extra["canonical_instrument"] == "ES"
    assert extra["execution_instrument"] == "ES"
    assert extra["active_run_id"] == "run-1"
    assert extra["active_host"] == "trader-1"
    assert extra["active_execution_instrument"] == "MES"
    assert extra["fencing_token"] == first.fencing_token
    assert 5 <= extra["lock_age_seconds"] < 7
    assert refused.value.retry_after == pytest.approx(25, abs=2), "what is left, and the delay"
    assert refused.value.status == 409
    assert record().run_id == "run-1"


def test_a_refused_executor_is_in_the_events_once_however_often_it_asks() -> None:
    Robot("run-1").acquire()
    second = Robot("run-2", "ES", host="trader-2")
    for _ in range(3):
        with refusal("CANONICAL_MARKET_ALREADY_ACTIVE"):
            second.acquire()
    with refusal("CANONICAL_MARKET_ALREADY_ACTIVE"):
        Robot("run-3").acquire()

    mine, other = LockEvent.objects.filter(type=LockEventType.ALREADY_ACTIVE).order_by("id")
    assert (mine.run_id, mine.host, mine.count, mine.fencing_token) == ("run-2", "trader-2", 3, 1)
    assert mine.last_at > mine.at
    assert mine.data["active_run_id"] == "run-1"
    assert mine.data["execution_instrument"] == "ES"
    assert (other.run_id, other.count) == ("run-3", 1)


def test_a_refusal_by_a_later_holder_is_another_event() -> None:
    first, second, third = Robot("run-1"), Robot("run-2"), Robot("run-3")
    grant = first.acquire()
    with refusal("CANONICAL_MARKET_ALREADY_ACTIVE"):
        third.acquire()
    release_lease(first.holding(grant))
    second.acquire()
    with refusal("CANONICAL_MARKET_ALREADY_ACTIVE"):
        third.acquire()

    tokens = LockEvent.objects.filter(run_id="run-3").values_list("fencing_token", flat=True)
    assert sorted(tokens) == [1, 2]


def test_two_markets_do_not_meet() -> None:
    assert Robot("run-1", "MES").acquire().lock.name == "ES"
    assert Robot("run-2", "MNQ").acquire().lock.name == "NQ"


def test_renewing_prolongs_the_lease_and_counts() -> None:
    robot = Robot("run-1")
    grant = robot.acquire()
    for expected in (1, 2, 3):
        pass_time(14)
        renewal = renew_lease(robot.holding(grant))
        assert (renewal.renewals, renewal.ttl, renewal.fencing_token) == (expected, 15, 1)
        assert not renewal.kill_switch_active
    held = record()
    assert held.expires_at is not None
    assert held.renewed_at is not None
    assert held.expires_at - held.renewed_at == timedelta(seconds=15)
    assert event_types() == ["LOCK_ACQUIRED"], "renewals are counted, not audited one by one"


def test_a_renewal_past_the_end_is_refused_though_nobody_took_over() -> None:
    robot = Robot("run-1")
    grant = robot.acquire()
    pass_time(15)

    with refusal("CANONICAL_MARKET_LOCK_LOST"):
        renew_lease(robot.holding(grant))

    assert record().state == LockState.EXPIRED
    assert event_types() == ["LOCK_ACQUIRED", "LOCK_STALE", "LOCK_LOST"]


@pytest.mark.parametrize(
    "other",
    [
        {"nonce": "f" * 32},
        {"run_id": "run-2"},
        {"key_prefix": "bbbb2222"},
        {"fencing_token": 2},
        {"lock": LockId("canonical_market", "ES", "Sim101")},
        {"lock": LockId("pipeline_run", "ES")},
    ],
    ids=str,
)
def test_nobody_but_the_holder_renews_or_releases(other: dict[str, object]) -> None:
    robot = Robot("run-1")
    grant = robot.acquire()
    before = record()
    impostor = robot.holding(grant, **other)

    with refusal("CANONICAL_MARKET_LOCK_LOST"):
        renew_lease(impostor)
    with refusal("CANONICAL_MARKET_LOCK_LOST"):
        release_lease(impostor)

    after = record()
    assert (after.state, after.expires_at, after.renewals) == ("HELD", before.expires_at, 0)
    assert "LOCK_LOST" not in event_types(), "who never held it lost nothing"
    renew_lease(robot.holding(grant))


def test_a_clean_release_frees_the_market_at_once() -> None:
    first, second = Robot("run-1"), Robot("run-2", "ES")
    assert release_lease(first.holding(first.acquire()))
    assert record().state == LockState.FREE

    grant = second.acquire()

    assert (grant.fencing_token, grant.takeover) == (2, False)
    assert event_types() == ["LOCK_ACQUIRED", "LOCK_RELEASED", "LOCK_ACQUIRED"]
    tenure = Tenure.objects.get(fencing_token=1)
    assert tenure.end == "released"
    assert tenure.ended_at is not None


def test_releasing_again_is_a_success_and_takes_nothing_from_the_next_holder() -> None:
    first, second = Robot("run-1"), Robot("run-2")
    holding = first.holding(first.acquire())
    assert release_lease(holding) is True
    assert release_lease(holding) is False
    second.acquire()

    assert release_lease(holding) is False

    assert (record().state, record().run_id) == ("HELD", "run-2")


def test_after_a_crash_the_next_one_gets_in_at_once_and_is_told_to_take_over() -> None:
    first, second, third = Robot("run-1"), Robot("run-2"), Robot("run-3")
    release_lease(first.holding(first.acquire()), crashed=True)
    grant = second.acquire()
    assert grant.takeover
    assert Tenure.objects.get(fencing_token=1).end == "crashed"

    release_lease(second.holding(grant))

    assert not third.acquire().takeover, "a clean release ends it"


def test_a_release_past_the_end_frees_nothing() -> None:
    robot = Robot("run-1")
    holding = robot.holding(robot.acquire())
    pass_time(15)

    assert release_lease(holding) is False

    assert record().state == LockState.EXPIRED
    with refusal("LOCK_DELAY"):
        Robot("run-2").acquire()


def test_a_contender_sees_a_lease_expire_and_waits_out_the_lock_delay() -> None:
    Robot("run-1").acquire()
    second = Robot("run-2")
    pass_time(15)

    with refusal("LOCK_DELAY") as refused:
        second.acquire()

    assert refused.value.status == 409
    assert refused.value.retry_after == pytest.approx(15, abs=1)
    assert refused.value.extra["retry_after"] == pytest.approx(15, abs=1)
    assert record().state == LockState.EXPIRED, "its expiry stays, though it was refused"
    stale = LockEvent.objects.get(type=LockEventType.STALE)
    assert (stale.run_id, stale.fencing_token, stale.data["seen_by"]) == ("run-1", 1, "run-2")
    pass_time(14)
    with refusal("LOCK_DELAY"):
        second.acquire()
    pass_time(1)
    grant = second.acquire()
    assert (grant.fencing_token, grant.takeover) == (2, True)


def test_the_lock_delay_is_at_least_the_ttl() -> None:
    Robot("run-1", "NQ").acquire()
    pass_time(60)
    reap_expired()
    pass_time(59)
    with refusal("LOCK_DELAY"):
        Robot("run-2", "NQ").acquire()
    pass_time(1)
    assert Robot("run-2", "NQ").acquire().takeover


def test_a_tenure_ends_when_its_lease_did_however_late_that_is_seen() -> None:
    Robot("run-1").acquire()
    pass_time(100)

    reap_expired()

    tenure = Tenure.objects.get()
    assert tenure.end == "expired"
    assert tenure.ended_at is not None
    assert tenure.ended_at - tenure.acquired_at == timedelta(seconds=15)


def test_the_reaper_takes_what_is_overdue_and_nothing_else() -> None:
    Robot("run-1", "MES").acquire()
    pass_time(15)
    Robot("run-2", "MNQ").acquire()

    assert [reaped.name for reaped in reap_expired()] == ["ES"]
    assert reap_expired() == []

    assert record(LockId("canonical_market", "NQ")).state == LockState.HELD
    assert LockEvent.objects.get(type=LockEventType.STALE).data["seen_by"] == "reaper"


def test_a_lost_reply_can_be_asked_for_again() -> None:
    robot = Robot("run-1")
    first = robot.acquire()
    pass_time(9)

    assert robot.acquire() == first

    assert event_types() == ["LOCK_ACQUIRED"]
    assert Tenure.objects.count() == 1


@pytest.mark.parametrize(
    "other", [{"host": "trader-2"}, {"pid": 1}, {"key_prefix": "bbbb2222"}, {"nonce": "e" * 32}]
)
def test_another_process_never_gets_the_reply_of_the_first(other: dict[str, object]) -> None:
    robot = Robot("run-1")
    robot.acquire()
    with refusal("CANONICAL_MARKET_ALREADY_ACTIVE"):
        robot.acquire(**other)


def test_after_a_renewal_no_reply_can_have_been_lost() -> None:
    robot = Robot("run-1")
    renew_lease(robot.holding(robot.acquire()))
    with refusal("CANONICAL_MARKET_ALREADY_ACTIVE"):
        robot.acquire()


def test_past_stop_time_the_reply_is_not_given_again() -> None:
    robot = Robot("run-1")
    robot.acquire()
    pass_time(10)
    with refusal("CANONICAL_MARKET_ALREADY_ACTIVE"):
        robot.acquire()


def test_a_run_and_nonce_whose_tenure_ended_are_never_granted_again() -> None:
    robot, other = Robot("run-1"), Robot("run-2")
    release_lease(robot.holding(robot.acquire()))
    with refusal("CANONICAL_MARKET_LOCK_LOST"):
        robot.acquire()
    release_lease(other.holding(other.acquire()))
    with refusal("CANONICAL_MARKET_LOCK_LOST"):
        robot.acquire()
    assert Robot("run-1").acquire().fencing_token == 3, "a fresh nonce is another process"


def test_an_operator_revokes_the_tenure_that_he_saw() -> None:
    robot = Robot("run-1")
    grant = robot.acquire()

    revoked = revoke_lease(ES, grant.fencing_token, reason="wrong account", by="olga")

    assert (revoked.state, revoked.fencing_token) == (LockState.REVOKED, 2)
    event = LockEvent.objects.get(type=LockEventType.REVOKED)
    assert (event.run_id, event.fencing_token) == ("run-1", 1)
    assert event.data["reason"] == "wrong account"
    assert event.data["revoked_by"] == "olga"
    assert Tenure.objects.get().end == "revoked"
    with refusal("CANONICAL_MARKET_LOCK_LOST") as lost:
        renew_lease(robot.holding(grant))
    assert "revoked" in lost.value.detail
    with refusal("LOCK_DELAY"):
        Robot("run-2").acquire()
    pass_time(15)
    after = Robot("run-2").acquire()
    assert (after.fencing_token, after.takeover) == (3, True)


def test_a_revocation_of_an_older_tenure_takes_nothing() -> None:
    first = Robot("run-1")
    grant = first.acquire()
    release_lease(first.holding(grant))
    Robot("run-2").acquire()

    with refusal("STALE_FENCING_TOKEN") as refused:
        revoke_lease(ES, grant.fencing_token, reason="too late", by="olga")

    assert refused.value.extra == {"fencing_token": 2, "state": "HELD"}
    assert record().state == LockState.HELD


def test_an_expired_lease_can_be_revoked_and_its_tenure_keeps_its_end() -> None:
    Robot("run-1").acquire()
    pass_time(20)
    reap_expired()

    assert revoke_lease(ES, 1, reason="be sure", by="olga").fencing_token == 2

    assert Tenure.objects.get().end == "expired"
    with refusal("STALE_FENCING_TOKEN"):
        revoke_lease(ES, 2, reason="once is enough", by="olga")


def test_only_the_current_unexpired_token_is_verified() -> None:
    robot = Robot("run-1")
    grant = robot.acquire()
    verify_token(ES, grant.fencing_token)
    for token in (0, 2):
        with refusal("STALE_FENCING_TOKEN"):
            verify_token(ES, token)
    pass_time(15)
    with refusal("STALE_FENCING_TOKEN"):
        verify_token(ES, grant.fencing_token)
    with refusal("STALE_FENCING_TOKEN"):
        verify_token(LockId("canonical_market", "ZZ"), 1)


def test_a_released_token_is_stale() -> None:
    robot = Robot("run-1")
    grant = robot.acquire()
    release_lease(robot.holding(grant))
    with refusal("STALE_FENCING_TOKEN"):
        verify_token(ES, grant.fencing_token)


def test_a_guard_that_maps_otherwise_than_the_registry_is_refused() -> None:
    with refusal("MAPPING_DRIFT") as refused:
        Robot("run-1", "MES").acquire(canonical_instrument="NQ")
    assert refused.value.status == 422
    event = LockEvent.objects.get()
    assert (event.type, event.code, event.name) == (LockEventType.FAILED, "MAPPING_DRIFT", "ES")
    assert not LockRecord.objects.exists()


def test_an_unknown_instrument_is_refused_and_audited() -> None:
    with refusal("UNKNOWN_INSTRUMENT"):
        Robot("run-1", "MEZ").acquire()
    event = LockEvent.objects.get()
    assert (event.code, event.data["execution_instrument"]) == ("UNKNOWN_INSTRUMENT", "MEZ")


def test_a_market_that_is_exclusive_per_account_has_an_executor_in_each() -> None:
    with refusal("ACCOUNT_REQUIRED"):
        Robot("run-1", "MGC").acquire()
    assert Robot("run-1", "MGC", account="Sim101").acquire().lock.scope == "Sim101"
    assert Robot("run-2", "MGC", account="Sim102").acquire().lock.scope == "Sim102"
    with refusal("CANONICAL_MARKET_ALREADY_ACTIVE"):
        Robot("run-3", "GC", account="Sim101").acquire()


def test_a_request_never_chooses_the_scope_of_a_market_that_is_exclusive_everywhere() -> None:
    assert Robot("run-1", account="Sim101").acquire().lock.scope == ""
    assert record().account == "Sim101"
    with refusal("CANONICAL_MARKET_ALREADY_ACTIVE"):
        Robot("run-2", account="Sim102").acquire()


def test_other_kinds_are_locked_by_name() -> None:
    def job(run_id: str) -> AcquireRequest:
        return AcquireRequest(
            run_id, run_id[-1] * 32, "aaaa1111", "h", kind="pipeline_run", name="x"
        )

    assert acquire_lease(job("run-1"), resolve_market).lock == LockId("pipeline_run", "x")
    with refusal("ALREADY_LOCKED"):
        acquire_lease(job("run-2"), resolve_market)


def test_the_nonce_is_kept_as_a_hash_only() -> None:
    robot = Robot("run-1")
    robot.acquire()
    assert len(record().nonce_hash) == 64
    assert robot.nonce not in str(list(LockRecord.objects.values()))
    assert robot.nonce not in str(list(Tenure.objects.values()))
    assert robot.nonce not in str(list(LockEvent.objects.values()))
    assert robot.nonce not in repr(robot.request())


def test_a_token_is_never_used_twice() -> None:
    tokens = []
    for number in range(6):
        robot = Robot(f"run-{number}")
        grant = robot.acquire()
        tokens.append(grant.fencing_token)
        if number % 3 == 0:
            release_lease(robot.holding(grant))
        elif number % 3 == 1:
            revoke_lease(ES, grant.fencing_token, reason="x", by="olga")
            tokens.append(record().fencing_token)
        pass_time(15)
        reap_expired()
        pass_time(15)
    assert tokens == sorted(set(tokens))
    assert Tenure.objects.filter(ended_at=None).count() == 0
