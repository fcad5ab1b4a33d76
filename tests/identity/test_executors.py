"""Two live runs must not claim one market; one robot's guard and log are not two."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from identity.admission import Place
from identity.models import CanonicalInstrument, Violation
from tests.identity.cast import (
    HERE,
    NOW,
    ago,
    complete,
    leases,
    line,
    open_violations,
    post,
    standing,
    swept,
    tenure,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("registry")]
ELSEWHERE = Place(log="/robots/two/logs", host="trader-2")


def duplicates() -> list[tuple[str, str]]:
    """Market and newcomer of each open DUPLICATE_EXECUTOR."""
    return [(row[0], row[2]) for row in open_violations() if row[1] == "DUPLICATE_EXECUTOR"]


def test_a_second_live_run_with_orders_in_one_market_is_seen_at_once() -> None:
    post(complete(at=ago(5)))
    post(complete(run="run-b"), place=ELSEWHERE)
    assert duplicates() == [("ES", "run-b")]
    (message,) = [violation.message for violation in standing().violations]
    assert "run-a on trader-1 with MES" in message
    assert "run-b on trader-2 with MES" in message


def test_a_sweep_that_still_sees_them_is_not_another_breach() -> None:
    post(complete(at=ago(5)), complete(run="run-b"))
    swept()
    swept()
    assert Violation.objects.get().count == 1


def test_two_markets_are_two_executors_business() -> None:
    post(complete())
    post(line("ORDER_X", instrument="MNQ", run="run-b"))
    swept()
    assert duplicates() == []


@pytest.mark.parametrize("name", ["ENGINE_ALIVE", "INTENT_REGISTERED", "REGISTRY_DIVERGENCE"])
def test_only_orders_fills_and_streams_are_claims(name: str) -> None:
    post(complete(at=ago(5)))
    post(complete(name, run="run-b"))
    swept()
    assert duplicates() == []


def test_history_claims_nothing() -> None:
    post(complete(at=ago(4000)), complete(at=ago(4000), run="run-b"))
    swept()
    assert duplicates() == []


def test_a_run_that_was_restarted_is_not_two() -> None:
    post(complete(at=ago(20)))
    post(line("ENGINE_START", run="run-b", at=ago(10)), complete(run="run-b"))
    swept()
    assert duplicates() == []


def test_a_restart_while_the_old_one_still_speaks_is_two() -> None:
    post(complete(at=ago(20)))
    post(line("ENGINE_START", run="run-b", at=ago(10)), complete(run="run-b", at=ago(9)))
    post(line("ENGINE_ALIVE", at=ago(1)))
    swept()
    assert duplicates() == [("ES", "run-b")]


def test_silence_does_not_mend_and_a_clean_stop_does() -> None:
    post(complete(at=ago(5)), complete(run="run-b"))
    later = NOW + timedelta(hours=1)
    swept(later)
    assert duplicates() == [("ES", "run-b")]
    post(line("ENGINE_STOP", run="run-b", at=later), now=later)
    assert duplicates() == []
    assert Violation.objects.get().end_reason == "Seen to be over: run-b."


def test_a_stop_in_the_same_batch_as_the_other_claim_leaves_one() -> None:
    post(complete(at=ago(9)), line("ENGINE_STOP", at=ago(8)), complete(run="run-b"))
    assert duplicates() == []


def test_two_accounts_of_a_market_exclusive_per_account_are_two_markets() -> None:
    CanonicalInstrument.objects.filter(symbol="ES").update(exclusive_per_account=True)
    post(complete(account="Sim101"), complete(account="Sim102", run="run-b"))
    swept()
    assert duplicates() == []


def test_a_lease_and_another_hosts_orders_are_two() -> None:
    post(complete(run="run-b"), place=ELSEWHERE)
    swept(NOW, tenure(folder="/robots/one"))
    assert [market for market, _ in duplicates()] == ["ES"]


@pytest.mark.parametrize(
    ("facts", "alone"),
    [
        ({"run": "run-a"}, True),
        ({"folder": "/robots/one"}, True),
        ({"folder": "/robots/on"}, False),
        ({"folder": "/robots/one", "host": "trader-9"}, False),
        ({"folder": ""}, False),
    ],
)
def test_a_guard_and_a_log_are_one_by_run_id_or_by_host_and_folder(
    facts: dict[str, Any], alone: bool
) -> None:
    post(complete())
    swept(NOW, tenure(**facts))
    assert (duplicates() == []) is alone


def test_a_guards_windows_folder_is_compared_as_windows_does() -> None:
    there = Place(log="C:\\Robots\\One\\logs", host="TRADER-1")
    post(complete(), place=there)
    swept(NOW, tenure(folder="c:\\robots\\one"))
    assert duplicates() == []


def test_a_run_that_acts_with_the_leases_token_is_its_holder() -> None:
    post(complete(run="run-b", fencing_token=8), place=ELSEWHERE, tenures=leases(tenure(8)))
    swept(NOW, tenure(8))
    assert duplicates() == []
    swept(NOW, tenure(9))
    assert len(duplicates()) == 1


def test_the_end_of_the_lease_mends_when_its_holder_was_one_of_the_two() -> None:
    post(complete(run="run-b"), place=ELSEWHERE)
    swept(NOW, tenure(acquired_at=ago(10)))
    assert len(duplicates()) == 1
    later = NOW + timedelta(seconds=30)
    swept(later, tenure(acquired_at=ago(10), ended_at=later, renewed_at=later))
    assert duplicates() == []


def test_renewals_are_evidence_and_a_clean_release_is_the_end_of_the_run() -> None:
    assert swept(NOW, tenure())["ES"].status == "UNKNOWN"
    over = tenure(ended_at=NOW, renewed_at=NOW, clean=True)
    later = NOW + timedelta(hours=1)
    assert swept(later, over)["ES"].status == "IDLE"


def test_a_lease_that_expired_is_no_clean_stop() -> None:
    swept(NOW, tenure())
    over = tenure(ended_at=NOW, renewed_at=NOW, clean=False)
    assert swept(NOW + timedelta(hours=1), over)["ES"].status == "STALE"


def test_a_clean_release_is_the_end_of_the_guarded_robots_log_as_well() -> None:
    post(complete())
    over = tenure(ended_at=NOW, renewed_at=NOW, clean=True, folder="/robots/one")
    assert swept(NOW + timedelta(hours=1), over)["ES"].status == "IDLE"


def test_a_lease_keeps_the_market_of_a_quiet_log_fresh_only_while_the_log_lives() -> None:
    post(complete())
    later = NOW + timedelta(seconds=120)
    state = swept(later, tenure(renewed_at=later, folder="/robots/one"))["ES"]
    assert (state.status, state.evidence_at) == ("OK", later)
    later = NOW + timedelta(seconds=300)
    state = swept(later, tenure(renewed_at=later, folder="/robots/one"))["ES"]
    assert state.status == "UNKNOWN", "its streams were not heard of for too long"


def test_acting_with_a_token_whose_tenure_is_over_is_seen() -> None:
    facts = leases(tenure(7, ended_at=ago(100), renewed_at=ago(100)), tenure(8, run="run-a"))
    post(complete(fencing_token="7", at=ago(10)), tenures=facts)
    assert open_violations() == [("ES", "STALE_FENCING_TOKEN", "run-a", 1)]
    post(complete(fencing_token="8"), tenures=facts)
    assert open_violations() == []


def test_a_log_in_the_same_folder_as_another_log_is_another_robot() -> None:
    post(complete(at=ago(5)), complete(run="run-b"), place=HERE)
    assert duplicates() == [("ES", "run-b")]
