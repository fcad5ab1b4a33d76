"""What a browser is told it may do with our answers."""

from __future__ import annotations

from http.cookies import Morsel
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from tests.watchdog.conftest import ClientOf

pytestmark = pytest.mark.django_db


def policy(answer: Any) -> dict[str, list[str]]:
    parts = [part.split() for part in answer["Content-Security-Policy"].split(";")]
    return {name: values for name, *values in parts}


@pytest.mark.parametrize("address", ["/admin/", "/admin/login/", "/nothing", "/static/nothing.js"])
def test_a_page_may_load_and_run_what_this_server_gives_and_nothing_else(address: str) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("operator"))

    answer = client.get(address)

    allowed = policy(answer)
    assert allowed["default-src"] == ["'none'"]
    assert allowed["script-src"] == ["'self'", "'unsafe-eval'"]
    assert allowed["base-uri"] == ["'none'"]
    assert allowed["frame-ancestors"] == ["'none'"]
    assert allowed["form-action"] == ["'self'"]
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Referrer-Policy"] == "same-origin"
    assert answer["Cross-Origin-Opener-Policy"] == "same-origin"


@pytest.mark.parametrize("address", ["/api/locks", "/api/nothing", "/api/schema", "/api/events"])
def test_an_answer_for_programs_may_load_nothing(client_of: ClientOf, address: str) -> None:
    answer = client_of("reader").get(address)

    assert policy(answer) == {"default-src": ["'none'"], "frame-ancestors": ["'none'"]}


def test_the_apis_page_evaluates_nothing(client_of: ClientOf) -> None:
    answer = client_of("reader").get("/api/docs")

    assert policy(answer)["script-src"] == ["'self'"]
    assert "<script>" not in answer.content.decode()


def test_a_session_begins_anew_at_log_in_and_its_cookie_is_for_this_site_alone() -> None:
    User.objects.create_superuser("operator", password="right")
    client = Client()
    session = client.session
    session["planted"] = "by somebody else"
    session.save()
    planted = session.session_key

    answer = client.post(
        "/admin/login/?next=/admin/", {"username": "operator", "password": "right"}
    )

    assert answer.status_code == 302
    cookie: Morsel[str] = answer.cookies["sessionid"]
    assert cookie.value != planted
    assert (cookie["httponly"], cookie["samesite"]) == (True, "Lax")


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "\t//e.x",
    ],
)
def test_a_log_in_leads_nowhere_else(elsewhere: str) -> None:
    User.objects.create_superuser("operator", password="right")

    answer = Client().post(
        "/admin/login/", {"username": "operator", "password": "right", "next": elsewhere}
    )

    assert answer.status_code == 302
    assert answer["Location"] == "/admin/"


@pytest.mark.parametrize(
    "address", ["//evil.example/..%2f/api/docs", "/api/docs?next=//evil.example"]
)
def test_who_is_sent_to_the_log_in_comes_back_here(settings: Settings, address: str) -> None:
    answer = Client().get(address)

    if answer.status_code == 302:
        assert answer["Location"].startswith("/admin/login/?next=/api/docs")
    else:
        assert answer.status_code == 404
