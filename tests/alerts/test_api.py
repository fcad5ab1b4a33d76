"""Alerts over HTTP, and in the status that everybody polls."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from locks.models import KillSwitch
from tests.alerts.cast import breach, facts
from watchdog_project.alerts.models import Alert
from watchdog_project.alerts.services import look
from watchdog_project.api_keys import create_api_key
from watchdog_project.status import snapshot

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _switch() -> None:
    KillSwitch.objects.get_or_create(market="")


@pytest.fixture
def now() -> datetime:
    return timezone.now()


@pytest.fixture
def operator() -> APIClient:
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=f"Api-Key {create_api_key('chief', 'operator')}")
    return client


@pytest.fixture
def alert(now: datetime) -> Alert:
    look(facts(now, breaches=[breach()]))
    return Alert.objects.get()


def test_an_alert_is_listed_with_what_to_do(operator: APIClient, alert: Alert) -> None:
    body = operator.get("/api/alerts?open=true").json()

    (row,) = body["results"]
    assert (row["id"], row["kind"], row["market"]) == (alert.pk, "IDENTITY_VIOLATION", "ES")
    assert (row["severity"], row["state"], row["scope"]) == ("critical", "firing", "")
    assert row["runbook"] == "docs/runbook.md#identity_violation"
    assert "explain" in row["what_to_do"]
    assert set(body) == {"next", "previous", "results"}


def test_alerts_are_narrowed_by_what_is_asked(operator: APIClient, now: datetime) -> None:
    look(facts(now, breaches=[breach("ES"), breach("NQ")]))
    look(facts(now + timedelta(seconds=5), breaches=[breach("NQ")]))

    def markets(query: str) -> set[str]:
        answer = operator.get(f"/api/alerts?{query}")
        assert answer.status_code == 200, answer.content
        return {row["market"] for row in answer.json()["results"]}

    assert markets("") == {"ES", "NQ"}
    assert markets("open=true") == {"NQ"}
    assert markets("open=false") == {"ES"}
    assert markets("market=ES") == {"ES"}
    assert markets("state=resolved&severity=critical&kind=IDENTITY_VIOLATION") == {"ES"}
    assert operator.get("/api/alerts?state=odd").status_code == 400


def test_an_operator_acknowledges_with_a_reason(operator: APIClient, alert: Alert) -> None:
    address = f"/api/alerts/{alert.pk}/acknowledge"

    assert operator.post(address, {}).status_code == 400
    answer = operator.post(address, {"reason": "on it"})

    assert answer.status_code == 200
    assert answer.json()["state"] == "acknowledged"
    assert (answer.json()["handled_by"], answer.json()["handled_reason"]) == ("chief", "on it")


def test_an_operator_snoozes_until_a_time_of_a_zone(operator: APIClient, alert: Alert) -> None:
    until = (timezone.now() + timedelta(hours=2)).replace(microsecond=0)

    answer = operator.post(f"/api/alerts/{alert.pk}/snooze/", {"until": until.isoformat()})

    assert answer.status_code == 200, answer.content
    assert answer.json()["state"] == "snoozed"
    alert.refresh_from_db()
    assert alert.snoozed_until == until


@pytest.mark.parametrize(
    ("until", "code", "why"),
    [
        ("2026-03-02T16:00:00", "END_UNREADABLE", "with its zone"),
        ("2026-03-02T16:00:00 America/Atlantis", "END_UNREADABLE", "with its zone"),
        ("soon", "END_UNREADABLE", "with its zone"),
        (17, "END_UNREADABLE", "with its zone"),
        ("0001-01-01T00:00:00+23:00", "END_UNREADABLE", "with its zone"),
        ("2020-01-01T00:00:00Z", "END_NOT_AHEAD", "lies ahead"),
        ("2999-01-01T00:00:00Z", "END_TOO_FAR", "within 30 days"),
    ],
)
def test_a_snooze_until_no_such_time_is_refused_with_the_reason(
    operator: APIClient, alert: Alert, until: Any, code: str, why: str
) -> None:
    answer = operator.post(f"/api/alerts/{alert.pk}/snooze", {"until": until})

    assert answer.status_code == 422, answer.content
    assert answer.json()["code"] == code
    assert why in answer.json()["detail"]
    alert.refresh_from_db()
    assert alert.state == "firing"


@pytest.mark.parametrize("number", ["4711", "9999999999999999999"])
def test_an_alert_that_is_not_there_is_a_404_that_says_so(operator: APIClient, number: str) -> None:
    answer = operator.post(f"/api/alerts/{number}/acknowledge", {"reason": "on it"})

    assert (answer.status_code, answer.json()["code"]) == (404, "NO_SUCH_ALERT")


def test_what_is_resolved_cannot_be_acknowledged(
    operator: APIClient, alert: Alert, now: datetime
) -> None:
    look(facts(now + timedelta(seconds=5)))

    answer = operator.post(f"/api/alerts/{alert.pk}/acknowledge", {"reason": "on it"})

    assert (answer.status_code, answer.json()["code"]) == (409, "NOT_OPEN")


def test_the_status_lists_open_alerts_worst_first(now: datetime) -> None:
    look(facts(now, breaches=[breach("NQ"), breach("ES", "STALE_FENCING_TOKEN")]))

    told = snapshot(now)["alerts"]

    assert [(one["severity"], one["market"]) for one in told] == [
        ("emergency", "ES"),
        ("critical", "NQ"),
    ]
    assert [one["market"] for one in snapshot(now, "NQ")["alerts"]] == ["NQ"]


def test_an_alert_changes_the_statuss_tag(operator: APIClient, now: datetime) -> None:
    before = operator.get("/api/watchdog/status")
    look(facts(now, breaches=[breach()]))

    again = operator.get("/api/watchdog/status", headers={"If-None-Match": before["ETag"]})

    assert again.status_code == 200
    assert [one["kind"] for one in again.json()["alerts"]] == ["IDENTITY_VIOLATION"]
