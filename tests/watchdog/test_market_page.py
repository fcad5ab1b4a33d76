"""A market's own page: whatever is known of it, and what can be done there."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from identity.models import IdentityEvent, Violation, WatchedMarket
from locks.models import KillSwitch, LockRecord
from tests.watchdog import console_rows
from watchdog_project.alerts.models import Alert
from watchdog_project.market_page import market_url

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("operator"))
    return client


@pytest.fixture
def viewer() -> Client:
    client = Client()
    client.force_login(User.objects.create_user("viewer", is_staff=True))
    return client


def page(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200
    return answer.content.decode()


def test_it_tells_why_who_and_what_mends_it_and_offers_what_can_be_done(operator: Client) -> None:
    console_rows.everything()
    lock, violation = LockRecord.objects.get(), Violation.objects.get()

    shown = page(operator, market_url("ES"))

    assert "1 violation open, seen 1 time" in shown
    assert "<strong>MES</strong> on trader-1" in shown
    assert "held, token 7" in shown
    assert ">refused<" in shown
    assert console_rows.MESSAGE in shown
    assert 'class="wd-strip"' in shown
    assert "/admin/runbook/#event_identity_incomplete" in shown
    for act in (
        f"/admin/locks/lockrecord/{lock.pk}/revoke/",
        "/admin/locks/killswitch/engage/?market=ES",
        f"/admin/identity/watchedmarket/{WatchedMarket.objects.get().pk}/forget/",
        f"/admin/identity/violation/{violation.pk}/mend/",
    ):
        assert f'href="{act}"' in shown


def test_who_may_only_look_is_offered_nothing(viewer: Client) -> None:
    console_rows.everything()

    shown = page(viewer, market_url("ES"))

    for act in ("/revoke/", "/engage/", "/forget/", "/mend/", "/acknowledge/"):
        assert act not in shown


def test_a_stranger_is_sent_to_log_in() -> None:
    answer = Client().get(market_url("ES"))

    assert answer.status_code == 302
    assert "/admin/login/" in answer["Location"]


def test_a_market_that_nothing_is_known_of_has_a_page_that_says_so(operator: Client) -> None:
    shown = page(operator, market_url("ZZ"))

    assert "UNKNOWN" in shown
    assert "Nobody holds the lease" in shown


def test_what_belongs_to_no_market_has_a_page_too(operator: Client) -> None:
    violation = console_rows.a_violation("", now=console_rows.timezone.now())
    console_rows.a_watched_market("", passed=False, now=violation.opened_at)

    shown = page(operator, market_url(""))

    assert "(no market)" in shown
    assert violation.message in shown


def test_each_account_of_a_market_has_its_page_and_leads_to_the_others(operator: Client) -> None:
    now = console_rows.timezone.now()
    for scope in ("Sim 101", "Sim/102"):
        watched = console_rows.a_watched_market("ES", passed=True, now=now)
        watched.scope = scope
        watched.save()

    shown = page(operator, market_url("ES", "Sim/102"))
    worst = page(operator, market_url("ES"))

    assert "ES@Sim/102" in shown
    assert market_url("ES", "Sim/102") in worst or market_url("ES", "Sim 101") in worst


@pytest.mark.parametrize("chosen", ["24h", "7d", "30d", "forever", "<script>"])
def test_whatever_time_is_asked_for_there_is_one_shown(operator: Client, chosen: str) -> None:
    console_rows.everything()

    shown = page(operator, market_url("ES", range=chosen))

    assert shown.count('aria-current="true"') == 1
    assert "<script>forever" not in shown


def test_a_switch_that_is_engaged_can_be_released_here(operator: Client) -> None:
    console_rows.everything()
    switch = KillSwitch.objects.create(market="ES", engaged=True)

    shown = page(operator, market_url("ES"))

    assert f"/admin/locks/killswitch/{switch.pk}/release/" in shown
    assert "ORDERS STOPPED" in shown


def test_its_open_alerts_are_told_and_no_others(operator: Client) -> None:
    console_rows.everything()
    now = console_rows.timezone.now()
    for market in ("ES", "NQ"):
        Alert.objects.create(
            kind="DATA_STALLED",
            market=market,
            severity="warning",
            state="firing",
            summary=f"{market} has no data",
            since=now,
            opened_at=now,
        )

    shown = page(operator, market_url("ES"))

    assert "ES has no data" in shown
    assert "NQ has no data" not in shown


def test_its_queries_do_not_grow_with_what_happened(operator: Client) -> None:
    console_rows.everything()
    page(operator, market_url("ES"))
    with CaptureQueriesContext(connection) as before:
        page(operator, market_url("ES"))
    event = IdentityEvent.objects.get()
    for number in range(30):
        event.pk, event.identity_key = None, f"more-{number}"
        event.save()
    for number in range(5):
        violation = Violation.objects.order_by("pk")[0]
        violation.pk, violation.subject = None, f"EVENT_{number}"
        violation.ended_at = event.occurred_at
        violation.save()

    with CaptureQueriesContext(connection) as after:
        page(operator, market_url("ES"))

    assert len(after) <= len(before)


def test_the_runbook_is_a_page_with_an_anchor_for_each_code(operator: Client) -> None:
    shown = page(operator, "/admin/runbook/")

    assert 'id="stale_fencing_token"' in shown
    assert 'id="unknown"' in shown
    # What it links to is a section of its own, or nothing of this server.
    prose = shown[shown.index("wd-prose") :].partition("</article>")[0]
    assert not re.findall(r'href="(?!#|https?:)[^"]*"', prose)
