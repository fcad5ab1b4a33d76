"""What the watches that people have were seen to do. None of it can happen here.

Every test runs twice: our watch must stand it, and the naive one must fail it.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from tests.identity.cast import NOW, complete, incomplete, line, report
from tests.identity.naive import NaiveWatch, OurWatch

Watch = OurWatch | NaiveWatch

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("registry")]
THE_ACCIDENT = pytest.mark.xfail(strict=True, raises=AssertionError, reason="the naive watch does")


@pytest.fixture(params=[OurWatch, pytest.param(NaiveWatch, marks=THE_ACCIDENT)])
def watch(request: pytest.FixtureRequest) -> Watch:
    made: Watch = request.param()
    return made


def encoded(*numbers: int) -> bytes:
    lines = (line("ENGINE_ALIVE", number=number) for number in numbers)
    return b"".join(json.dumps(one).encode() + b"\n" for one in lines)


def test_one_markets_pass_does_not_erase_anothers_failure(watch: Watch) -> None:
    watch.tell(line("ORDER_X", instrument="MNQ", run="run-b", data={}), NOW)
    assert watch.verdict(NOW) is False or pytest.fail("the failure itself was not seen")
    watch.tell(complete(), NOW)
    watch.check(NOW)
    assert watch.verdict(NOW) is False


def test_a_standing_violation_does_not_become_unknown_after_ten_minutes(watch: Watch) -> None:
    watch.tell(incomplete(), NOW)
    later = NOW + timedelta(minutes=11)
    watch.check(later)
    assert watch.verdict(later) is False
    assert watch.verdict(NOW + timedelta(days=30)) is False


def test_nothing_to_check_is_no_pass(watch: Watch) -> None:
    watch.check(NOW)
    assert watch.verdict(NOW) is None
    watch.tell(line("ENGINE_ALIVE"), NOW)
    watch.check(NOW)
    assert watch.verdict(NOW) is None


def test_the_word_false_is_false(watch: Watch) -> None:
    watch.tell(complete(), NOW - timedelta(seconds=9))
    watch.tell(report("False", at=NOW), NOW)
    assert watch.verdict(NOW) is False


def test_a_half_written_last_line_is_not_lost(watch: Watch, tmp_path: Path) -> None:
    log = tmp_path / "robot_ENGINE.jsonl"
    content = encoded(1, 2)
    log.write_bytes(content[:-20])
    watch.tail(tmp_path, NOW)
    log.write_bytes(content)
    watch.tail(tmp_path, NOW)
    assert watch.counted("ENGINE_ALIVE") == 2


def test_a_rotated_file_is_not_read_again(watch: Watch, tmp_path: Path) -> None:
    log = tmp_path / "robot_ENGINE.jsonl"
    log.write_bytes(encoded(1, 2, 3))
    watch.tail(tmp_path, NOW)
    log.rename(tmp_path / "robot_ENGINE_20260401_150000.jsonl")
    log.write_bytes(encoded(4))
    watch.tail(tmp_path, NOW)
    assert watch.counted("ENGINE_ALIVE") == 4


def test_a_result_that_does_not_change_is_said_every_time_it_is_checked(watch: Watch) -> None:
    watch.tell(complete(), NOW)
    watch.check(NOW)
    for minute in range(1, 16):
        watch.check(NOW + timedelta(minutes=minute))
    assert watch.results_since(NOW) == 15
