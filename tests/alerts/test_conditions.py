"""What each condition calls wrong, and what it lets pass."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.alerts.cast import (
    NOW,
    OPEN,
    ago,
    breach,
    facts,
    later,
    lease,
    refusal,
    robot,
    silent,
    standing,
)
from watchdog_project.alerts.conditions import CONDITIONS, Finding, findings_of, unjudged
from watchdog_project.alerts.facts import Facts, Intake, Job, Switch
from watchdog_project.alerts.kinds import Kind


def found(kind: Kind, seen: Facts) -> list[Finding]:
    return [one for one in findings_of(seen).values() if one.kind is kind]


def kinds(seen: Facts) -> set[str]:
    return {one.kind.value for one in findings_of(seen).values()}


def test_a_holder_who_renews_after_the_refusal_makes_two_alive() -> None:
    two = lease(refusals=[refusal(at=3)], renewed_at=ago(1))

    (one,) = found(Kind.DUPLICATE_EXECUTOR_BLOCKED, facts(leases=[two]))

    assert (one.market, one.subject) == ("ES", "7:newcomer")
    assert one.since == ago(3)
    assert "trader-1" in one.who
    assert "trader-2" in one.who
    assert not found(Kind.RESTART_WAITING, facts(leases=[two]))


def test_until_he_renews_the_newcomer_only_waits() -> None:
    waiting = lease(refusals=[refusal(at=3)], renewed_at=ago(4))

    assert kinds(facts(leases=[waiting])) == {"RESTART_WAITING"}


def test_a_renewal_at_the_very_moment_of_the_refusal_is_not_after_it() -> None:
    at_once = lease(refusals=[refusal(at=3)], renewed_at=ago(3))

    assert kinds(facts(leases=[at_once])) == {"RESTART_WAITING"}


def test_a_renewal_that_was_on_its_way_when_its_robot_died_makes_no_emergency_of_a_restart() -> (
    None
):
    successor = refusal(at=4, host="trader-1")

    on_its_way = lease(refusals=[successor], renewed_at=ago(2.5))
    alive = lease(refusals=[successor], renewed_at=ago(1.5))

    assert kinds(facts(leases=[on_its_way])) == {"RESTART_WAITING"}
    assert kinds(facts(leases=[alive])) == {"DUPLICATE_EXECUTOR_BLOCKED"}


def test_a_robot_that_crashes_and_restarts_again_and_again_is_no_emergency() -> None:
    """Each start finds the lease of a dead run before it, asks, is refused and dies too."""
    starts = [refusal(f"start-{n}", at=12 - n, host="trader-1") for n in range(10)]
    dead = lease(refusals=starts, renewed_at=ago(12.5), run_id="start--1")

    (waiting,) = findings_of(facts(leases=[dead])).values()

    assert waiting.kind is Kind.RESTART_WAITING


def test_a_duplicate_that_is_started_again_and_again_is_one_pair() -> None:
    starts = [refusal(f"start-{n}", at=60 - 5 * n, host="trader-2") for n in range(10)]

    (one,) = findings_of(facts(leases=[lease(refusals=starts)])).values()

    assert one.kind is Kind.DUPLICATE_EXECUTOR_BLOCKED
    assert "10 times" in one.summary


def test_two_duplicates_that_live_at_the_same_time_are_two_pairs() -> None:
    both = [
        refusal("second", at=30, last_at=ago(1)),
        refusal("third", at=20, last_at=ago(2)),
    ]

    assert len(findings_of(facts(leases=[lease(refusals=both)]))) == 2


def test_a_newcomer_that_asked_its_last_ten_minutes_ago_is_over() -> None:
    long_gone = lease(refusals=[refusal(at=601)])

    assert kinds(facts(leases=[long_gone])) == set()


def test_who_waits_out_a_lock_delay_waits_quietly() -> None:
    gone = lease(
        state="EXPIRED", expires_at=ago(5), expiry_seen_at=ago(5), refusals=[refusal(at=1)]
    )

    assert "RESTART_WAITING" in kinds(facts(leases=[gone]))
    assert "DUPLICATE_EXECUTOR_BLOCKED" not in kinds(facts(leases=[gone]))


def test_each_code_of_a_violation_is_a_finding_of_its_own() -> None:
    several = [breach(), breach(subject="ES2"), breach(code="UNKNOWN_INSTRUMENT")]

    keys = {one.subject for one in found(Kind.IDENTITY_VIOLATION, facts(breaches=several))}

    assert keys == {"INSTRUMENT_MISMATCH", "UNKNOWN_INSTRUMENT"}


@pytest.mark.parametrize(
    ("code", "kind"),
    [("STALE_FENCING_TOKEN", "STALE_TOKEN_USED"), ("DUPLICATE_EXECUTOR", "DUPLICATE_EXECUTOR")],
)
def test_what_moves_money_in_the_wrong_hands_has_a_kind_of_its_own(code: str, kind: str) -> None:
    assert kinds(facts(breaches=[breach(code=code)])) == {kind}


def test_a_market_known_from_old_logs_only_is_not_stale_news() -> None:
    old = standing(historical=True)

    assert kinds(facts(standings=[old, standing("NQ", "OK")])) == set()
    assert kinds(facts(standings=[standing()])) == {"IDENTITY_STALE"}


def test_a_lease_that_ran_out_is_stale_until_somebody_takes_it() -> None:
    over = lease(state="EXPIRED", expires_at=ago(20), expiry_seen_at=ago(10))

    (one,) = found(Kind.LOCK_STALE, facts(leases=[over]))

    assert (one.since, one.news) == (ago(20), True)
    assert kinds(facts(leases=[lease(), lease("NQ", state="FREE")])) == set()


def test_a_lease_that_was_found_expired_after_a_long_outage_is_history() -> None:
    over = lease(state="EXPIRED", expires_at=ago(7200), expiry_seen_at=ago(10))

    (one,) = found(Kind.LOCK_STALE, facts(leases=[over]))

    assert one.news is False


def test_a_run_that_was_refused_its_renewal_lost_the_market_until_somebody_takes_it() -> None:
    lost = lease(state="EXPIRED", expires_at=ago(9), lost_at=ago(8), lost_run_id="holder")

    assert "LEASE_LOST" in kinds(facts(leases=[lost]))
    yesterday = replace(lost, acquired_at=ago(90_000), lost_at=ago(86_400))
    assert "LEASE_LOST" in kinds(facts(leases=[yesterday]))
    taken = replace(lost, state="HELD", acquired_at=ago(1))
    assert "LEASE_LOST" not in kinds(facts(leases=[taken]))


def test_a_run_that_comes_back_to_a_market_that_is_anothers_is_told_of_for_ten_minutes() -> None:
    late = lease(lost_at=ago(8), lost_run_id="the one before")

    assert kinds(facts(leases=[late])) == {"LEASE_LOST"}
    assert kinds(facts(leases=[replace(late, lost_at=ago(601))])) == set()


def test_every_kill_switch_that_is_engaged_is_told_of() -> None:
    switches = [Switch("", ago(5), "chief", "drill"), Switch("ES", ago(5), "chief", "")]

    told = found(Kind.KILL_SWITCH_ENGAGED, facts(switches=switches))

    assert [one.market for one in told] == ["", "ES"]
    assert "drill" in told[0].summary


def test_a_host_is_silent_when_all_its_robots_are() -> None:
    everywhere = [silent("ES"), silent("NQ", 90)]

    (host,) = found(Kind.HOST_SILENT, facts(liveness=everywhere))
    assert (host.host, host.since) == ("trader-1", ago(60))

    assert not found(Kind.HOST_SILENT, facts(liveness=[silent("ES"), robot("NQ")]))
    assert not found(Kind.HOST_SILENT, facts(liveness=[silent("ES")]))


def test_a_host_is_silent_by_its_leases_before_its_logs_are_overdue() -> None:
    gone = [
        lease(market, state="EXPIRED", expires_at=ago(20), expiry_seen_at=ago(10))
        for market in ("ES", "NQ")
    ]

    assert len(found(Kind.HOST_SILENT, facts(leases=gone))) == 1
    assert not found(Kind.HOST_SILENT, facts(leases=[*gone, lease("CL")]))


@pytest.mark.parametrize(
    ("fact", "kind"),
    [
        ("silent_since", "ROBOT_SILENT"),
        ("engine_stalled_since", "ENGINE_STALLED"),
        ("data_stalled_since", "DATA_STALLED"),
        ("connection_lost_since", "CONNECTION_LOST"),
    ],
)
def test_what_ails_a_robot_is_told_of_its_market_alone(fact: str, kind: str) -> None:
    ill = robot("NQ", **{fact: ago(40)})

    (one,) = findings_of(facts(liveness=[robot("ES"), ill])).values()

    assert (one.kind.value, one.market, one.since) == (kind, "NQ", ago(40))


def test_a_sweep_that_is_overdue_and_a_folder_that_cannot_be_read_are_told_of() -> None:
    seen = facts(
        jobs=[Job("sweep_identity", ago(10), "it stumbled")],
        intakes=[Intake("/robots/logs", ago(10), "no such folder")],
    )

    assert kinds(seen) == {"SWEEP_OVERDUE", "INGEST_FAILING"}
    assert "it stumbled" in found(Kind.SWEEP_OVERDUE, seen)[0].summary


def test_nothing_is_wrong_where_nothing_is_known() -> None:
    assert findings_of(facts()) == {}


def test_what_cannot_be_read_is_neither_well_nor_wrong() -> None:
    seen = facts(breaches=[breach()], leases=[lease()], unread=frozenset({"breaches"}))

    assert findings_of(seen) == {}
    assert unjudged(seen) == {
        Kind.IDENTITY_VIOLATION,
        Kind.DUPLICATE_EXECUTOR,
        Kind.STALE_TOKEN_USED,
    }


def test_every_kind_has_its_condition() -> None:
    assert {kind for reading in CONDITIONS for kind in reading.kinds} == set(Kind)


def test_the_time_of_a_finding_is_that_of_its_evidence() -> None:
    assert later(0) == NOW
    assert OPEN.changed_at == NOW - timedelta(hours=2)
    (one,) = found(Kind.IDENTITY_STALE, facts(standings=[standing(evidence_at=ago(400))]))
    assert one.since == ago(250)
