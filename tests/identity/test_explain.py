"""Why a market stands as it does: for every status, and for what nothing is known of."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from identity.explain import Explanation, explain_market
from identity.facts import TenureFact
from identity.models import CanonicalInstrument, ExecutionInstrument, LogFolder, WatchedMarket
from identity.operators import accept_violation, forget_market
from tests.identity.cast import (
    NOW,
    ago,
    complete,
    incomplete,
    journal,
    leases,
    line,
    post,
    report,
    swept,
    tenure,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("registry")]


def explained(market: str = "ES", *facts: TenureFact, now: Any = NOW) -> Explanation:
    (found,) = explain_market(market, None, now, leases(*facts))
    return found


def said(found: Explanation) -> str:
    return " ".join([*found.why, *found.evidence, *found.mends])


def test_a_violation_is_told_with_its_evidence_its_runs_and_what_mends_it() -> None:
    post(complete(at=ago(40)), incomplete("ORDER_X", at=ago(30)))
    post(incomplete("ORDER_X", at=ago(20), run="run-b"))
    found = explained()
    assert found.status == "VIOLATION"
    order = next(v for v in found.violations if v.code == "EVENT_IDENTITY_INCOMPLETE")
    assert (order.subject, order.count, order.state) == ("ORDER_X", 2, "open")
    assert (order.opened_at, order.last_seen_at) == (ago(30), ago(20))
    assert "from each of the runs run-a, run-b" in order.mended_by
    assert order.runbook == "docs/runbook.md#event_identity_incomplete"
    post(complete("ORDER_X", at=ago(10), run="run-b"))
    order = next(v for v in explained().violations if v.subject == "ORDER_X")
    assert "from run run-a," in order.mended_by, "run-b has mended its part"


def test_every_violation_says_what_ends_it() -> None:
    post(
        journal("NG1", "", at=ago(9)),
        line(
            "ORDER_A", at=ago(8), data={"canonical_instrument": "NG", "execution_instrument": "MNQ"}
        ),
        line("RANGE_BUILT", stream="MNG1", at=ago(7)),
        line("STREAM_B", stream="NG2", instrument="MNG", at=ago(6)),
        report(False, market="NG", at=ago(5)),
    )
    found = {one.code: one for one in explained("NG").violations}
    assert {
        "EXECUTION_INSTRUMENT_MISSING", "EXECUTION_NOT_OF_CANONICAL", "STREAM_ID_NOT_CANONICAL",
        "INSTRUMENT_MISMATCH", "ROBOT_REPORTED_VIOLATION",
    } <= set(found)  # fmt: skip
    assert "NG1 is right" in found["EXECUTION_INSTRUMENT_MISSING"].mended_by
    wrong_id = found["STREAM_ID_NOT_CANONICAL"]
    assert f"violation mend {wrong_id.id}" in wrong_id.mended_by
    assert "that passes" in found["ROBOT_REPORTED_VIOLATION"].mended_by


def test_a_pass_says_what_it_rests_on() -> None:
    post(complete(at=ago(100)))
    post(line("ENGINE_ALIVE", at=ago(30)))
    swept()
    found = explained("ES", tenure(acquired_at=ago(90), renewed_at=ago(12)))
    assert (found.status, found.violations) == ("OK", [])
    assert found.why == ["1 stream checked and right, and no violation is open that counts."]
    told = " ".join(found.evidence)
    assert "(30 s ago), from /robots/one/logs" in told
    assert "Streams: ES1. Execution instrument: MES." in told
    assert "Run run-a on trader-1" in told
    assert "(0 s ago), found a pass" in told
    assert "Lease: held by run guard-1 on trader-1 with token 1" in told
    assert "last renewed 12 s ago" in told
    assert found.mends == ["Nothing is to be mended."]


def test_an_accepted_violation_of_a_market_that_passes_is_not_kept_quiet() -> None:
    post(complete(at=ago(50)), incomplete("INTENT_X", at=ago(40)))
    (violation,) = explained().violations
    until = NOW + timedelta(days=7)
    accept_violation(violation.id, by="desk", reason="old logger", until=until, now=NOW)
    found = explained()
    assert found.status == "OK"
    assert "1 violation accepted for now" in said(found)
    assert found.violations[0].state.startswith("accepted until 2026-04-08")


def test_a_clean_stop_is_told_as_neutral() -> None:
    post(complete(at=ago(50)), line("ENGINE_STOP", at=ago(40)))
    found = explained(now=NOW + timedelta(hours=5))
    assert found.status == "IDLE"
    assert "run-a, said that it stopped, 2026-04-01 09:59:20 CDT" in said(found)


def test_stale_says_whether_evidence_or_check_is_old() -> None:
    post(complete())
    later = NOW + timedelta(minutes=5)
    swept(later)
    found = explained(now=later)
    assert found.status == "STALE"
    assert "newest evidence" in found.why[0]
    assert len(found.why) == 1
    post(line("ENGINE_ALIVE", at=later + timedelta(minutes=5)), now=later + timedelta(minutes=5))
    found = explained(now=later + timedelta(minutes=5))
    assert found.status == "STALE"
    assert [why.split(" at ")[0] for why in found.why] == ["It was last checked"]
    assert "manage.py sweep" in " ".join(found.mends)


def test_stale_names_the_folder_that_cannot_be_read() -> None:
    post(complete(at=ago(300)), now=ago(300))
    LogFolder.objects.create(path="/robots/one", error="The log folder /robots/one is gone.")
    assert "The log folder /robots/one is gone." in explained().mends


@pytest.mark.parametrize(
    ("begin", "reason"),
    [
        (lambda: post(line("ORDER_X", data={"canonical_instrument": "ES",
                                            "execution_instrument": "MES"})),
         "No stream of its present runs"),
        (lambda: (post(complete(at=ago(9))), post(report("[REDACTED]"))),
         "cannot be read, so it is neither"),
        (lambda: (post(complete()),
                  ExecutionInstrument.objects.filter(canonical__symbol="ES").delete()),
         "no canonical instrument ES"),
    ],
    ids=["nothing to check", "unreadable report", "not in the registry"],
)  # fmt: skip
def test_unknown_says_which_of_its_reasons(begin: Any, reason: str) -> None:
    begin()
    swept()
    found = explained()
    assert found.status == "UNKNOWN"
    assert [why for why in found.why if reason in why]
    assert len(found.why) == len(found.mends)
    assert found.runbook == "docs/runbook.md#unknown"


def test_history_is_told_as_history() -> None:
    post(incomplete(at=ago(86_400)))
    found = explained()
    assert "from logs of 2026-03-31" in said(found)
    assert found.violations[0].state == "open, from old logs"


def test_a_market_that_nothing_was_heard_of_is_unknown_and_says_how_to_begin() -> None:
    found = explained("NQ")
    assert (found.status, found.violations) == ("UNKNOWN", [])
    assert "Nothing was heard of it" in said(found)
    assert "manage.py ingest" in said(found)


def test_a_lease_that_no_sweep_has_seen_is_told() -> None:
    assert "Run guard-1 holds its lease, and no sweep" in said(explained("ES", tenure()))


def test_a_forgotten_market_says_who_forgot_it_and_why() -> None:
    post(complete(at=ago(50)))
    row = WatchedMarket.objects.get()
    forget_market(row.pk, by="desk", reason="sold the robot", now=NOW)
    assert "desk let it be forgotten at 2026-04-01 10:00:00 CDT: sold the robot." in said(
        explained()
    )


def test_each_account_of_a_market_exclusive_per_account_is_told_apart() -> None:
    CanonicalInstrument.objects.filter(symbol="ES").update(exclusive_per_account=True)
    post(complete(account="Sim101"), incomplete(account="Sim102", run="run-b"))
    both = explain_market("ES", None, NOW, leases())
    assert [(one.name, one.status) for one in both] == [
        ("ES@Sim102", "VIOLATION"), ("ES@Sim101", "OK"),
    ]  # fmt: skip
    (one,) = explain_market("ES", "Sim101", NOW, leases())
    assert one.status == "OK"
    (other,) = explain_market("ES", "Sim103", NOW, leases())
    assert (other.name, other.status) == ("ES@Sim103", "UNKNOWN")


def test_what_no_market_could_be_told_of_can_be_explained_too() -> None:
    post(journal("", ""))
    found = explained("")
    assert (found.name, found.status) == ("(no market)", "VIOLATION")
