"""How a market stood and who held it: painted from what sweeps, robots and locks left behind."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from identity.models import Violation, WatchedMarket
from identity.status import market_identities
from locks.models import LockEvent, LockEventType, LockRecord, Tenure
from tests.watchdog import cast
from watchdog_project.drawing import (
    Window,
    draw_locks,
    draw_strip,
    kill_switch_times,
    strip_in_words,
)
from watchdog_project.history import prune_statuses, record_statuses
from watchdog_project.models import StatusSpan
from watchdog_project.sessions import write_sessions
from watchdog_project.timeline import Segment, identity_strips, lock_history, over, unbroken

NOW = cast.NOW
DAY = Window(NOW - timedelta(days=1), NOW)


def minutes_ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def span(status: str, began: float, seen: float, market: str = "ES") -> None:
    StatusSpan.objects.create(
        market=market, status=status, began_at=minutes_ago(began), seen_at=minutes_ago(seen)
    )


def told(segments: list[Segment]) -> list[tuple[str, float, float]]:
    """Status, and how many minutes ago it began and ended."""
    return [
        (one.status, (NOW - one.start).total_seconds() / 60, (NOW - one.end).total_seconds() / 60)
        for one in segments
    ]


def strip(market: str = "ES") -> list[tuple[str, float, float]]:
    return told(identity_strips([(market, "")], DAY.since, NOW).get((market, ""), []))


@pytest.mark.django_db
def test_sweeps_that_see_the_same_write_one_row_and_a_change_begins_another() -> None:
    cast.a_passing_market("ES")
    for minute in range(3):
        record_statuses(market_identities(NOW), NOW + timedelta(minutes=minute))
    WatchedMarket.objects.update(evidence_at=cast.seconds_ago(3600))
    record_statuses(market_identities(NOW), NOW + timedelta(minutes=3))

    rows = StatusSpan.objects.order_by("pk").values_list("status", "began_at", "seen_at")
    assert list(rows) == [
        ("OK", NOW, NOW + timedelta(minutes=2)),
        ("STALE", NOW + timedelta(minutes=3), NOW + timedelta(minutes=3)),
    ]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("hours", "silent", "status"),
    [
        ("17:00-18:00", True, "CLOSED"),
        ("17:00-18:00", False, "OK"),
        ("08:30-15:00", True, "STALE"),
        ("", True, "STALE"),
    ],
)
def test_silence_while_the_market_is_known_to_be_closed_is_told_as_that(
    instruments: None, hours: str, silent: bool, status: str
) -> None:
    # NOW is nine in the morning in Chicago.
    write_sessions(NOW, lambda key, first, last: {NOW.date(): hours} if hours else {})
    cast.a_passing_market("ES")
    if silent:
        WatchedMarket.objects.update(evidence_at=cast.seconds_ago(3600))

    record_statuses(market_identities(NOW), NOW)

    assert StatusSpan.objects.get().status == status


@pytest.mark.django_db
def test_a_market_that_no_sweep_looked_at_for_a_while_is_not_said_to_have_been_ok() -> None:
    cast.a_passing_market("ES")
    record_statuses(market_identities(NOW), NOW - timedelta(hours=1))
    record_statuses(market_identities(NOW), NOW)

    assert strip() == [("STALE", 60, 0)]


@pytest.mark.django_db
def test_a_status_lasts_until_the_next_one_and_up_to_now() -> None:
    span("OK", 600, 301)
    span("IDLE", 300, 1)

    assert strip() == [("OK", 600, 300), ("IDLE", 300, 0)]


@pytest.mark.django_db
def test_a_violation_that_came_and_went_between_two_sweeps_is_seen() -> None:
    span("OK", 600, 1)
    violation = cast.a_violation("ES", ended_at=minutes_ago(99.5))
    Violation.objects.filter(pk=violation.pk).update(opened_at=minutes_ago(100))

    assert strip() == [("OK", 600, 100), ("VIOLATION", 100, 99.5), ("OK", 99.5, 0)]


@pytest.mark.django_db
def test_what_old_logs_tell_and_what_was_accepted_counts_as_the_sweeps_saw_it() -> None:
    span("OK", 600, 1)
    cast.a_violation("ES", historical=True)
    cast.a_violation("ES", scope="Sim101", accepted_by="desk", accepted_until=NOW)

    assert strip() == [("OK", 600, 0)]


@pytest.mark.django_db
def test_what_began_before_the_window_is_cut_at_its_edge() -> None:
    span("OK", 3 * 1440, 1)

    assert strip() == [("OK", 1440, 0)]


@pytest.mark.django_db
def test_strips_of_many_markets_cost_one_query() -> None:
    markets = [(f"M{number:02}", "") for number in range(30)]
    for market, _ in markets:
        span("OK", 600, 1, market)

    with CaptureQueriesContext(connection) as queries:
        assert len(identity_strips(markets, DAY.since, NOW)) == 30

    assert len(queries) == 1


@pytest.mark.django_db
def test_old_spans_are_forgotten() -> None:
    span("OK", 900, 800)
    span("IDLE", 700, 1)

    assert prune_statuses(minutes_ago(750)) == 1
    assert StatusSpan.objects.get().status == "IDLE"


def test_paint_covers_the_ground_and_nothing_else() -> None:
    ground = [
        Segment("OK", minutes_ago(60), minutes_ago(30)),
        Segment("STALE", minutes_ago(20), NOW),
    ]
    paint = [
        Segment("VIOLATION", minutes_ago(40), minutes_ago(25)),
        Segment("VIOLATION", minutes_ago(30), minutes_ago(10)),
    ]

    assert told(over(ground, paint)) == [
        ("OK", 60, 40),
        ("VIOLATION", 40, 10),
        ("STALE", 10, 0),
    ]


def test_nothing_known_is_drawn_as_nothing_and_said() -> None:
    assert unbroken([], NOW) == []
    assert "Nothing is known" in draw_strip([], DAY)
    assert "<rect" not in draw_strip([], DAY)


def test_states_differ_in_height_so_that_colour_is_not_the_only_sign() -> None:
    drawn = draw_strip(
        [
            Segment("OK", minutes_ago(720), minutes_ago(1)),
            Segment("VIOLATION", minutes_ago(1), NOW),
        ],
        DAY,
    )

    assert re.findall(r'data-look="(\w+)"', drawn) == ["ok", "violation"]
    assert len(set(re.findall(r' height="(\d+)"/>', drawn))) == 2
    # A minute of a day is less than a pixel, and is seen all the same.
    assert min(float(width) for width in re.findall(r'width="([\d.]+)%" height', drawn)) >= 0.35
    assert strip_in_words([Segment("OK", minutes_ago(60), NOW)], DAY).endswith("OK 100 %.")


@pytest.fixture
def es_was_traded(db: None) -> None:
    lock = LockRecord.objects.create(name="ES", fencing_token=8)
    for token, began, ended, end in ((7, 600, 300, "crashed"), (8, 200, None, "")):
        Tenure.objects.create(
            lock=lock,
            fencing_token=token,
            run_id=f"run-{token}",
            nonce_hash="5" * 64,
            host="<b>trader</b>",
            acquired_at=minutes_ago(began),
            ended_at=None if ended is None else minutes_ago(ended),
            end=end,
        )
    for type_, name, minutes, count in (
        (LockEventType.ALREADY_ACTIVE, "ES", 100, 3),
        (LockEventType.ALREADY_ACTIVE, "NQ", 90, 1),
        (LockEventType.KILL_SWITCH_ACTIVE, "", 80, 1),
        (LockEventType.KILL_SWITCH_RELEASED, "", 70, 1),
        (LockEventType.KILL_SWITCH_ACTIVE, "ES", 60, 1),
        (LockEventType.ALREADY_ACTIVE, "ES", 3000, 1),
    ):
        at = minutes_ago(minutes)
        LockEvent.objects.create(
            type=type_, name=name, at=at, last_at=at, count=count, code=f"{minutes}"
        )


def test_a_lock_timeline_shows_its_own_market_and_the_switch_for_all(es_was_traded: None) -> None:
    history = lock_history("ES", "", DAY.since)
    drawn = draw_locks(history.tenures, history.events, DAY)

    assert [tenure.fencing_token for tenure in history.tenures] == [8, 7]
    assert re.findall(r'data-end="(\w+)"', drawn) == ["running", "crashed"]
    assert drawn.count('data-mark="refused"') == 1
    assert "2 tenures, 3× refused" in drawn
    assert drawn.count("wd-stopped") == 2
    assert not history.cut
    assert "<b>trader" not in drawn


def test_orders_were_stopped_from_engaging_to_releasing_or_until_now(es_was_traded: None) -> None:
    times = kill_switch_times(lock_history("ES", "", DAY.since).events, DAY)

    assert times == [(minutes_ago(80), minutes_ago(70)), (minutes_ago(60), NOW)]
