"""The life of a violation: opened, counted, and mended by who broke it or who replaced him."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from identity.admission import Place
from identity.models import Violation, ViolationEnd
from tests.identity.cast import (
    HERE,
    NOW,
    ago,
    complete,
    counted,
    incomplete,
    journal,
    line,
    open_violations,
    post,
    standing,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("registry")]
BROKEN = ("ES", "EVENT_IDENTITY_INCOMPLETE", "ORDER_SUBMITTED")


def test_a_breach_opens_one_violation_and_more_of_it_are_counted() -> None:
    post(incomplete(at=ago(30)))
    post(incomplete(at=ago(20)), incomplete(at=ago(10)))
    assert open_violations() == [(*BROKEN, 3)]
    row = Violation.objects.get()
    assert (row.opened_at, row.last_seen_at) == (ago(30), ago(10))
    assert row.sample["event"] == "ORDER_SUBMITTED"
    assert (row.run_id, row.host, row.log) == ("run-a", HERE.host, HERE.log)
    assert not row.historical


def test_violations_of_two_markets_and_names_are_kept_apart() -> None:
    post(incomplete(), incomplete("INTENT_X"), line("ORDER_SUBMITTED", instrument="MNQ"))
    assert open_violations() == [
        ("ES", "EVENT_IDENTITY_INCOMPLETE", "INTENT_X", 1),
        (*BROKEN, 1),
        ("NQ", *BROKEN[1:], 1),
    ]


def test_a_later_complete_event_of_that_name_from_the_same_run_mends_it() -> None:
    post(incomplete(at=ago(20)))
    post(complete(at=ago(10)))
    assert open_violations() == []
    row = Violation.objects.get()
    assert (row.end, row.ended_at, row.ended_by) == (ViolationEnd.MENDED, ago(10), "run-a")


def test_an_earlier_complete_event_that_arrives_late_mends_nothing() -> None:
    post(incomplete(at=ago(20)))
    post(complete(at=ago(30)))
    assert open_violations() == [(*BROKEN, 1)]


def test_a_complete_event_of_another_name_or_market_or_run_mends_nothing() -> None:
    post(incomplete("INTENT_X", at=ago(20)))
    post(complete("INTENT_Y"))
    names = {"canonical_instrument": "NQ", "execution_instrument": "MNQ"}
    post(line("INTENT_X", instrument="MNQ", data=names))
    post(complete("INTENT_X", run="run-b"))
    assert open_violations() == [("ES", BROKEN[1], "INTENT_X", 1)]


def test_what_two_runs_broke_is_mended_when_both_have() -> None:
    post(incomplete("INTENT_X", at=ago(30)), incomplete("INTENT_X", at=ago(20), run="run-b"))
    post(complete("INTENT_X", run="run-b"))
    assert open_violations() == [("ES", BROKEN[1], "INTENT_X", 2)]
    post(complete("INTENT_X", run="run-a"))
    assert open_violations() == []


def test_the_successor_in_the_same_log_mends_what_its_predecessor_broke() -> None:
    post(incomplete(at=ago(400)), now=ago(400))
    post(line("ENGINE_START", run="run-b", at=ago(100)), now=ago(100))
    post(complete(run="run-b", at=ago(10)))
    assert open_violations() == []


def test_a_successor_needs_not_wait_for_one_that_stopped() -> None:
    post(incomplete(at=ago(40)), line("ENGINE_STOP", at=ago(30)))
    post(complete(run="run-b", at=ago(10)))
    assert open_violations() == []


def test_a_run_beside_the_one_that_broke_it_is_no_successor() -> None:
    post(incomplete("INTENT_X", at=ago(400)), now=ago(400))
    post(line("ENGINE_ALIVE", run="run-b", at=ago(399)), now=ago(399))
    post(line("ENGINE_ALIVE", run="run-a", at=ago(300)), now=ago(300))
    post(complete("INTENT_X", run="run-b"))
    assert open_violations() == [("ES", BROKEN[1], "INTENT_X", 1)]


def test_a_run_of_another_log_and_host_is_no_successor() -> None:
    post(incomplete("INTENT_X", at=ago(400)), now=ago(400))
    elsewhere = Place(log="/robots/two/logs", host="trader-2")
    post(complete("INTENT_X", run="run-b"), place=elsewhere)
    assert open_violations() == [("ES", BROKEN[1], "INTENT_X", 1)]


def test_age_alone_never_mends() -> None:
    post(incomplete())
    assert standing(now=NOW + timedelta(days=365)).status == "VIOLATION"


def test_a_right_stream_mends_what_that_stream_broke() -> None:
    post(journal("NG1", "", at=ago(30)), journal("NG2", "", at=ago(30)))
    post(journal("NG1", "MNG", at=ago(20)))
    assert open_violations() == [("NG", "EXECUTION_INSTRUMENT_MISSING", "NG2", 1)]


def test_a_record_of_no_certain_time_neither_mends_nor_is_mended_by_what_was_read_before() -> None:
    post(journal("NG1", "", at=None))
    post(journal("NG1", "MNG", at=ago(1)))
    assert open_violations() == [("NG", "EXECUTION_INSTRUMENT_MISSING", "NG1", 1)]
    post(journal("NG2", "", at=ago(10)), journal("NG2", "MNG", at=None))
    assert len(open_violations()) == 2


def test_what_no_market_could_be_told_of_is_mended_by_the_same_event_of_any_market() -> None:
    post(line("ORDER_SUBMITTED", at=ago(20)))
    assert open_violations() == [("", *BROKEN[1:], 1)]
    post(complete())
    assert open_violations() == []


def test_a_late_line_of_before_the_mending_is_counted_where_it_belongs() -> None:
    post(incomplete(at=ago(20)), complete(at=ago(10)))
    post(incomplete(at=ago(15)))
    assert open_violations() == []
    assert Violation.objects.get().count == 2
    post(incomplete(at=ago(5)))
    assert open_violations() == [(*BROKEN, 1)]


def test_the_order_in_which_lines_arrive_does_not_matter() -> None:
    names = "INTENT_Y"
    lines = [incomplete(names, at=ago(age)) for age in (30, 20)] + [complete(names, at=ago(10))]
    lines += [incomplete("INTENT_X", at=ago(9)), complete("INTENT_X", at=ago(25))]
    for seed in range(5):
        Violation.objects.all().delete()
        renamed = [{**one, "event": one["event"] + str(seed)} for one in lines]
        random.Random(seed).shuffle(renamed)
        for one in renamed:
            post(one)
        assert open_violations() == [("ES", BROKEN[1], f"INTENT_X{seed}", 1)]


def test_an_old_line_opens_a_historical_violation_and_a_live_one_makes_it_news() -> None:
    post(incomplete(at=ago(3600)))
    assert Violation.objects.get().historical
    post(incomplete())
    assert not Violation.objects.get().historical


def test_a_mended_violation_that_comes_back_is_another_one() -> None:
    post(incomplete(at=ago(30)), complete(at=ago(20)), incomplete(at=ago(10)))
    assert open_violations() == [(*BROKEN, 1)]
    assert counted() == {"EVENT_IDENTITY_INCOMPLETE": 2}
