"""A market's result: said at once when it changes, by every sweep, and never out of nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from identity.models import (
    EventOrigin,
    ExecutionInstrument,
    IdentityEvent,
    IngestError,
    InvariantResult,
    WatchedMarket,
)
from identity.status import IdentityStatus, market_identities, overall
from tests.identity.cast import (
    NOW,
    ago,
    complete,
    incomplete,
    line,
    open_violations,
    post,
    report,
    standing,
    swept,
    tenure,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("registry")]


def said(market: str = "ES") -> list[bool | None]:
    """The results of ours that were emitted, oldest first."""
    events = IdentityEvent.objects.filter(
        event_type="IDENTITY_INVARIANTS_STATUS", origin=EventOrigin.SWEEP, market=market
    )
    return [event.data["pass"] for event in events.order_by("id")]


def test_a_result_is_said_when_it_changes_and_not_when_it_does_not() -> None:
    post(complete(at=ago(50)))
    post(complete(at=ago(40)))
    assert said() == [True]
    post(incomplete(at=ago(30)))
    post(incomplete(at=ago(20)))
    assert said() == [True, False]
    post(complete())
    assert said() == [True, False, True]


def test_every_sweep_says_it_for_every_watched_market() -> None:
    post(complete(), line("ORDER_X", instrument="MNQ", run="run-b"))
    before = len(said()), len(said("NQ"))
    swept()
    swept()
    assert (len(said()), len(said("NQ"))) == (before[0] + 2, before[1] + 2)


def test_an_emitted_result_has_every_promised_field() -> None:
    post(complete())
    event = IdentityEvent.objects.get(origin=EventOrigin.SWEEP)
    assert event.data["pass"] is True
    assert event.data["violations"] == []
    assert event.data["canonical_instrument"] == "ES"
    assert event.data["execution_instrument"] == "MES"
    assert event.data["stream_ids"] == ["ES1"]
    assert event.data["checked_at_utc"] == NOW.isoformat()
    assert event.changed


def test_one_markets_pass_does_not_erase_anothers_failure() -> None:
    post(line("ORDER_X", instrument="MNQ", run="run-b"))
    post(complete())
    states = swept()
    assert (states["NQ"].status, states["ES"].status) == ("VIOLATION", "OK")
    assert overall(states.values()) == "VIOLATION"
    assert states["NQ"].passed is False


def test_a_sweep_never_refreshes_evidence() -> None:
    post(complete())
    for minute in range(1, 4):
        later = NOW + timedelta(minutes=minute)
        state = swept(later)["ES"]
        assert (state.evidence_at, state.checked_at) == (NOW, later)
    assert state.status == IdentityStatus.STALE


@pytest.mark.parametrize(("seconds", "status"), [(150, "OK"), (151, "STALE")])
def test_old_evidence_or_an_old_check_is_stale_when_it_is_read(seconds: int, status: str) -> None:
    post(complete())
    later = NOW + timedelta(seconds=seconds)
    assert standing(now=later).status == status
    swept(later)
    assert standing(now=later).status == status


def test_a_fresh_check_of_old_evidence_and_an_old_check_of_fresh_evidence_are_both_stale() -> None:
    post(complete())
    later = NOW + timedelta(seconds=200)
    post(complete(at=later), now=later)
    assert standing(now=later).evidence_at == later
    assert standing(now=later).checked_at == NOW
    assert standing(now=later).status == "STALE"


def test_nothing_to_check_is_unknown() -> None:
    assert overall(market_identities(NOW)) == "UNKNOWN"
    post(line("ORDER_X", data={"canonical_instrument": "ES", "execution_instrument": "MES"}))
    assert swept()["ES"].status == "UNKNOWN", "no stream was seen"
    assert swept()["ES"].passed is None


def test_a_market_the_registry_lost_is_unknown() -> None:
    post(complete())
    ExecutionInstrument.objects.filter(canonical__symbol="ES").delete()
    assert swept()["ES"].status == "UNKNOWN"


def test_a_lease_alone_is_evidence_and_nothing_to_check() -> None:
    state = swept(NOW, tenure())["ES"]
    assert (state.status, state.evidence_at, state.run_id) == ("UNKNOWN", ago(1), "guard-1")


def test_a_heartbeat_is_evidence_of_the_markets_its_run_claims_and_of_no_other() -> None:
    post(complete(at=ago(100)), line("ORDER_X", run="run-b", instrument="MNQ", at=ago(100)))
    post(line("ENGINE_ALIVE", data={"note": "MNQ"}, instrument="MNQ"))
    assert standing().evidence_at == NOW
    assert standing("NQ").evidence_at == ago(100)


def test_a_run_without_an_id_speaks_for_the_markets_it_names_only() -> None:
    post(complete(at=ago(100), run=""))
    post(line("ENGINE_ALIVE", run=""))
    assert standing().evidence_at == ago(100)


def test_a_clean_stop_is_idle_and_not_a_pass() -> None:
    post(line("ENGINE_START", at=ago(60)), complete(at=ago(50)), line("ENGINE_STOP", at=ago(10)))
    state = standing(now=NOW + timedelta(hours=5))
    assert (state.status, state.passed, state.stopped_at) == ("IDLE", None, ago(10))


def test_a_run_that_goes_on_after_its_stop_has_not_stopped() -> None:
    post(complete(at=ago(500)), line("ENGINE_STOP", at=ago(400)), now=ago(400))
    post(complete())
    swept()
    assert standing().status == "OK"


def test_a_run_that_starts_again_has_not_stopped() -> None:
    post(complete(at=ago(50)), line("ENGINE_STOP", at=ago(40)), line("ENGINE_START", at=ago(30)))
    assert standing().status == "OK"


def test_a_stop_does_not_hide_an_open_violation() -> None:
    post(incomplete(at=ago(50)), line("ENGINE_STOP", at=ago(10)))
    assert standing().status == "VIOLATION"


def test_history_may_be_red_but_claims_no_liveness_and_says_where_it_is_from() -> None:
    post(incomplete(at=ago(86_400)))
    state = standing()
    assert (state.status, state.historical, state.label) == (
        "VIOLATION",
        True,
        "from logs of 2026-03-31",
    )
    post(complete(at=ago(86_300), run="run-b"))
    assert standing("ES").evidence_at == ago(86_300)
    post(complete())
    assert standing().label == ""


def test_a_line_slightly_ahead_is_evidence_of_now_and_one_far_ahead_of_nothing_present() -> None:
    post(complete(at=NOW + timedelta(seconds=30)))
    assert WatchedMarket.objects.get().evidence_at == NOW
    post(incomplete("INTENT_X", at=NOW + timedelta(days=1), run="run-b"))
    assert standing().status == "VIOLATION"
    later = NOW + timedelta(minutes=3)
    post(line("ENGINE_ALIVE", at=later + timedelta(days=1)), now=later)
    assert standing(now=later).evidence_at == NOW


def test_a_robots_report_is_kept_apart_and_the_worse_one_counts() -> None:
    post(complete(at=ago(20)))
    post(report("False", at=ago(10), violations=["MES1 is not canonical"]))
    state = standing()
    assert (state.status, state.reported) == ("VIOLATION", False)
    assert "MES1 is not canonical" in state.violations[0].message
    kept = {row.origin: row.passed for row in InvariantResult.objects.all()}
    assert kept == {"sweep": False, "robot": False}
    post(report("True"))
    assert standing().status == "OK"
    assert standing().reported is True


def test_a_robots_pass_does_not_make_up_for_our_failure() -> None:
    post(incomplete(at=ago(10)))
    post(report(True))
    assert standing().status == "VIOLATION"


@pytest.mark.parametrize(
    "late", [{"at": NOW - timedelta(seconds=30)}, {"at": NOW + timedelta(seconds=30)}]
)
def test_an_older_or_future_dated_report_changes_nothing(late: dict[str, Any]) -> None:
    post(report(False, at=ago(10)))
    before = open_violations(), standing()
    post(report(True, **late))
    assert (open_violations(), standing()) == before


def test_a_future_dated_first_report_is_not_even_watched() -> None:
    post(report(False, at=NOW + timedelta(minutes=5)))
    assert market_identities(NOW) == []


def test_an_unreadable_report_is_unknown_and_counted_as_an_ingest_error() -> None:
    post(complete(at=ago(10)))
    outcome = post(report("[REDACTED]"))
    assert (outcome.accepted, len(outcome.warnings)) == (1, 1)
    assert standing().status == "UNKNOWN"
    error = IngestError.objects.get()
    assert error.code == "REPORT_UNREADABLE"
    assert error.source.rejected == 1


def test_another_runs_unreadable_report_says_nothing_of_its_successor() -> None:
    post(report("[REDACTED]", at=ago(100)), line("ENGINE_STOP", at=ago(90)))
    post(complete(run="run-b"))
    assert standing().status == "OK"


def test_reading_how_everything_stands_takes_three_queries(
    django_assert_num_queries: Any,
) -> None:
    post(*[incomplete(f"ORDER_{n}") for n in range(20)])
    post(line("ORDER_X", instrument="MNQ", run="b"), line("ORDER_X", instrument="MGC", run="c"))
    with django_assert_num_queries(3):
        assert len(market_identities(NOW)) == 3


def test_the_worst_comes_first() -> None:
    post(complete(), line("ORDER_X", instrument="MNQ", run="run-b"))
    assert [state.market for state in market_identities(NOW)] == ["NQ", "ES"]


def test_a_market_exclusive_per_account_is_watched_per_account() -> None:
    symbol = ExecutionInstrument.objects.get(symbol="MES").canonical
    symbol.exclusive_per_account = True
    symbol.save()
    post(complete(account="Sim101"), incomplete(account="Sim102", run="run-b"))
    states = {state.scope: state.status for state in market_identities(NOW)}
    assert states == {"Sim101": "OK", "Sim102": "VIOLATION"}
