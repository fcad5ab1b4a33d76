"""What operators do with alerts in the console, and what bad input is refused there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from identity.registry import seed_registry
from tests.alerts.receivers import Receiver
from tests.watchdog.console_rows import an_alert
from watchdog_project.alerts.channels import add_channel
from watchdog_project.alerts.kinds import Kind
from watchdog_project.alerts.models import (
    Alert,
    AlertRule,
    AlertStep,
    Channel,
    Delivery,
    MaintenanceWindow,
)
from watchdog_project.alerts.store import rules_in_force

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("chief"))
    return client


@pytest.fixture
def reader() -> Client:
    user = User.objects.create_user("reader", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def alert() -> Alert:
    return an_alert(timezone.now())


def page(client: Client, address: str, values: dict[str, Any] | None = None) -> str:
    url = f"/admin/watchdog/{address}"
    answer = client.get(url) if values is None else client.post(url, values, follow=True)
    return answer.content.decode()


def test_an_alert_is_acknowledged_with_a_reason_and_it_is_kept(
    operator: Client, alert: Alert
) -> None:
    address = f"alert/{alert.pk}/acknowledge/"
    assert "No message repeats it" in page(operator, address)
    assert "Say why" in page(operator, address, {"reason": " "})

    page(operator, address, {"reason": "I see to it"})

    alert.refresh_from_db()
    assert (alert.state, alert.handled_by) == ("acknowledged", "chief")
    assert AlertStep.objects.get(step="acknowledged").reason == "I see to it"
    assert "I see to it" in page(operator, f"alert/{alert.pk}/history/")


def test_an_alert_is_snoozed_for_a_while(operator: Client, alert: Alert) -> None:
    page(operator, f"alert/{alert.pk}/snooze/", {"reason": "lunch", "minutes": "15"})

    alert.refresh_from_db()
    assert alert.state == "snoozed"
    assert alert.snoozed_until is not None
    assert alert.snoozed_until - timezone.now() < timedelta(minutes=15, seconds=1)


def test_what_is_resolved_meanwhile_says_so(operator: Client, alert: Alert) -> None:
    Alert.objects.update(state="resolved", resolved_at=timezone.now())

    assert "resolved already" in page(
        operator, f"alert/{alert.pk}/acknowledge/", {"reason": "late"}
    )


def test_a_message_that_was_given_up_is_sent_again_on_an_operators_word(
    operator: Client, alert: Alert
) -> None:
    row = Delivery.objects.get()
    assert "A Connection error" in page(operator, f"delivery/{row.pk}/retry/")

    page(operator, f"delivery/{row.pk}/retry/", {"reason": "it is back"})

    row.refresh_from_db()
    assert (row.state, row.attempts) == ("waiting", 0)


def test_who_may_only_look_can_do_none_of_it(reader: Client, alert: Alert) -> None:
    row = Delivery.objects.get()
    for address in (
        f"alert/{alert.pk}/acknowledge/",
        f"alert/{alert.pk}/snooze/",
        f"delivery/{row.pk}/retry/",
        f"channel/{row.channel_id}/test/",
        f"maintenancewindow/{MaintenanceWindow.objects.get().pk}/end/",
        "channel/add/",
        "maintenancewindow/add/",
    ):
        answer = reader.post(f"/admin/watchdog/{address}", {"reason": "mine"})
        assert answer.status_code == 403, address


def test_a_channels_address_is_written_and_never_read(operator: Client, receiver: Receiver) -> None:
    form = {"name": "hook", "address": receiver.url, "least_severity": "warning", "enabled": "on"}
    page(operator, "channel/add/", form)
    channel = Channel.objects.get()
    sealed = channel.sealed_url

    shown = page(operator, f"channel/{channel.pk}/change/") + page(operator, "channel/")
    assert "s3cret" not in shown
    assert "JSON at 127.0.0.1" in shown

    page(operator, f"channel/{channel.pk}/change/", form | {"address": "", "name": "desk"})
    channel.refresh_from_db()
    assert (channel.name, channel.sealed_url) == ("desk", sealed)

    page(operator, f"channel/{channel.pk}/test/", {"reason": "try it"})
    assert len(receiver.got) == 1


@pytest.mark.parametrize(
    ("url", "why"),
    [("", "Say where messages go"), ("bogus://x", "No service is known"), ("x", "this is none")],
)
def test_a_wrong_address_is_refused_where_it_is_entered(
    operator: Client, url: str, why: str
) -> None:
    form = {"name": "hook", "address": url, "least_severity": "warning", "enabled": "on"}

    assert why in page(operator, "channel/add/", form)
    assert not Channel.objects.exists()


def test_a_test_that_fails_says_why(operator: Client) -> None:
    channel = add_channel("hook", "json://127.0.0.1:1/x", timezone.now())

    told = page(operator, f"channel/{channel.pk}/test/", {"reason": "try it"})

    assert "onnection error" in told


def a_rule(kind: Kind = Kind.IDENTITY_VIOLATION) -> AlertRule:
    return AlertRule.objects.get_or_create(kind=kind.value)[0]


def test_every_kind_has_a_rule_to_edit() -> None:
    assert set(AlertRule.objects.values_list("kind", flat=True)) == {kind.value for kind in Kind}


def test_a_rule_is_changed_and_emptied_again(operator: Client) -> None:
    row = a_rule()
    form = {"enabled": "on", "severity": "warning", "hold_seconds": "90", "market_hours_only": ""}

    page(operator, f"alertrule/{row.pk}/change/", form | {"renotify_seconds": "0"})
    rule = rules_in_force()[Kind.IDENTITY_VIOLATION]
    assert (rule.severity.value, rule.hold, rule.renotify) == (
        "warning",
        timedelta(seconds=90),
        timedelta(0),
    )
    assert "90 s" in page(operator, "alertrule/")

    emptied = {"enabled": "on", "severity": "", "hold_seconds": "", "renotify_seconds": ""}
    page(operator, f"alertrule/{row.pk}/change/", emptied)
    assert rules_in_force()[Kind.IDENTITY_VIOLATION].hold == timedelta(0)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"hold_seconds": "-1"}, "greater than or equal to 0"),
        ({"hold_seconds": "86401"}, "0 to 86400"),
        ({"renotify_seconds": "59"}, "60 to 604800"),
        ({"renotify_seconds": "604801"}, "60 to 604800"),
        ({"severity": "emergency", "hold_seconds": "301"}, "300 seconds at most"),
        ({"severity": "loud"}, "not one of the available"),
        ({"hold_seconds": "soon"}, "whole number"),
    ],
)
def test_a_rule_with_impossible_times_is_refused_with_the_reason(
    operator: Client, values: dict[str, str], why: str
) -> None:
    row = a_rule()

    told = page(operator, f"alertrule/{row.pk}/change/", {"enabled": "on", **values})

    assert why in told
    row.refresh_from_db()
    assert row.hold_seconds is None


WINDOW = {
    "market": "es",
    "timezone": "America/Chicago",
    "starts": "2036-03-08 16:00",
    "ends": "2036-03-09 16:00",
    "reason": "exchange tests",
}


def test_a_window_is_entered_by_the_clock_of_its_zone_through_a_change_of_it(
    operator: Client,
) -> None:
    seed_registry()

    page(operator, "maintenancewindow/add/", WINDOW)

    window = MaintenanceWindow.objects.get()
    assert (window.market, window.created_by) == ("ES", "chief")
    # Clocks are set forward in the night between.
    assert window.starts_at == datetime(2036, 3, 8, 22, 0, tzinfo=UTC)
    assert window.ends_at == datetime(2036, 3, 9, 21, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"timezone": "America/Atlantis"}, "There is no time zone"),
        ({"timezone": "../../etc/passwd"}, "There is no time zone"),
        ({"starts": "2036-03-09 02:30"}, "does not exist in America/Chicago"),
        ({"starts": "soon"}, "as 2026-03-07 16:00"),
        ({"starts": "2036-03-08T16:00Z"}, "as 2026-03-07 16:00"),
        ({"ends": "2036-03-08 15:00"}, "ends after it starts"),
        ({"starts": "2020-03-08 16:00", "ends": "2020-03-08 17:00"}, "over already"),
        ({"ends": "2036-05-08 15:00"}, "30 days at most"),
        ({"market": "MES"}, "no canonical market"),
        ({"reason": ""}, "This field is required"),
    ],
)
def test_a_window_that_cannot_be_is_refused_with_the_reason(
    operator: Client, values: dict[str, str], why: str
) -> None:
    seed_registry()

    assert why in page(operator, "maintenancewindow/add/", WINDOW | values)
    assert not MaintenanceWindow.objects.exists()


def test_a_window_ends_early_on_an_operators_word(operator: Client, alert: Alert) -> None:
    window = MaintenanceWindow.objects.get()

    page(operator, f"maintenancewindow/{window.pk}/end/", {"reason": "done"})

    window.refresh_from_db()
    assert window.ended_early_at is not None
    again = page(operator, f"maintenancewindow/{window.pk}/end/", {"reason": "done"})
    assert "over already" in again
