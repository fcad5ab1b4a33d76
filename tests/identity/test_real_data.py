"""The real installation's logs and journals, which lie beside the project where there are any."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db.models import Sum

from identity.models import IdentityEvent, IngestError, Violation
from identity.status import market_identities
from identity.tailer import Tailer, follow_folder
from identity.vitals import market_vitals
from tests.identity.cast import NOW, counted

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
LOGS = DATA / "robot_logs"
JOURNALS = DATA / "execution_journals.ndjson"

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.usefixtures("registry"),
    pytest.mark.skipif(not LOGS.is_dir(), reason=f"the real data is not here: no {LOGS}"),
]


def test_every_real_line_counts_once_and_again_adds_none() -> None:
    follow_folder(LOGS)
    first = Tailer().catch_up(NOW)
    assert (first.accepted, first.duplicates, first.rejections) == (668, 0, 0)
    again = Tailer().catch_up(NOW)
    assert (again.accepted, again.duplicates, again.rejections) == (0, 0, 0)
    assert IdentityEvent.objects.filter(origin="robot").count() == 668


def test_tailed_lines_are_duplicates_when_they_are_ingested_by_hand(
    capsys: pytest.CaptureFixture[str],
) -> None:
    follow_folder(LOGS)
    Tailer().catch_up(NOW)
    call_command("ingest", *sorted(str(path) for path in LOGS.glob("*.jsonl")))
    total = capsys.readouterr().out.splitlines()[-1]
    assert total == "total: 0 accepted, 668 duplicates, 0 rejected"


def test_69_of_70_orders_fills_and_intents_lack_an_identity_and_no_executor_is_double() -> None:
    follow_folder(LOGS)
    Tailer().catch_up(NOW)
    prefixes = ("ORDER_", "EXECUTION_", "INTENT_", "PROTECTIVE_", "STREAM_", "TRADE_")
    names = IdentityEvent.objects.filter(origin="robot").values_list("event_type", flat=True)
    assert sum(name.startswith(prefixes) for name in names) == 70
    assert counted() == {"EVENT_IDENTITY_INCOMPLETE": 69}
    states = {state.market: state.status for state in market_identities(NOW)}
    assert states["NG"] == "VIOLATION"


def test_the_journals_have_98_wrong_stream_ids_and_107_missing_execution_instruments(
    capsys: pytest.CaptureFixture[str],
) -> None:
    call_command("ingest", str(JOURNALS))
    assert "1297 accepted, 0 duplicates, 0 rejected" in capsys.readouterr().out
    assert counted() == {"STREAM_ID_NOT_CANONICAL": 98, "EXECUTION_INSTRUMENT_MISSING": 107}
    nowhere = Violation.objects.filter(market="").values_list("code").annotate(Sum("count"))
    assert dict(nowhere) == {"STREAM_ID_NOT_CANONICAL": 96, "EXECUTION_INSTRUMENT_MISSING": 96}
    untracked = Violation.objects.filter(subject="UNTRACKED_RECOVERY")
    assert set(untracked.values_list("market", "count")) == {("GC", 1), ("NG", 1)}
    assert IngestError.objects.count() == 0


def test_logs_and_journals_together_keep_their_numbers() -> None:
    call_command("ingest", str(JOURNALS), *sorted(str(path) for path in LOGS.glob("*.jsonl")))
    assert counted() == {
        "EVENT_IDENTITY_INCOMPLETE": 69,
        "EXECUTION_INSTRUMENT_MISSING": 107,
        "STREAM_ID_NOT_CANONICAL": 98,
    }


def test_real_logs_of_long_ago_tell_of_no_robot_that_should_be_alive() -> None:
    follow_folder(LOGS)
    Tailer().catch_up(NOW + timedelta(days=30))

    assert market_vitals(NOW + timedelta(days=30)) == []
    assert market_identities(NOW + timedelta(days=30)) != []
