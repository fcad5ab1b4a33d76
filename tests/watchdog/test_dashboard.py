"""The dashboard's order, what it says of executors, and what it costs."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from identity.registry import seed_registry
from locks.models import LockRecord
from tests.watchdog import console_rows
from watchdog_project.alerts.models import Alert
from watchdog_project.dashboard import SHOWN_IN_FULL
from watchdog_project.heartbeat import SWEEP
from watchdog_project.models import TaskHeartbeat
from watchdog_project.sessions import write_sessions

pytestmark = pytest.mark.django_db

MOST_QUERIES = 13


@pytest.fixture
def operator() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("operator"))
    return client


def board(client: Client) -> str:
    answer = client.get("/admin/")
    assert answer.status_code == 200
    return answer.content.decode()


def a_sweep(now: datetime) -> None:
    TaskHeartbeat.objects.create(task=SWEEP, interval=60, finished_at=now)


def rows(page: str) -> list[tuple[str, str]]:
    return re.findall(r'<tr data-key="([^"]+)" data-look="(\w+)"', page)


def test_an_empty_one_shows_first_steps_and_no_pass(operator: Client) -> None:
    page = board(operator)

    assert "First steps" in page
    assert "--server http://testserver" in page
    assert "wd-headline" not in page


def test_the_worst_market_stands_first_and_among_equals_the_most_often_broken(
    operator: Client,
) -> None:
    now = datetime.now(UTC)
    console_rows.a_watched_market("CL", passed=True, now=now)
    console_rows.a_watched_market("GC", passed=None, now=now)
    console_rows.a_watched_market("RTY", passed=True, now=now - timedelta(hours=1))
    for market, count in (("ES", 1), ("NQ", 5)):
        console_rows.a_watched_market(market, passed=False, now=now)
        violation = console_rows.a_violation(market, now=now)
        violation.count = count
        violation.save()

    assert rows(board(operator)) == [
        ("NQ@", "violation"),
        ("ES@", "violation"),
        ("RTY@", "stale"),
        ("GC@", "unknown"),
        ("CL@", "ok"),
    ]


def test_it_says_whether_a_market_trades_and_where_that_is_not_known(operator: Client) -> None:
    now = datetime.now(UTC)
    console_rows.a_registry()
    console_rows.a_watched_market("ES", passed=True, now=now)
    assert "session not known" in board(operator)

    write_sessions(now, lambda key, first, last: {timezone.localdate(now): "00:00-24:00"})

    page = board(operator)
    assert "session not known" not in page
    assert ">open<" in page


def test_it_names_who_executes_with_his_token_and_who_was_refused(operator: Client) -> None:
    now = datetime.now(UTC)
    console_rows.a_watched_market("ES", passed=True, now=now)
    console_rows.a_held_lock("ES", now=now)

    page = board(operator)

    assert "<strong>MES</strong> on trader-1" in page
    assert "token 7" in page
    assert "1 refused in 24 h" in page


def test_a_lease_past_its_end_is_not_shown_as_running(operator: Client) -> None:
    now = datetime.now(UTC)
    console_rows.a_watched_market("ES", passed=True, now=now)
    console_rows.a_held_lock("ES", now=now - timedelta(minutes=5))
    assert LockRecord.objects.get().state == "HELD"

    assert "renewal overdue" in board(operator)


def headline(page: str) -> str:
    found = re.search(r'class="wd-headline"[^>]*data-look="(\w+)".*?<h2>(.*?)</h2>', page, re.S)
    assert found is not None
    return f"{found[1]}: {found[2]}"


def test_the_headline_says_what_is_wrong_where_since_when_and_what_to_do(operator: Client) -> None:
    now = datetime.now(UTC)
    a_sweep(now)
    console_rows.a_watched_market("CL", passed=True, now=now)
    console_rows.a_watched_market("ES", passed=False, now=now)
    console_rows.a_violation("ES", now=now)

    page = board(operator)

    assert headline(page) == "violation: ES breaks a rule of identity"
    told = page[page.index('class="wd-headline"') :].partition("</section>")[0]
    assert 'href="/admin/market/ES/"' in told
    assert console_rows.MESSAGE in told
    assert "/admin/runbook/#event_identity_incomplete" in told
    assert "Since " in told


@pytest.mark.parametrize(
    ("passed", "minutes_ago", "swept", "said"),
    [
        (True, 0, True, "ok: 1 market right, on fresh evidence"),
        (True, 30, True, "stale: ES fell silent: what is known of it is too old"),
        (None, 0, True, "unknown: ES has nothing to judge from yet"),
        (True, 0, False, "stale: Nobody is checking: the identity sweep is overdue"),
        (None, 0, False, "stale: Nobody is checking: the identity sweep is overdue"),
    ],
)
def test_the_headline_of_a_market(
    operator: Client, passed: bool | None, minutes_ago: int, swept: bool, said: str
) -> None:
    now = datetime.now(UTC)
    if swept:
        a_sweep(now)
    console_rows.a_watched_market("ES", passed=passed, now=now - timedelta(minutes=minutes_ago))

    assert headline(board(operator)) == said


def test_a_status_that_cannot_be_read_in_part_is_no_good_news(operator: Client) -> None:
    console_rows.a_watched_market("ES", passed=True, now=datetime.now(UTC))
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE locks_killswitch RENAME TO out_of_reach")

    assert headline(board(operator)) == "unknown: Parts of the status cannot be read"


def test_open_alerts_are_counted_and_the_worst_are_told(operator: Client) -> None:
    now = datetime.now(UTC)
    console_rows.a_watched_market("ES", passed=True, now=now)
    for kind, severity, state in (
        ("DATA_STALLED", "warning", "firing"),
        ("DUPLICATE_EXECUTOR", "emergency", "firing"),
        ("HOST_SILENT", "warning", "pending"),
    ):
        Alert.objects.create(
            kind=kind,
            market="ES",
            severity=severity,
            state=state,
            summary=f"what {kind} says",
            since=now,
            opened_at=now,
        )

    page = board(operator)

    assert page.index("what DUPLICATE_EXECUTOR says") < page.index("what DATA_STALLED says")
    assert "HOST_SILENT" not in page
    assert 'data-key="tile-alerts" data-look="violation"' in page


def test_of_very_many_markets_the_worst_are_told_and_the_others_named(operator: Client) -> None:
    now = datetime.now(UTC)
    for number in range(SHOWN_IN_FULL + 5):
        console_rows.a_watched_market(f"M{number:03}", passed=True, now=now)
    console_rows.a_watched_market("ZZZ", passed=False, now=now)
    console_rows.a_violation("ZZZ", now=now)

    page = board(operator)

    assert rows(page)[0] == ("ZZZ@", "violation")
    assert len(rows(page)) == SHOWN_IN_FULL
    assert 'href="/admin/market/M064/"' in page


def test_its_queries_do_not_grow_with_the_markets(operator: Client) -> None:
    now = datetime.now(UTC)
    seed_registry()
    write_sessions(now, lambda key, first, last: {now.date(): "08:30-15:00"})
    for market in ("ES", "NQ"):
        console_rows.a_watched_market(market, passed=True, now=now)
    for number in range(38):
        console_rows.a_watched_market(f"M{number:02}", passed=True, now=now)

    with CaptureQueriesContext(connection) as queries:
        assert len(rows(board(operator))) == 40

    selects = [query["sql"] for query in queries if "SELECT" in query["sql"]]
    assert len(selects) <= MOST_QUERIES, selects
