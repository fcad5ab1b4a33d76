"""An edit of the registry is seen by the next sweep in what live runs said before it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from identity.models import CanonicalInstrument, ExecutionInstrument, RobotRun, Violation
from identity.operators import mend_violation
from tests.identity.cast import (
    NOW,
    ago,
    complete,
    line,
    open_violations,
    post,
    standing,
    swept,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("registry")]
SOON = NOW + timedelta(seconds=30)
WRONG_PRODUCT = ("ES", "EXECUTION_NOT_OF_CANONICAL", "ES1", 1)
DRIFT = ("NQ", "MAPPING_DRIFT", "CANONICALIZATION_SELF_TEST", 1)


def move(execution: str, canonical: str) -> None:
    market = CanonicalInstrument.objects.get(symbol=canonical)
    ExecutionInstrument.objects.filter(symbol=execution).update(canonical=market)


def self_test(**more: Any) -> dict[str, Any]:
    data = {"instrument_mappings": {"MES": "ES"}, "canonical_stream_ids": ["ES1"]}
    return line("CANONICALIZATION_SELF_TEST", data=data, **more)


def test_a_product_that_was_moved_is_seen_in_the_streams_of_live_runs() -> None:
    post(complete())
    swept()
    move("MES", "NQ")
    assert swept(SOON)["ES"].status == "VIOLATION"
    assert open_violations() == [WRONG_PRODUCT]
    row = Violation.objects.get()
    assert "'MES'" in row.message
    assert (row.run_id, row.opened_at) == ("run-a", SOON)


def test_looking_again_is_not_another_breach_and_no_evidence() -> None:
    post(complete())
    move("MES", "NQ")
    for seconds in (30, 60, 90):
        state = swept(NOW + timedelta(seconds=seconds))["ES"]
    assert open_violations() == [WRONG_PRODUCT]
    assert state.evidence_at == NOW


def test_undoing_the_edit_mends_what_it_opened() -> None:
    post(complete())
    move("MES", "NQ")
    swept(SOON)
    move("MES", "ES")
    assert swept(SOON)["ES"].status == "OK"
    assert Violation.objects.get().end_reason == "Right by the registry as it is now."


def test_it_is_mended_once_every_run_is_right() -> None:
    post(complete("INTENT_A", stream="ES1"), complete("INTENT_A", stream="ES1", run="run-b"))
    move("MES", "NQ")
    swept(SOON)
    assert set(Violation.objects.get().runs) == {"run-a", "run-b"}
    later = SOON + timedelta(seconds=1)
    right = {"canonical_instrument": "ES", "execution_instrument": "ES", "stream": "ES1"}
    post(line("INTENT_A", data=right, at=later), now=later)
    assert set(Violation.objects.get().runs) == {"run-b"}
    post(line("INTENT_A", data=right, at=later, run="run-b"), now=later)
    assert open_violations() == []


def test_a_wrong_order_is_not_mended_by_an_edit_alone() -> None:
    wrong = {"canonical_instrument": "ES", "execution_instrument": "MNQ", "stream": "ES1"}
    post(line("ORDER_X", data=wrong))
    move("MNQ", "ES")
    swept(SOON)
    assert open_violations() == [WRONG_PRODUCT]


def test_a_self_test_that_the_registry_left_drifts_and_comes_back_with_it() -> None:
    post(self_test())
    assert open_violations() == []
    move("MES", "NQ")
    assert swept(SOON)["NQ"].status == "VIOLATION"
    assert open_violations() == [DRIFT]
    move("MES", "ES")
    swept(SOON)
    assert open_violations() == []


def test_a_drift_that_only_the_registry_caused_ends_when_the_registry_is_corrected() -> None:
    move("MES", "NQ")
    post(self_test())
    assert open_violations() == [DRIFT]
    move("MES", "ES")
    swept(SOON)
    assert open_violations() == []


def test_only_the_newest_self_test_of_a_run_counts() -> None:
    wrong = {"instrument_mappings": {"MES": "NQ"}, "canonical_stream_ids": ["ES1"]}
    post(line("CANONICALIZATION_SELF_TEST", data=wrong, at=ago(20)), self_test(at=ago(10)))
    assert open_violations() == []
    move("MNQ", "RTY")
    swept(SOON)
    assert open_violations() == []


def test_runs_that_are_gone_are_not_judged_until_they_speak_again() -> None:
    post(complete())
    move("MES", "NQ")
    later = NOW + timedelta(hours=1)
    swept(later)
    assert open_violations() == []
    post(line("ENGINE_ALIVE", at=later), now=later)
    swept(later)
    assert open_violations() == [WRONG_PRODUCT]


def test_a_product_the_registry_lost_is_unknown_and_no_breach() -> None:
    post(complete())
    ExecutionInstrument.objects.filter(canonical__symbol="ES").delete()
    swept(SOON)
    assert open_violations() == []
    assert standing(now=SOON).status == "UNKNOWN"


def test_what_an_operator_ended_is_not_opened_again_by_another_edit() -> None:
    post(complete())
    move("MES", "NQ")
    swept(SOON)
    mend_violation(Violation.objects.get().pk, by="desk", reason="being moved", now=SOON)
    move("MNQ", "RTY")
    swept(SOON)
    assert open_violations() == []


def test_a_line_judged_by_the_old_registry_is_looked_at_again() -> None:
    post(complete())
    move("MES", "NQ")
    swept(SOON)
    assert RobotRun.objects.get().judged_by != ""
    move("MES", "ES")
    post(line("ENGINE_ALIVE", at=SOON), now=SOON)
    assert RobotRun.objects.get().judged_by == ""


def test_without_an_edit_no_stream_is_read_again() -> None:
    post(*[complete("INTENT_A", run=f"run-{number}") for number in range(20)])
    swept()
    with CaptureQueriesContext(connection) as quiet:
        swept(SOON)
    assert not [one for one in quiet if "CANONICALIZATION_SELF_TEST" in one["sql"]]
    move("MNQ", "RTY")
    with CaptureQueriesContext(connection) as edited:
        swept(SOON)
    assert len(edited) - len(quiet) < 10, "it reads in bulk"
