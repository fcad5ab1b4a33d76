"""Files that somebody is writing: each line counts once, whatever is done to its file."""

from __future__ import annotations

import json
import os
import random
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from identity.batch import Outcome, commit_batch
from identity.ingest import ingest_file
from identity.models import IdentityEvent, IngestError, IngestSource, LogFolder
from identity.robotlog import MAX_LINE_BYTES
from identity.tailer import ABANDONED_AFTER, Tailer, follow_folder
from tests.identity.cast import HERE, NOW, ago, complete, incomplete, line, write_lines

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("registry")]


def events(count: int, *, start: int = 0) -> list[dict[str, Any]]:
    """Lines that differ, as real ones do."""
    return [
        line("ENGINE_ALIVE", at=ago(100 - number), data={"number": str(number)})
        for number in range(start, start + count)
    ]


def encoded(values: list[dict[str, Any]], end: bytes = b"\n") -> bytes:
    return b"".join(json.dumps(value).encode() + end for value in values)


def seen() -> list[str]:
    """The numbers of the robot's events, in the order they came in."""
    rows = IdentityEvent.objects.filter(event_type="ENGINE_ALIVE").order_by("id")
    return [row.data["data"]["number"] for row in rows]


def counts(outcome: Outcome) -> tuple[int, int, int]:
    return outcome.accepted, outcome.duplicates, outcome.rejections


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def log(tmp_path: Path) -> Path:
    follow_folder(tmp_path)
    return tmp_path / "robot_ENGINE.jsonl"


@pytest.fixture
def tailer() -> Tailer:
    return Tailer(clock=Clock())


def test_only_robot_logs_of_a_followed_folder_are_read(log: Path, tailer: Tailer) -> None:
    log.write_bytes(encoded(events(2)))
    (log.parent / "notes.jsonl").write_bytes(encoded(events(2, start=5)))
    assert tailer.catch_up(NOW).accepted == 2


def test_what_is_appended_is_read_from_where_reading_ended(log: Path, tailer: Tailer) -> None:
    log.write_bytes(encoded(events(2)))
    tailer.catch_up(NOW)
    with log.open("ab") as file:
        file.write(encoded(events(2, start=2)))
    assert counts(tailer.catch_up(NOW)) == (2, 0, 0)
    assert seen() == ["0", "1", "2", "3"]


def test_a_half_written_line_is_left_until_it_is_whole(log: Path, tailer: Tailer) -> None:
    content = encoded(events(3))
    log.write_bytes(content[:-20])
    tailer.catch_up(NOW)
    assert seen() == ["0", "1"]
    log.write_bytes(content)
    tailer.catch_up(NOW)
    assert seen() == ["0", "1", "2"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_file_cut_at_every_byte_and_grown_again_counts_each_line_once(
    tmp_path: Path, end: bytes
) -> None:
    values = [{"ts_utc": value["ts_utc"], "event": "E", "run_id": "r"} for value in events(3)]
    content = b"\xef\xbb\xbf" + encoded(values, end)
    path = tmp_path / "robot_X.jsonl"
    accepted = 0
    for cut in range(len(content) + 1):
        path.write_bytes(content[:cut])
        outcome = ingest_file(path, HERE, NOW, takes_last=cut % 2 == 0)
        accepted += outcome.accepted
        assert outcome.rejections == outcome.duplicates == 0
    assert accepted == IdentityEvent.objects.count() == 3
    assert IngestSource.objects.get().offset == len(content)


def test_a_file_cut_at_every_byte_of_its_second_line_and_ingested_whole_loses_nothing(
    tmp_path: Path,
) -> None:
    short = [{key: value[key] for key in ("ts_utc", "event", "data")} for value in events(2)]
    first, second = (encoded([value]) for value in short)
    for cut in range(1, len(second)):
        path = tmp_path / f"cut{cut}.jsonl"
        path.write_bytes(first + second[:cut])
        ingest_file(path, HERE, NOW, whole=True)
        complete_line = second[:cut].endswith(b"}")
        try:
            json.loads(second[:cut])
        except ValueError:
            complete_line = False
        assert seen() == (["0", "1"] if complete_line else ["0"])
        assert IngestError.objects.filter(code="TRUNCATED").exists() is not complete_line
        path.write_bytes(first + second)
        ingest_file(path, HERE, NOW, whole=True)
        assert seen() == ["0", "1"]
        IdentityEvent.objects.all().delete()
        IngestSource.objects.all().delete()


def test_random_cuts_growth_and_renames_count_each_line_once(tmp_path: Path) -> None:
    chance = random.Random(7)
    follow_folder(tmp_path)
    content = encoded(events(60))
    path = tmp_path / "robot_ENGINE.jsonl"
    size = 0
    for number in range(40):
        size = min(len(content), size + chance.randrange(0, len(content) // 20))
        if number % 7 == 6:
            # Truncated: the writer lost its last bytes and writes them again.
            size = max(0, size - chance.randrange(0, 400))
        path.write_bytes(content[:size])
        if number == 20:
            path = path.rename(tmp_path / "robot_ENGINE_20260401_150000.jsonl")
        Tailer(clock=Clock()).catch_up(NOW)
    path.write_bytes(content)
    Tailer(clock=Clock()).catch_up(NOW)
    assert seen() == [str(number) for number in range(60)]


def test_rotation_by_rename_neither_loses_nor_repeats(log: Path, tailer: Tailer) -> None:
    log.write_bytes(encoded(events(3)))
    tailer.catch_up(NOW)
    with log.open("ab") as file:
        file.write(encoded(events(2, start=3)))
    log.rename(log.with_name("robot_ENGINE_20260401_150000.jsonl"))
    log.write_bytes(encoded(events(2, start=5)))
    assert counts(tailer.catch_up(NOW)) == (4, 0, 0)
    assert sorted(seen()) == [str(number) for number in range(7)]
    assert counts(Tailer().catch_up(NOW)) == (0, 0, 0)


def test_a_file_truncated_and_written_anew_is_read_from_its_start(
    log: Path, tailer: Tailer
) -> None:
    log.write_bytes(encoded(events(5)))
    tailer.catch_up(NOW)
    log.write_bytes(encoded(events(2, start=5)))
    assert counts(tailer.catch_up(NOW)) == (2, 0, 0)


def test_a_file_truncated_to_its_first_lines_counts_only_what_is_new(
    log: Path, tailer: Tailer
) -> None:
    log.write_bytes(encoded(events(5)))
    tailer.catch_up(NOW)
    log.write_bytes(encoded(events(2) + events(2, start=7)))
    assert counts(tailer.catch_up(NOW)) == (2, 2, 0)
    assert sorted(seen()) == ["0", "1", "2", "3", "4", "7", "8"]


def test_a_copy_of_a_file_is_the_same_file(log: Path, tailer: Tailer) -> None:
    log.write_bytes(encoded(events(5)))
    tailer.catch_up(NOW)
    shutil.copy(log, log.with_name("robot_copy.jsonl"))
    log.with_name("robot_shorter.jsonl").write_bytes(encoded(events(3)))
    tailer.catch_up(NOW)
    assert len(seen()) == 5
    assert counts(tailer.catch_up(NOW)) == (0, 0, 0)


def test_two_files_that_begin_alike_and_go_on_differently_are_both_read(
    log: Path, tailer: Tailer
) -> None:
    log.write_bytes(encoded(events(3)))
    other = log.with_name("robot_ES.jsonl")
    other.write_bytes(encoded(events(1) + events(3, start=10)))
    tailer.catch_up(NOW)
    assert sorted(seen(), key=int) == ["0", "1", "2", "10", "11", "12"]
    for path, start in ((log, 20), (other, 30)):
        with path.open("ab") as file:
            file.write(encoded(events(1, start=start)))
    assert counts(tailer.catch_up(NOW)) == (2, 0, 0)
    assert counts(tailer.catch_up(NOW)) == (0, 0, 0)


def test_identical_lines_at_different_offsets_are_different_events(
    log: Path, tailer: Tailer
) -> None:
    log.write_bytes(encoded(events(1)) * 3)
    assert counts(tailer.catch_up(NOW)) == (3, 0, 0)


def test_blank_lines_a_byte_order_mark_and_crlf_are_no_events(log: Path, tailer: Tailer) -> None:
    log.write_bytes(b"\xef\xbb\xbf\r\n\n" + encoded(events(2), b"\r\n") + b"\n \n")
    assert counts(tailer.catch_up(NOW)) == (2, 0, 0)


def test_an_unreadable_line_is_counted_sampled_and_passed(log: Path, tailer: Tailer) -> None:
    log.write_bytes(encoded(events(1)) + b"rubbish\n\xff\xfe\n" + encoded(events(1, start=1)))
    assert counts(tailer.catch_up(NOW)) == (2, 0, 2)
    assert seen() == ["0", "1"]
    first, _ = IngestError.objects.order_by("offset")
    assert (first.code, first.sample) == ("UNREADABLE", "rubbish")
    assert first.offset == len(encoded(events(1)))
    assert IngestSource.objects.get().rejected == 2


def test_samples_of_unreadable_lines_are_bounded_and_their_count_is_not(
    log: Path, tailer: Tailer
) -> None:
    log.write_bytes(b"rubbish\n" * 1500)
    assert tailer.catch_up(NOW).rejections == 1500
    assert IngestSource.objects.get().rejected == 1500
    assert IngestError.objects.count() == 100


def test_a_line_too_long_is_counted_once_and_the_next_one_read(log: Path, tailer: Tailer) -> None:
    long = b'{"event": "' + b"x" * (MAX_LINE_BYTES + 5) + b'"}\n'
    log.write_bytes(encoded(events(1)) + long[:-1])
    assert counts(tailer.catch_up(NOW)) == (1, 0, 0)
    log.write_bytes(encoded(events(1)) + long + encoded(events(1, start=1)))
    assert counts(tailer.catch_up(NOW)) == (1, 0, 1)
    assert seen() == ["0", "1"]


def test_a_long_line_within_bounds_is_read(log: Path, tailer: Tailer) -> None:
    value = line("ENGINE_ALIVE", data={"number": "7", "text": "x" * (MAX_LINE_BYTES - 1000)})
    log.write_bytes(encoded([value]) + encoded(events(1)))
    assert counts(tailer.catch_up(NOW)) == (2, 0, 0)


def test_a_last_line_without_an_end_is_taken_once_nobody_writes_any_more(log: Path) -> None:
    clock = Clock()
    tailer = Tailer(clock=clock)
    log.write_bytes(encoded(events(2))[:-1])
    tailer.turn(NOW)
    assert seen() == ["0"]
    clock.seconds = ABANDONED_AFTER
    tailer.turn(NOW)
    assert seen() == ["0", "1"]
    with log.open("ab") as file:
        file.write(b"\n" + encoded(events(1, start=2)))
    assert counts(tailer.turn(NOW)) == (1, 0, 0)


def test_a_folder_that_does_not_exist_is_said_and_found_when_it_comes(tmp_path: Path) -> None:
    missing = tmp_path / "later"
    follow_folder(missing)
    tailer = Tailer()
    tailer.turn(NOW)
    assert "does not exist" in LogFolder.objects.get().error
    missing.mkdir()
    (missing / "robot_X.jsonl").write_bytes(encoded(events(1)))
    assert tailer.turn(NOW).accepted == 1
    assert LogFolder.objects.get().error == ""


def test_one_unreadable_file_does_not_keep_the_others_from_being_read(
    log: Path, tailer: Tailer
) -> None:
    log.with_name("robot_A.jsonl").mkdir()
    log.write_bytes(encoded(events(1)))
    assert tailer.turn(NOW).accepted == 1
    assert "robot_A.jsonl" in LogFolder.objects.get().error


def test_an_inactive_folder_is_not_read(log: Path, tailer: Tailer) -> None:
    log.write_bytes(encoded(events(1)))
    LogFolder.objects.update(active=False)
    assert counts(tailer.turn(NOW)) == (0, 0, 0)


def test_following_a_folder_again_changes_its_scope_and_adds_none(tmp_path: Path) -> None:
    follow_folder(tmp_path)
    folder = follow_folder(str(tmp_path) + os.sep, scope="Sim101", host="trader-2")
    assert LogFolder.objects.get() == folder
    assert (folder.scope, folder.host) == ("Sim101", "trader-2")


def test_an_old_log_read_today_is_history_and_a_line_of_today_is_not(
    log: Path, tailer: Tailer
) -> None:
    write_lines(log, [incomplete(at=ago(601)), complete(at=ago(599))])
    tailer.catch_up(NOW)
    history = dict(
        IdentityEvent.objects.filter(origin="robot").values_list("occurred_at", "historical")
    )
    assert history == {ago(601): True, ago(599): False}


def test_a_file_read_in_turns_of_few_batches_is_read_to_its_end(log: Path, tailer: Tailer) -> None:
    log.write_bytes(encoded([line("E", at=NOW - timedelta(seconds=1)) for _ in range(8_200)]))
    first = tailer.turn(NOW)
    assert (first.accepted, first.finished) == (8_000, False)
    second = tailer.turn(NOW)
    assert (second.accepted, second.finished) == (200, True)


def test_a_file_of_names_never_seen_together_is_read_whole_and_on_sqlite_in_smaller_parts(
    log: Path, tailer: Tailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def noted(*batch: Any, **more: Any) -> list[Outcome] | None:
        sizes.append(sum(len(part) for part in batch[2]))
        return commit_batch(*batch, **more)

    monkeypatch.setattr("identity.ingest.commit_batch", noted)
    log.write_bytes(encoded([line(f"EVENT_{number}", run=f"r{number}") for number in range(600)]))
    assert counts(tailer.catch_up(NOW)) == (600, 0, 0)
    assert counts(Tailer(clock=Clock()).catch_up(NOW)) == (0, 0, 0)
    assert sizes == ([250, 250, 100] if connection.vendor == "sqlite" else [600])
