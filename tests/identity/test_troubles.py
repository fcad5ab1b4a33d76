"""Stalls and connection events, whatever order the lines come in: on, over, counted once."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity.troubles import Kept, Trouble, hear, since, start_over
from tests.identity.cast import NOW, ago

LOST, SUSTAINED = "CONNECTION_LOST", "CONNECTION_LOST_SUSTAINED"
RECOVERED, CONFIRMED = "CONNECTION_RECOVERED", "CONNECTION_CONFIRMED"
STALLED, TICKS = "ENGINE_TICK_STALL_DETECTED", "ENGINE_TICK_CALLSITE"


def told(*events: tuple[str, float], market: str = "", historical: bool = False) -> Kept:
    """What is kept of these events, each so many seconds ago, in the order they were read."""
    kept: Kept = {}
    for event, seconds in events:
        hear(kept, event, market, ago(seconds), historical=historical)
    # A row keeps it as JSON.
    stored: Kept = json.loads(json.dumps(kept))
    return stored


def lost_since(kept: Kept, now: datetime = NOW) -> datetime | None:
    return since(kept, Trouble.CONNECTION, "ES", now)


def stalled_since(kept: Kept, now: datetime = NOW) -> datetime | None:
    return since(kept, Trouble.ENGINE, "ES", now)


@pytest.mark.parametrize(
    ("events", "seconds"),
    [
        ([(LOST, 31)], 31),
        ([(LOST, 29)], None),
        ([(LOST, 70), (SUSTAINED, 10)], 70),
        ([(SUSTAINED, 1)], 1),
        ([(LOST, 300), (RECOVERED, 290)], None),
        ([(LOST, 20), (RECOVERED, 10)], None),
        # It lasted, and its end has not: the alert stays one.
        ([(LOST, 300), (RECOVERED, 20)], 300),
        ([(LOST, 300), (RECOVERED, 31)], None),
        ([(LOST, 300), (RECOVERED, 20), (CONFIRMED, 19)], None),
        ([(LOST, 300), (RECOVERED, 200), (LOST, 180)], 300),
        ([(LOST, 300), (RECOVERED, 200), (LOST, 169)], 169),
        ([(LOST, 300), (RECOVERED, 200), (CONFIRMED, 199), (LOST, 180)], 180),
        ([(LOST, 300), (RECOVERED, 200), (LOST, 15)], None),
    ],
)
def test_a_connection_is_lost_once_it_lasts_and_found_once_that_lasts(
    events: list[tuple[str, float]], seconds: float | None
) -> None:
    assert lost_since(told(*events)) == (None if seconds is None else ago(seconds))


def test_a_connection_that_flaps_for_minutes_is_one_loss() -> None:
    flaps = [
        (event, 200 - 20 * number - late)
        for number in range(9)
        for event, late in ((LOST, 0), (RECOVERED, 10))
    ]

    kept = told(*flaps)

    assert lost_since(kept) is None
    assert lost_since(told(*flaps[:-1]), now=ago(39)) == ago(200)


def test_the_same_loss_told_by_several_lines_is_one() -> None:
    assert lost_since(told((LOST, 60), (LOST, 59.9), (LOST, 58), (RECOVERED, 29), (LOST, 28))) == (
        ago(60)
    )


def test_a_stalled_engine_is_told_at_once_and_a_tick_is_its_end() -> None:
    assert stalled_since(told((STALLED, 1))) == ago(1)
    assert stalled_since(told((STALLED, 20), (TICKS, 10))) is None
    assert stalled_since(told((STALLED, 20), ("ENGINE_TICK_STALL_RECOVERED", 10))) is None


def test_a_stalled_engines_timer_is_no_sign_that_it_ticks() -> None:
    assert stalled_since(told((STALLED, 20), ("ENGINE_TIMER_HEARTBEAT", 10))) == ago(20)
    assert stalled_since(told((STALLED, 20), ("ENGINE_ALIVE", 10))) == ago(20)


def test_ticks_of_a_healthy_engine_are_not_kept() -> None:
    assert told((TICKS, 10), (TICKS, 5)) == {}
    after = told((STALLED, 300), (TICKS, 200))
    assert told((STALLED, 300), (TICKS, 200), (TICKS, 100)) == after


def test_a_tick_from_before_the_stall_that_is_read_late_ends_nothing() -> None:
    assert stalled_since(told((STALLED, 20), (TICKS, 25))) == ago(20)


def test_data_are_lost_and_found_market_by_market() -> None:
    kept: Kept = {}
    for market in ("ES", "NQ"):
        hear(kept, "DATA_LOSS_DETECTED", market, ago(100), historical=False)
    hear(kept, "DATA_STALL_RECOVERED", "NQ", ago(50), historical=False)

    assert since(kept, Trouble.DATA, "ES", NOW) == ago(100)
    assert since(kept, Trouble.DATA, "NQ", NOW) is None
    assert since(kept, Trouble.DATA, "CL", NOW) is None


def test_data_lost_of_nobody_knows_which_market_are_lost_of_each() -> None:
    kept = told(("DATA_LOSS_DETECTED", 100))

    assert since(kept, Trouble.DATA, "ES", NOW) == ago(100)


def test_what_is_old_when_it_is_read_begins_nothing_but_may_end_something() -> None:
    assert lost_since(told((LOST, 3600), historical=True)) is None

    kept = told((LOST, 1200))
    hear(kept, RECOVERED, "", ago(1000), historical=True)
    assert lost_since(kept) is None


def test_a_start_ends_what_was_before_it_and_not_what_was_read_before_it() -> None:
    kept = told((STALLED, 300), (SUSTAINED, 5))

    start_over(kept, ago(20))

    assert stalled_since(kept) is None
    assert lost_since(kept) == ago(5)


def test_other_events_are_not_kept() -> None:
    assert told(("ORDER_SUBMITTED", 1), ("ENGINE_TIMER_HEARTBEAT", 1)) == {}


@pytest.mark.parametrize("rubbish", ["", [], ["x", "y"], ["a", "b", "c", ""], None, 7])
def test_a_row_that_holds_something_else_has_no_trouble(rubbish: Any) -> None:
    kept: Kept = {"connection": rubbish}
    assert lost_since(kept) is None

    hear(kept, SUSTAINED, "", ago(5), historical=False)
    assert lost_since(kept) == ago(5)


@given(
    st.lists(
        st.tuples(st.sampled_from([LOST, SUSTAINED, RECOVERED, CONFIRMED]), st.integers(0, 900)),
        max_size=12,
        unique_by=lambda event: event[1],
    ),
    st.randoms(use_true_random=False),
)
def test_in_whatever_order_lines_are_read_the_newest_decides(
    events: list[tuple[str, int]], random: Any
) -> None:
    newest = min(events, key=lambda event: event[1], default=None)
    random.shuffle(events)
    kept = told(*events)
    # Late enough that no flap is waited for any more.
    found = lost_since(kept, now=ago(-31))

    if newest is None or newest[0] in (RECOVERED, CONFIRMED):
        assert found is None
    else:
        assert found is not None
        assert found <= ago(newest[1])
