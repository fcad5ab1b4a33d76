"""The commands for people and cron: what they print, and how they exit."""

from __future__ import annotations

import io
import json
import sys
from datetime import datetime
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from identity.models import IdentityEvent, LogFolder, Violation
from tests.identity.cast import complete, incomplete, line, post, write_lines
from watchdog_project.models import TaskHeartbeat

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("registry")]
Output = pytest.CaptureFixture[str]


@pytest.fixture
def now() -> datetime:
    return timezone.now()


def swept(capsys: Output) -> tuple[int, list[str]]:
    with pytest.raises(SystemExit) as ended:
        call_command("sweep")
    return int(str(ended.value.code)), capsys.readouterr().out.splitlines()


def test_ingest_prints_what_became_of_each_file_and_of_all(
    tmp_path: Path, capsys: Output, now: datetime
) -> None:
    one = write_lines(tmp_path / "a.jsonl", [line("A", at=now), line("B", at=now)])
    other = tmp_path / "b.jsonl"
    other.write_text("rubbish\n")
    call_command("ingest", str(one), str(other))
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        f"{one}: 2 accepted, 0 duplicates, 0 rejected",
        f"{other}: 0 accepted, 0 duplicates, 1 rejected",
        "total: 2 accepted, 0 duplicates, 1 rejected",
    ]
    assert "at byte 0: It is not JSON" in shown.err
    call_command("ingest", str(one))
    assert capsys.readouterr().out == f"{one}: 0 accepted, 2 duplicates, 0 rejected\n"


def test_ingest_names_what_it_could_not_read_and_reads_the_rest(
    tmp_path: Path, capsys: Output, now: datetime
) -> None:
    good = write_lines(tmp_path / "a.jsonl", [line("A", at=now)])
    with pytest.raises(CommandError, match=r"Not read: .*missing.*No such file"):
        call_command("ingest", str(tmp_path / "missing"), str(tmp_path), str(good))
    assert "1 accepted" in capsys.readouterr().out


def test_ingest_reads_its_standard_input_and_the_same_again_adds_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: Output, now: datetime
) -> None:
    content = b"".join(json.dumps(line(name, at=now)).encode() + b"\n" for name in "AB")
    for expected in ("2 accepted, 0 duplicates", "0 accepted, 2 duplicates"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        call_command("ingest", "-")
        assert expected in capsys.readouterr().out
    assert IdentityEvent.objects.count() == 2


def test_a_sweep_with_nothing_watched_is_unknown(capsys: Output) -> None:
    code, lines = swept(capsys)
    assert code == 2
    assert lines == ["UNKNOWN  no market is watched yet: nothing was ingested"]
    assert TaskHeartbeat.objects.get().finished_at is not None


def test_a_sweep_exits_by_the_worst_market_and_has_a_line_for_each(
    tmp_path: Path, capsys: Output, now: datetime
) -> None:
    path = tmp_path / "robot_X.jsonl"
    call_command("ingest", str(write_lines(path, [complete(at=now)])))
    capsys.readouterr()
    assert swept(capsys)[0] == 0
    other = line("ORDER_X", instrument="MNQ", at=now, run="run-b")
    call_command("ingest", str(write_lines(tmp_path / "b.jsonl", [other])))
    capsys.readouterr()
    code, lines = swept(capsys)
    assert code == 1
    assert [one.split()[:2] for one in lines] == [["VIOLATION", "NQ"], ["OK", "ES"]]
    assert "EVENT_IDENTITY_INCOMPLETE" in lines[0]


def test_a_sweep_of_a_market_that_stopped_cleanly_exits_with_0(
    tmp_path: Path, capsys: Output, now: datetime
) -> None:
    lines = [complete(at=now), line("ENGINE_STOP", at=now)]
    call_command("ingest", str(write_lines(tmp_path / "a.jsonl", lines)))
    capsys.readouterr()
    code, shown = swept(capsys)
    assert (code, shown[0].split()[0]) == (0, "IDLE")


def test_tail_once_follows_a_folder_reads_what_is_there_and_ends(
    tmp_path: Path, capsys: Output, now: datetime
) -> None:
    write_lines(tmp_path / "robot_X.jsonl", [incomplete(at=now)])
    call_command("tail", str(tmp_path), "--once", "--scope", "Sim101", "--host", "trader-2")
    assert capsys.readouterr().out == "1 accepted, 0 duplicates, 0 rejected\n"
    folder = LogFolder.objects.get()
    assert (folder.scope, folder.host) == ("Sim101", "trader-2")


def test_explain_tells_status_evidence_violations_and_what_mends_them(
    capsys: Output, now: datetime
) -> None:
    post(incomplete("ORDER_X", at=now), now=now)
    call_command("explain", "MES 03-26")
    shown = capsys.readouterr().out
    assert shown.startswith("ES: VIOLATION\n")
    assert "EVENT_IDENTITY_INCOMPLETE ORDER_X: ORDER_X carries no canonical" in shown
    assert "docs/runbook.md#event_identity_incomplete" in shown
    call_command("explain", "nq")
    assert capsys.readouterr().out.startswith("NQ: UNKNOWN\n")
    call_command("explain", "")
    assert capsys.readouterr().out.startswith("(no market): UNKNOWN\n")


def test_explaining_an_unknown_market_is_one_sentence_and_exits_with_1() -> None:
    with pytest.raises(CommandError) as refused:
        call_command("explain", "MESX")
    assert refused.value.returncode == 1
    sentence = str(refused.value)
    assert "'MESX'" in sentence
    assert "MES," in sentence or "MES." in sentence, "it names the nearest"
    assert "\n" not in sentence


def test_an_operators_word_is_taken_by_its_violations_number(capsys: Output, now: datetime) -> None:
    post(complete(at=now), incomplete("ORDER_X", at=now), now=now)
    number = Violation.objects.get().pk
    with pytest.raises(CommandError, match="NO_REASON"):
        call_command("violation", "mend", str(number))
    with pytest.raises(CommandError, match="--until 2026-05-01"):
        call_command("violation", "accept", str(number), "--reason", "old logger")
    call_command(
        "violation", "accept", str(number), "--reason", "old logger", "--until", "2999-01-01"
    )
    assert Violation.objects.get().accepted_reason == "old logger"
    call_command("violation", "acknowledge", str(number), "--reason", "seen")
    call_command("violation", "mend", str(number), "--reason", "it is gone")
    row = Violation.objects.get()
    assert (row.end, row.end_reason, row.acknowledged_reason) == ("operator", "it is gone", "seen")
    with pytest.raises(CommandError, match="NOT_OPEN"):
        call_command("violation", "mend", str(number), "--reason", "again")
    assert "mended by" in capsys.readouterr().out
