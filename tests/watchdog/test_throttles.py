"""How often one may ask: keys, wrong keys, and passwords; and that no robot loses a lease to it."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from axes.models import AccessAttempt, AccessLog
from django.contrib.auth.models import User
from django.test import Client, RequestFactory
from pytest_django import Settings
from rest_framework.test import APIClient

from tests.watchdog.conftest import ClientOf
from watchdog_project import throttles
from watchdog_project.addresses import client_address
from watchdog_project.api_keys import create_api_key
from watchdog_project.throttles import Budgets

pytestmark = pytest.mark.django_db

WRONG = f"Api-Key 0badc0de.{'x' * 43}"


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(throttles, "BUDGETS", Budgets(clock))
    return clock


@pytest.fixture
def slow(settings: Settings) -> None:
    """One request in a second, ten at once; two reports in a second, twenty at once."""
    settings.WATCHDOG_KEY_REQUESTS_PER_SECOND = 1.0
    settings.WATCHDOG_KEY_REPORTS_PER_SECOND = 2.0


@pytest.mark.usefixtures("slow")
def test_a_key_that_asks_too_often_is_told_when_to_ask_again(
    client_of: ClientOf, clock: Clock
) -> None:
    reader = client_of("reader")

    assert [reader.get("/api/locks").status_code for _ in range(11)] == [200] * 10 + [429]
    refused = reader.get("/api/kill-switch")

    assert refused.status_code == 429
    assert refused["Content-Type"] == "application/problem+json"
    assert refused.json()["code"] == "TOO_MANY_REQUESTS"
    assert refused["Retry-After"] == "1"
    clock.seconds += 1
    assert reader.get("/api/locks").status_code == 200
    assert client_of("robot").get("/api/locks").status_code == 200


@pytest.mark.usefixtures("slow", "instruments")
def test_a_robot_whose_key_has_spent_its_budget_renews_verifies_and_releases_all_the_same(
    client_of: ClientOf,
) -> None:
    robot = client_of("robot")
    mine: dict[str, Any] = {"run_id": "run-1", "nonce": "ab" * 16}
    asked = {"execution_instrument": "MES", "canonical_instrument": "ES", "host": "trader-1"}
    token = robot.post("/api/locks/acquire", asked | mine).json()["fencing_token"]
    for _ in range(30):
        robot.get("/api/locks")
    assert robot.get("/api/locks").status_code == 429

    held = {"name": "ES", "fencing_token": token}
    for _ in range(30):
        assert robot.post("/api/locks/renew", held | mine).status_code == 200
    assert robot.post("/api/locks/verify", held).status_code == 200
    assert robot.post("/api/locks/release", held | mine).status_code == 200


@pytest.mark.usefixtures("slow")
def test_reports_have_a_budget_of_their_own(client_of: ClientOf) -> None:
    robot = client_of("robot")
    for _ in range(11):
        robot.get("/api/events")

    assert robot.get("/api/events").status_code == 429
    told = [robot.post("/api/events", []).status_code for _ in range(21)]
    assert told == [200] * 20 + [429]


def test_wrong_keys_are_told_to_wait_and_good_ones_of_the_same_address_are_not(
    client_of: ClientOf, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    guesser, robot = APIClient(), client_of("robot")
    guesser.credentials(HTTP_AUTHORIZATION=WRONG)

    with caplog.at_level(logging.WARNING, "watchdog_project.authentication"):
        told = [guesser.get("/api/locks").status_code for _ in range(40)]

    assert told == [401] * 20 + [429] * 20
    assert robot.get("/api/locks").status_code == 200
    refused = guesser.get("/api/locks")
    assert refused["Retry-After"] == "6"
    assert len([r for r in caplog.records if r.name == "watchdog_project.authentication"]) == 20
    assert "0badc0de" not in caplog.text
    clock.seconds += 6
    assert guesser.get("/api/locks").status_code == 401


def test_the_callers_that_are_counted_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttles, "MOST_CALLERS", 100)
    budgets = Budgets(Clock())
    for number in range(1000):
        budgets.spend(f"caller {number}", 1, 1)

    assert len(budgets.left) <= 101


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "192.0.2.7", "198.51.100.1"),
        (1, "192.0.2.7", "192.0.2.7"),
        (1, "203.0.113.9, 192.0.2.7", "192.0.2.7"),
        (2, "203.0.113.9, 192.0.2.7, 10.0.0.1", "192.0.2.7"),
        (2, "192.0.2.7", "198.51.100.1"),
        (1, "", "198.51.100.1"),
        (1, "unknown", "198.51.100.1"),
        (1, "2001:DB8::1", "2001:db8::1"),
    ],
)
def test_an_address_that_is_forwarded_is_believed_of_trusted_proxies_only(
    settings: Settings, proxies: int, forwarded: str, address: str
) -> None:
    settings.WATCHDOG_TRUSTED_PROXIES = proxies
    request = RequestFactory().get("/", REMOTE_ADDR="198.51.100.1", HTTP_X_FORWARDED_FOR=forwarded)

    assert client_address(request) == address


def log_in(password: str, address: str = "192.0.2.7", name: str = "operator") -> Any:
    return Client().post(
        "/admin/login/?next=/admin/",
        {"username": name, "password": password},
        REMOTE_ADDR=address,
    )


def test_after_five_wrong_passwords_even_the_right_one_waits_from_that_address() -> None:
    User.objects.create_superuser("operator", password="right")

    told = [log_in("wrong").status_code for _ in range(6)]
    refused = log_in("right")

    assert told == [200] * 4 + [429] * 2
    assert refused.status_code == 429
    assert refused["Retry-After"] == "900"
    assert "15 minutes" in refused.content.decode()
    assert log_in("right", "198.51.100.9").status_code == 302


def test_a_right_password_begins_the_count_anew() -> None:
    User.objects.create_superuser("operator", password="right")

    for _ in range(3):
        assert [log_in("wrong").status_code for _ in range(4)] == [200] * 4
        assert log_in("right").status_code == 302


def test_who_logged_in_is_kept_and_no_password_with_it() -> None:
    User.objects.create_superuser("operator", password="right")
    log_in("a wrong pass")
    kept = str(AccessAttempt.objects.values())
    log_in("right")

    assert AccessLog.objects.get().username == "operator"
    assert "a wrong pass" not in kept
    assert "right" not in str(AccessLog.objects.values())


def test_a_key_in_the_address_opens_nothing_and_is_not_in_the_answer() -> None:
    key = create_api_key("robot", "robot")

    for name in ("api_key", "key", "authorization", "token"):
        answer = APIClient().get(f"/api/locks?{name}={key}")
        assert answer.status_code == 401
        assert key.partition(".")[2] not in answer.content.decode()
