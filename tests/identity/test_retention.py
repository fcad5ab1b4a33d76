"""What was kept long enough is forgotten; what it told of is not, and nothing counts twice."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from identity import retention
from identity.ingest import ingest_file
from identity.models import (
    Claim,
    EventOrigin,
    IdentityEvent,
    IngestError,
    IngestSource,
    RobotRun,
    Stream,
    Violation,
)
from identity.retention import Keep, Pruned, prune_history
from identity.tailer import Tailer, follow_folder
from tests.identity.cast import (
    HERE,
    NOW,
    ago,
    complete,
    incomplete,
    line,
    open_violations,
    post,
    standing,
    swept,
    write_lines,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("registry")]
LATER = NOW + timedelta(days=401)


def prune(now: datetime = LATER, **keep: Any) -> Pruned:
    return prune_history(now, Keep(**keep), wait=lambda seconds: None)


def results() -> list[tuple[bool, datetime]]:
    """Whether each result of ours that is kept was a change, and of when it is."""
    rows = IdentityEvent.objects.filter(origin=EventOrigin.SWEEP).order_by("occurred_at")
    return list(rows.values_list("changed", "occurred_at"))


def test_unchanged_results_go_after_their_days_and_changes_stay() -> None:
    post(complete())
    for hour in range(1, 4):
        swept(NOW + timedelta(hours=hour))
    assert [changed for changed, _ in results()] == [True, False, False, False]
    done = prune(NOW + timedelta(days=7, hours=2))
    assert (done.passes, done.events, done.finished) == (1, 0, True)
    assert results() == [
        (True, NOW), (False, NOW + timedelta(hours=2)), (False, NOW + timedelta(hours=3)),
    ]  # fmt: skip


def test_a_robots_own_reports_and_events_are_no_passes_of_ours() -> None:
    post(complete(), line("IDENTITY_INVARIANTS_STATUS", data={"pass": True, "stream_ids": ["ES1"]}))
    kept = IdentityEvent.objects.count()
    prune(NOW + timedelta(days=30))
    assert IdentityEvent.objects.count() == kept


def test_a_standing_result_outlives_the_events_that_said_it() -> None:
    post(incomplete())
    swept(NOW + timedelta(hours=1))
    prune()
    assert not IdentityEvent.objects.exists()
    assert standing(now=LATER).status == "VIOLATION"
    assert open_violations() == [("ES", "EVENT_IDENTITY_INCOMPLETE", "ORDER_SUBMITTED", 1)]


def test_events_are_kept_from_when_they_were_received_however_old_they_are() -> None:
    post(line("A", at=ago(86_400 * 900)))
    prune(NOW + timedelta(days=399))
    assert IdentityEvent.objects.count() == 1
    assert prune(NOW + timedelta(days=401)).events == 1


def test_more_than_a_batch_is_pruned_in_short_transactions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retention, "BATCH", 10)
    post(*[line("A", number=number) for number in range(95)])
    waits: list[float] = []
    with CaptureQueriesContext(connection) as queries:
        done = prune_history(LATER, Keep(), wait=waits.append)
    assert done.events == 95
    assert len(waits) > 9
    assert set(waits) == {retention.PAUSE}
    deletes = [one["sql"] for one in queries if one["sql"].startswith("DELETE")]
    assert len([sql for sql in deletes if "identityevent" in sql]) >= 10


def test_a_run_ends_in_time_and_the_next_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 10)
    post(*[line("A", number=number) for number in range(30)])
    seconds = iter([0.0, 0.0, 0.0, retention.SECONDS_A_RUN])
    first = prune_history(LATER, Keep(), wait=lambda _: None, clock=lambda: next(seconds))
    assert (first.finished, IdentityEvent.objects.count()) == (False, 10)
    assert prune().finished
    assert not IdentityEvent.objects.exists()


def test_the_passes_to_prune_are_found_without_looking_at_what_is_kept() -> None:
    post(complete())
    with CaptureQueriesContext(connection) as queries:
        prune(NOW + timedelta(days=8))
    statement = next(one["sql"] for one in queries if "DELETE" in one["sql"])
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}")
        else:
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute(f"EXPLAIN {statement}")
        plan = str(cursor.fetchall())
    assert "unchanged_results" in plan


def test_ended_violations_go_and_open_and_accepted_ones_stay() -> None:
    post(incomplete("INTENT_A", at=ago(9)), complete("INTENT_A", at=ago(8)))
    post(incomplete("INTENT_B", at=ago(7)))
    post(incomplete("INTENT_C", at=ago(6)), complete("INTENT_C", at=ago(5)))
    Violation.objects.filter(subject="INTENT_C").update(accepted_until=LATER + timedelta(days=9))
    assert prune().violations == 1
    assert set(Violation.objects.values_list("subject", flat=True)) == {"INTENT_B", "INTENT_C"}


def test_runs_that_nothing_is_left_of_go_with_their_streams_and_claims() -> None:
    post(complete(run="run-old"), place=type(HERE)(log="/elsewhere", host="trader-9"))
    post(line("ENGINE_STOP", run="run-old", at=NOW))
    post(complete(at=NOW + timedelta(days=1)), now=NOW + timedelta(days=1))
    assert prune(NOW + timedelta(days=400, hours=1)).runs == 1
    assert set(RobotRun.objects.values_list("run_id", flat=True)) == {"run-a"}
    assert set(Stream.objects.values_list("run__run_id", flat=True)) == {"run-a"}
    assert set(Claim.objects.values_list("run__run_id", flat=True)) == {"run-a"}


def test_a_market_that_stopped_cleanly_is_idle_for_ever() -> None:
    post(complete(at=ago(50)), line("ENGINE_STOP", at=ago(40)))
    prune()
    assert standing(now=LATER).status == "IDLE"


def test_a_run_that_has_yet_to_mend_a_violation_can_still_be_succeeded() -> None:
    post(incomplete(at=ago(60)), line("ENGINE_STOP", at=ago(50)))
    post(line("ENGINE_START", run="run-b", at=ago(40)))
    prune()
    post(complete(run="run-b", at=LATER), now=LATER)
    assert open_violations() == []


def test_samples_of_unreadable_lines_make_room(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"rubbish\n" * 100)
    ingest_file(path, HERE, NOW)
    assert prune().errors == 100
    with path.open("ab") as file:
        file.write(b"rubbish\n")
    ingest_file(path, HERE, LATER)
    assert IngestError.objects.count() == 1
    assert IngestSource.objects.get().rejected == 101


def numbered(*numbers: int, at: datetime = NOW) -> list[dict[str, Any]]:
    return [line("ENGINE_ALIVE", at=at, number=number) for number in numbers]


@pytest.fixture
def pruned(tmp_path: Path) -> Path:
    """A log whose events were counted and pruned since."""
    follow_folder(tmp_path)
    path = write_lines(tmp_path / "robot_ES.jsonl", numbered(*range(6)))
    assert Tailer().catch_up(NOW).accepted == 6
    assert prune().events == 6
    return path


def test_a_pruned_file_is_not_counted_again_when_it_is_tailed_or_ingested(pruned: Path) -> None:
    assert Tailer().catch_up(LATER).accepted == 0
    again = ingest_file(pruned, HERE, LATER, whole=True)
    assert (again.accepted, again.duplicates) == (0, 6)
    renamed = pruned.rename(pruned.with_name("robot_ES_20260401_150000.jsonl"))
    assert ingest_file(renamed, HERE, LATER, whole=True).accepted == 0
    assert IngestSource.objects.get().accepted == 6


def test_a_shorter_copy_of_a_pruned_file_is_not_counted_again(pruned: Path) -> None:
    copy = write_lines(pruned.with_name("robot_copy.jsonl"), numbered(*range(4)))
    found = ingest_file(copy, HERE, LATER, whole=True)
    assert (found.accepted, found.duplicates) == (0, 4)
    assert ingest_file(copy, HERE, LATER, whole=True).accepted == 0


def test_a_pruned_file_that_was_truncated_gives_only_what_is_new(pruned: Path) -> None:
    write_lines(pruned, [*numbered(0, 1), *numbered(7, 8, 9, at=LATER)])
    found = Tailer().catch_up(LATER)
    assert (found.accepted, found.duplicates) == (3, 2)


def test_what_is_appended_to_a_pruned_file_counts_even_if_it_is_old(pruned: Path) -> None:
    write_lines(pruned, numbered(*range(8)))
    assert Tailer().catch_up(LATER).accepted == 2


def test_a_file_of_which_a_part_is_pruned_counts_each_line_once(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "robot_ES.jsonl", numbered(*range(3)))
    ingest_file(path, HERE, NOW)
    with path.open("ab") as file:
        file.write(write_lines(tmp_path / "more", numbered(3, 4, at=LATER)).read_bytes())
    ingest_file(path, HERE, LATER)
    assert prune().events == 3
    copy = write_lines(
        tmp_path / "robot_copy.jsonl", [*numbered(*range(3)), *numbered(3, at=LATER)]
    )
    found = ingest_file(copy, HERE, LATER, whole=True)
    assert (found.accepted, found.duplicates) == (0, 4)


def test_posting_again_within_the_kept_time_adds_nothing() -> None:
    post(line("A", event_id="7"))
    prune(NOW + timedelta(days=399))
    assert post(line("A", event_id="7"), now=NOW + timedelta(days=399)).duplicates == 1
