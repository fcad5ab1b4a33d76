"""Every address against everybody who could call it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, path
from pytest_django import Settings
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient
from rest_framework.views import APIView

from tests.watchdog.conftest import ClientOf, user_called
from tests.watchdog.test_admin_matrix import session_of
from watchdog_project.api_keys import create_api_key

pytestmark = pytest.mark.django_db

# Address by its name, method, and the least role that may.
DEMANDS = [
    ("lock-acquire", "POST", "/api/locks/acquire", "robot"),
    ("lock-renew", "POST", "/api/locks/renew", "robot"),
    ("lock-release", "POST", "/api/locks/release", "robot"),
    ("lock-verify", "POST", "/api/locks/verify", "robot"),
    ("lock-revoke", "POST", "/api/locks/revoke", "operator"),
    ("lock-tenures", "GET", "/api/locks/tenures", "reader"),
    ("lock-events", "GET", "/api/locks/events", "reader"),
    ("locks", "GET", "/api/locks", "reader"),
    ("kill-switch", "GET", "/api/kill-switch", "reader"),
    ("kill-switch", "POST", "/api/kill-switch", "operator"),
    ("events", "GET", "/api/events", "reader"),
    ("events", "POST", "/api/events", "robot"),
    ("identity-violations", "GET", "/api/identity/violations", "reader"),
    ("identity-resolve", "GET", "/api/identity/resolve", "reader"),
    ("watchdog-status", "GET", "/api/watchdog/status", "reader"),
    ("watchdog-badge", "GET", "/api/watchdog/badge.svg", "reader"),
    ("metrics", "GET", "/metrics", "reader"),
    ("alerts", "GET", "/api/alerts", "reader"),
    ("alert-acknowledge", "POST", "/api/alerts/1/acknowledge", "operator"),
    ("alert-snooze", "POST", "/api/alerts/1/snooze", "operator"),
    ("schema", "GET", "/api/schema", "reader"),
    ("docs", "GET", "/api/docs", "reader"),
]
OPEN_TO_ALL = {"healthz", "readyz"}
ROLES = {
    "reader": "reader",
    "robot": "robot",
    "operator": "operator",
    "staff": "reader",
    "trusted": "operator",
    "superuser": "operator",
    "group viewer": "reader",
    "group operator": "operator",
    "group administrator": "operator",
}
RANK = ["reader", "robot", "operator"]


@pytest.fixture(autouse=True)
def nothing_is_public(settings: Settings) -> None:
    settings.WATCHDOG_PUBLIC_STATUS = False


def call(client: Client, method: str, address: str) -> int:
    return int(client.generic(method, address, "{}", "application/json").status_code)


@pytest.mark.parametrize(("who", "role"), ROLES.items())
@pytest.mark.parametrize(("name", "method", "address", "demanded"), DEMANDS)
def test_a_role_may_do_what_is_demanded_of_it_and_no_more(
    client_of: ClientOf, who: str, role: str, name: str, method: str, address: str, demanded: str
) -> None:
    client = session_of(who.removeprefix("group ")) if who.startswith("group ") else client_of(who)

    status = call(client, method, address)

    if RANK.index(role) >= RANK.index(demanded):
        assert status in (200, 400)
    else:
        assert status == 403


@pytest.mark.parametrize("who", ["nobody", "revoked", "customer"])
@pytest.mark.parametrize(("name", "method", "address", "demanded"), DEMANDS)
def test_who_is_not_known_gets_nothing(
    client_of: ClientOf, who: str, name: str, method: str, address: str, demanded: str
) -> None:
    status = call(client_of(who), method, address)

    # A person who opens the docs without a session is shown the login.
    assert status == (302 if name == "docs" and who != "revoked" else 401)


def named_patterns(patterns: list[URLPattern | URLResolver], prefix: str = "") -> Iterator[str]:
    for pattern in patterns:
        address = prefix + str(pattern.pattern).lstrip("^")
        if isinstance(pattern, URLResolver):
            yield from named_patterns(pattern.url_patterns, address)
        elif address.startswith(("api", *OPEN_TO_ALL, "metrics")):
            yield str(pattern.name)


def test_no_address_of_the_api_is_left_out_of_the_table() -> None:
    found = set(named_patterns(get_resolver().url_patterns))

    assert found == {name for name, *_ in DEMANDS} | OPEN_TO_ALL


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"])
@pytest.mark.parametrize(("who", "status"), [("nobody", 401), ("robot", 405), ("operator", 405)])
def test_a_method_that_an_address_does_not_have_is_none_for_anybody(
    client_of: ClientOf, method: str, who: str, status: int
) -> None:
    assert call(client_of(who), method, "/api/locks/acquire") == status


class Forgetful(APIView):
    """Has a method that nobody wrote a demand for."""

    def post(self, request: Request) -> Response:
        return Response({})


urlpatterns = [path("api/forgetful", Forgetful.as_view())]


@pytest.mark.urls("tests.watchdog.test_authorisation")
@pytest.mark.parametrize(("who", "status"), [("robot", 403), ("operator", 200)])
def test_a_method_that_nobody_wrote_a_demand_for_is_for_operators(
    client_of: ClientOf, who: str, status: int
) -> None:
    assert call(client_of(who), "POST", "/api/forgetful") == status


def test_a_session_without_a_csrf_token_changes_nothing() -> None:
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(user_called("superuser"))

    answer = client.post("/api/kill-switch", {"engaged": True, "reason": "test"})

    assert answer.status_code == 403
    assert answer.json()["code"] == "FORBIDDEN"
    assert "CSRF" in answer.json()["detail"]


def test_a_key_needs_no_csrf_token() -> None:
    client = APIClient(enforce_csrf_checks=True)
    client.credentials(HTTP_AUTHORIZATION=f"Api-Key {create_api_key('desk', 'operator')}")

    answer = client.post("/api/kill-switch", {"engaged": True, "reason": "test"})

    assert answer.status_code == 200


def test_a_user_who_was_made_inactive_is_out_at_once() -> None:
    client = APIClient()
    user = user_called("superuser")
    client.force_login(user)
    user.is_active = False
    user.save()

    assert client.get("/api/locks").status_code == 401
