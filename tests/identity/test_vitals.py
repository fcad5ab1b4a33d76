"""How the watched markets' robots are, from the lines that they wrote and the leases they hold."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from identity.admission import Place
from identity.models import RobotRun, WatchedMarket
from identity.operators import forget_market
from identity.vitals import Vitals, market_vitals
from tests.identity.cast import NOW, ago, line, post, swept, tenure

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("registry")]

FOLDER = Place(log="/robots/one/logs", host="trader-1")


def executes(market: str = "ES", *, run: str = "run-a", seconds: float = 5) -> dict[str, Any]:
    """An order of a run, which claims its market."""
    names = {
        "canonical_instrument": market,
        "execution_instrument": f"M{market}",
        "stream": f"{market}1",
    }
    return line("ORDER_SUBMITTED", at=ago(seconds), run=run, instrument=f"M{market}", data=names)


def says(event: str, seconds: float, run: str = "run-a", **data: Any) -> dict[str, Any]:
    """An engine line: no instrument, no market, only the run."""
    return line(event, at=ago(seconds), run=run, stream="__engine__", data=data)


def vitals(market: str = "ES") -> Vitals:
    (found,) = (one for one in market_vitals(NOW) if one.market == market)
    return found


def test_a_robot_is_well_while_its_log_tells_of_nothing_else() -> None:
    post(executes(seconds=20), says("ENGINE_TIMER_HEARTBEAT", 3))

    assert vitals() == Vitals("ES", "", "run-a", "trader-1", ago(3))


def test_troubles_are_those_of_the_markets_that_their_run_executes() -> None:
    post(executes("ES"), executes("NQ"), executes("CL", run="run-b"))
    post(
        says("ENGINE_TICK_STALL_DETECTED", 4, elapsed_seconds="185"),
        says("CONNECTION_LOST", 60),
        says("DATA_LOSS_DETECTED", 30, instrument="MNQ 06-26"),
    )

    es, nq, cl = vitals("ES"), vitals("NQ"), vitals("CL")

    assert (es.engine_since, es.connection_since, es.data_since) == (ago(4), ago(60), None)
    assert (nq.engine_since, nq.connection_since, nq.data_since) == (ago(4), ago(60), ago(30))
    assert (cl.engine_since, cl.connection_since, cl.data_since) == (None, None, None)


def test_a_recovery_closes_the_trouble_of_its_own_run_and_market_only() -> None:
    post(executes("ES"), executes("CL", run="run-b"))
    for run in ("run-a", "run-b"):
        post(says("CONNECTION_LOST_SUSTAINED", 100, run))
        post(says("DATA_LOSS_DETECTED", 100, run, instrument="ES"))
        post(says("DATA_LOSS_DETECTED", 100, run, instrument="CL"))
    post(
        says("CONNECTION_RECOVERED", 50, "run-b"),
        says("DATA_STALL_RECOVERED", 50, "run-b", instrument="MCL 06-26"),
    )

    es, cl = vitals("ES"), vitals("CL")

    assert (es.connection_since, es.data_since) == (ago(100), ago(100))
    assert (cl.connection_since, cl.data_since) == (None, None)


def test_a_run_that_starts_has_none_of_its_troubles_of_before() -> None:
    post(executes(seconds=300), says("ENGINE_TICK_STALL_DETECTED", 200))
    post(says("ENGINE_START", 100), executes(seconds=50))

    one = vitals()

    assert one.engine_since is None


def test_a_robot_that_stopped_cleanly_is_not_told_of() -> None:
    post(executes(), says("CONNECTION_LOST_SUSTAINED", 4), says("ENGINE_STOP", 3))

    assert market_vitals(NOW + timedelta(hours=1)) == []


def test_old_logs_tell_nothing_of_how_a_robot_is() -> None:
    post(executes(seconds=7200), says("ENGINE_TICK_STALL_DETECTED", 7000))

    assert market_vitals(NOW) == []


def test_old_logs_of_a_watched_market_do_not_make_their_run_a_silent_robot() -> None:
    post(executes(seconds=9000, run="run-a"), now=ago(9000))
    post(executes(seconds=7200, run="run-old"))

    assert market_vitals(NOW) == []


def test_lines_that_name_no_run_are_nobodys_trouble() -> None:
    post(executes(), says("ENGINE_TICK_STALL_DETECTED", 4, run=""))

    one = vitals()

    assert one.engine_since is None
    assert RobotRun.objects.exclude(troubles={}).count() == 0


def test_a_market_that_was_forgotten_is_not_told_of() -> None:
    post(executes())
    row = WatchedMarket.objects.get(market="ES")
    forget_market(row.pk, by="chief", reason="not ours", now=NOW)

    assert market_vitals(NOW) == []


def test_a_guard_and_the_log_of_its_robot_are_one_robot() -> None:
    post(executes(seconds=200), says("ENGINE_TICK_STALL_DETECTED", 190), place=FOLDER)
    swept(NOW, tenure(folder="/robots/one", acquired_at=ago(210)))

    one = vitals()

    assert one.run_id == "guard-1"
    assert one.heard_at == ago(1)
    assert one.engine_since == ago(190)


def test_the_log_of_a_robot_that_was_started_again_is_nobodys() -> None:
    post(executes(seconds=400), says("ENGINE_TICK_STALL_DETECTED", 390))
    post(says("ENGINE_START", 60, "run-b"), executes(seconds=50, run="run-b"))

    one = vitals()

    assert (one.run_id, one.engine_since) == ("run-b", None)


def test_the_log_of_another_hosts_dead_robot_is_not_the_new_ones() -> None:
    elsewhere = Place(log="/robots/two/logs", host="trader-2")
    post(executes(seconds=500), says("ENGINE_TICK_STALL_DETECTED", 490))
    post(executes(seconds=50, run="run-b"), place=elsewhere)

    one = vitals()

    assert (one.run_id, one.host, one.engine_since) == ("run-b", "trader-2", None)


def test_a_robot_that_fell_silent_in_the_middle_of_a_trouble_is_still_in_it() -> None:
    post(executes(seconds=500), says("CONNECTION_LOST_SUSTAINED", 400))

    one = vitals()

    assert (one.heard_at, one.connection_since) == (ago(400), ago(400))


def test_three_queries_tell_of_any_number_of_markets() -> None:
    for market in ("ES", "NQ", "CL", "GC", "ZB", "NG"):
        post(executes(market, run=f"run of {market}"))

    with CaptureQueriesContext(connection) as queries:
        told = market_vitals(NOW)

    assert len(told) == 6
    assert len(queries) == 3


def test_lines_read_twice_change_nothing() -> None:
    lines = [executes(), says("CONNECTION_LOST", 60), says("CONNECTION_RECOVERED", 50)]
    post(*lines)
    kept = RobotRun.objects.get(run_id="run-a").troubles
    post(says("CONNECTION_LOST", 60))

    assert RobotRun.objects.get(run_id="run-a").troubles == kept
