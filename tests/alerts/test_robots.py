"""The facts of a robot's life, from its log, its lease and the market's session, to a finding."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from identity.models import LogFolder, RobotRun
from identity.registry import seed_registry
from tests.identity.cast import ago as before
from tests.identity.cast import line, post, stamp
from tests.watchdog.cast import NOW, a_held_lease, a_passing_market, seconds_ago
from watchdog_project.alerts.conditions import findings_of
from watchdog_project.alerts.facts import Facts, Liveness
from watchdog_project.alerts.gathering import gather_facts
from watchdog_project.alerts.kinds import Kind
from watchdog_project.alerts.models import Alert
from watchdog_project.alerts.services import look, worst_open_alerts
from watchdog_project.heartbeat import REAP, SWEEP
from watchdog_project.market_hours import CHICAGO
from watchdog_project.models import SessionDay, TaskHeartbeat
from watchdog_project.sessions import write_sessions

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("instruments")]


@pytest.fixture
def instruments(db: None) -> None:
    seed_registry()


def the_robot(heard: float = 5, market: str = "ES") -> RobotRun:
    """Executes a watched market; its log was heard so many seconds ago."""
    a_passing_market(market)
    run = RobotRun.objects.get(run_id=f"run of {market}")
    run.last_seen_at = run.heard_at = seconds_ago(heard)
    run.host = "trader-1"
    run.save()
    return run


def chicago(day: int, hour: int, minute: int) -> datetime:
    return datetime(2026, 3, day, hour, minute, tzinfo=CHICAGO).astimezone(UTC)


def hourly(start: datetime, end: datetime) -> list[datetime]:
    hours = int((end - start).total_seconds() // 3600)
    return [start + timedelta(hours=number) for number in range(hours + 1)]


def liveness(facts: Facts) -> Liveness:
    (one,) = facts.liveness
    return one


def kinds(facts: Facts) -> set[Kind]:
    return {finding.kind for finding in findings_of(facts).values()}


def test_a_robot_that_is_heard_is_alive() -> None:
    the_robot(heard=149)

    facts = gather_facts(NOW)

    one = liveness(facts)
    assert (one.market, one.run_id, one.host) == ("ES", "run of ES", "trader-1")
    assert (one.heard_at, one.silent_since) == (seconds_ago(149), None)
    assert facts.unread == frozenset()
    assert Kind.ROBOT_SILENT not in kinds(facts)


def test_a_robot_that_says_nothing_for_150_seconds_is_silent_since_then() -> None:
    the_robot(heard=200)

    facts = gather_facts(NOW)

    assert liveness(facts).silent_since == seconds_ago(50)
    assert Kind.ROBOT_SILENT in kinds(facts)


def test_a_renewal_is_a_sign_of_life() -> None:
    the_robot(heard=3600)
    lease = a_held_lease("ES")
    lease.renewed_at = seconds_ago(3)
    lease.save()

    one = liveness(gather_facts(NOW))

    assert (one.heard_at, one.silent_since) == (seconds_ago(3), None)


def test_a_robot_that_stopped_cleanly_is_not_silent() -> None:
    run = the_robot(heard=3600)
    run.stopped_at = run.last_seen_at
    run.save()

    assert gather_facts(NOW).liveness == []


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ("ENGINE_TICK_STALL_DETECTED", Kind.ENGINE_STALLED),
        ("DATA_LOSS_DETECTED", Kind.DATA_STALLED),
        ("CONNECTION_LOST_SUSTAINED", Kind.CONNECTION_LOST),
    ],
)
def test_what_a_log_tells_becomes_a_finding_of_its_market(event: str, kind: Kind) -> None:
    now = before()
    order = {"canonical_instrument": "ES", "execution_instrument": "MES", "stream": "ES1"}
    post(
        line("ORDER_SUBMITTED", at=before(9), instrument="MES", data=order),
        line(event, at=before(4), stream="__engine__", data={"instrument": "MES 06-26"}),
    )

    (finding,) = (one for one in findings_of(gather_facts(now)).values() if one.kind is kind)

    assert (finding.market, finding.since, finding.host) == ("ES", before(4), "trader-1")


def test_instances_that_find_another_of_themselves_are_told_of_once_for_each_market() -> None:
    start = datetime.now(UTC).replace(microsecond=0)

    def at(seconds: float) -> datetime:
        return start + timedelta(seconds=seconds)

    for run, seconds in (("run-b", 1), ("run-c", 5), ("run-d", 9)):
        said = {"account": "Sim101", "execution_instrument": "MES", "instance_id": "a1"}
        post(
            line("DUPLICATE_INSTANCE_DETECTED", at=at(seconds), run=run, data=said), now=at(seconds)
        )
    post(line("DUPLICATE_INSTANCE_DETECTED", at=at(-3600), run="old", data={}), now=start)

    look(gather_facts(at(10)))

    (alert,) = Alert.objects.filter(kind=Kind.DUPLICATE_INSTANCE_DETECTED)
    assert (alert.market, alert.since, alert.resolved_at) == ("ES", at(1), None)
    assert "3 times" in alert.summary
    assert "run-d" in alert.who
    look(gather_facts(at(9 + 601)))
    alert.refresh_from_db()
    assert alert.resolved_at == at(9 + 601)


def test_a_connection_that_flaps_is_one_alert_and_its_recovery_closes_no_other_markets() -> None:
    """ES and CL are executed by two runs; both are lost, ES flaps and recovers, CL stays lost."""
    start = before(600)

    def at(seconds: float) -> datetime:
        return start + timedelta(seconds=seconds)

    def says(event: str, run: str, seconds: float) -> dict[str, Any]:
        return line(event, at=at(seconds), run=run, stream="__engine__", data={})

    for market, run in (("ES", "run-es"), ("CL", "run-cl")):
        names = {"canonical_instrument": market, "execution_instrument": f"M{market}"}
        order = {**names, "stream": f"{market}1"}
        post(line("ORDER_SUBMITTED", at=start, run=run, instrument=f"M{market}", data=order))
    lines = [
        says("CONNECTION_LOST", "run-es", 1),
        says("CONNECTION_LOST", "run-cl", 1),
        says("CONNECTION_RECOVERED", "run-es", 40),
        says("CONNECTION_LOST", "run-es", 55),
        says("CONNECTION_RECOVERED", "run-es", 70),
    ]
    seen = []
    for seconds in range(0, 121, 5):
        due = [one for one in lines if one["ts_utc"] <= stamp(at(seconds))]
        post(*due, now=at(seconds))
        lines = lines[len(due) :]
        look(gather_facts(at(seconds)))
        lost = Alert.objects.filter(kind=Kind.CONNECTION_LOST, resolved_at__isnull=True)
        seen.append("".join(sorted(lost.values_list("market", flat=True))))

    assert seen == [""] * 7 + ["CLES"] * 13 + ["CL"] * 5
    assert Alert.objects.filter(kind=Kind.CONNECTION_LOST).count() == 2


def test_the_session_of_each_market_goes_along() -> None:
    the_robot()
    for day in (1, 2):
        hours = "00:00-16:00 17:00-24:00" if day == 2 else "17:00-24:00"
        SessionDay.objects.create(
            calendar_key="CME Globex Equity", day=NOW.date().replace(day=day), hours=hours
        )
    the_robot(market="CL")

    sessions = gather_facts(NOW).sessions

    assert sessions["ES", ""].open is True
    assert sessions["ES", ""].changed_at == NOW.replace(day=1, hour=23)
    assert sessions["ES", ""].next_change_at == NOW.replace(hour=22)
    assert sessions["CL", ""].open is None


def test_a_robot_that_is_silent_all_weekend_alerts_nobody_until_after_the_open() -> None:
    """It was heard last in the afternoon of Friday 6 March 2026; clocks change that Sunday."""
    friday = chicago(6, 15, 59)
    write_sessions(friday)
    run = the_robot()
    run.last_seen_at = run.heard_at = friday
    run.save()
    fired = []
    for now in [*hourly(chicago(6, 16, 5), chicago(8, 16, 55)), chicago(8, 17, 4)]:
        look(gather_facts(now))
        fired += [(now, alert.kind) for alert in worst_open_alerts()]
    assert fired == []

    for minutes in range(5, 8):
        look(gather_facts(chicago(8, 17, minutes)))

    assert "ROBOT_SILENT" in {alert.kind for alert in worst_open_alerts()}


def test_a_robot_that_falls_silent_while_nobody_knows_whether_it_trades_is_told_of() -> None:
    the_robot(heard=400)

    for seconds in (0, 31, 62):
        look(gather_facts(NOW + timedelta(seconds=seconds)))

    assert "ROBOT_SILENT" in {alert.kind for alert in worst_open_alerts()}


def test_every_periodic_task_that_is_overdue_is_a_finding() -> None:
    TaskHeartbeat.objects.create(task=SWEEP, interval=60, finished_at=seconds_ago(10))
    TaskHeartbeat.objects.create(
        task=REAP, interval=15, finished_at=seconds_ago(200), error="OperationalError: no"
    )

    (job,) = gather_facts(NOW).jobs

    assert (job.task, job.overdue_since) == ("reap_stale_locks", seconds_ago(50))
    assert job.error == "OperationalError: no"


@pytest.mark.parametrize(
    ("scanned", "error", "since"),
    [(5, "", None), (599, "", None), (660, "", 60), (5, "it cannot be read", 0)],
)
def test_a_folder_that_cannot_be_read_or_that_nobody_reads_is_a_finding(
    scanned: float, error: str, since: float | None
) -> None:
    LogFolder.objects.create(path="/logs", scanned_at=seconds_ago(scanned), error=error)
    LogFolder.objects.create(path="/off", active=False, error="off")
    LogFolder.objects.create(path="/new")

    intakes = gather_facts(NOW).intakes

    assert [one.failing_since for one in intakes] == ([] if since is None else [seconds_ago(since)])


def test_the_number_of_queries_does_not_grow_with_the_markets() -> None:
    def asked() -> int:
        with CaptureQueriesContext(connection) as queries:
            gather_facts(NOW)
        return len([query for query in queries if "SAVEPOINT" not in query["sql"]])

    SessionDay.objects.create(calendar_key="CME Globex Equity", day=NOW.date(), hours="00:00-24:00")
    the_robot()
    a_held_lease("ES")
    few = asked()
    for market in ("NQ", "CL", "GC", "ZB", "NG", "6E"):
        the_robot(market=market)
        a_held_lease(market)

    assert asked() == few
