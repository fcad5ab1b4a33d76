"""The dashboard's order, what it says of executors, and what it costs."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from locks.models import LockRecord
from tests.watchdog import console_rows

pytestmark = pytest.mark.django_db

MOST_QUERIES = 15


@pytest.fixture
def operator() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("operator"))
    return client


def board(client: Client) -> str:
    answer = client.get("/admin/")
    assert answer.status_code == 200
    return answer.content.decode()


def rows(page: str) -> list[tuple[str, str]]:
    return re.findall(r'<tr data-key="([^"]+)" data-look="(\w+)"', page)


def test_an_empty_one_shows_first_steps_and_no_pass(operator: Client) -> None:
    page = board(operator)

    assert "First steps" in page
    assert "--server http://testserver" in page
    assert 'data-look="ok" data-key="tile-identity"' not in page


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


def test_its_queries_do_not_grow_with_the_markets(operator: Client) -> None:
    now = datetime.now(UTC)
    for number in range(40):
        console_rows.a_watched_market(f"M{number:02}", passed=True, now=now)

    with CaptureQueriesContext(connection) as queries:
        assert len(rows(board(operator))) == 40

    selects = [query["sql"] for query in queries if query["sql"].startswith("SELECT")]
    assert len(selects) <= MOST_QUERIES, selects
