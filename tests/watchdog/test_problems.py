"""Every refusal is one clear sentence with a stable code and the right status, on the wire."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import OperationalError, connection
from django.http import HttpRequest
from django.test import override_settings
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient
from rest_framework.views import APIView

from tests.watchdog.conftest import ClientOf

pytestmark = pytest.mark.django_db

SECRET = "a password that must not get out"


class FailingView(APIView):
    required_role = {"GET": "reader"}

    def get(self, request: Request) -> Response:
        password = SECRET
        raise RuntimeError(f"cannot log in with {password}")


def failing_page(request: HttpRequest) -> Any:
    raise RuntimeError(SECRET)


urlpatterns = [path("api/failing", FailingView.as_view()), path("page", failing_page)]
handler404 = "watchdog_project.error_pages.not_found"
handler500 = "watchdog_project.error_pages.server_error"


def assert_problem(answer: Any, status: int, code: str) -> str:
    """The answer is a whole problem; returns its sentence."""
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    body = answer.json()
    assert {"type", "title", "status", "code", "detail"} <= set(body)
    assert (body["status"], body["code"]) == (status, code)
    assert body["detail"].rstrip(".")
    return str(body["detail"])


def test_without_a_key_the_answer_says_how_to_send_one(client_of: ClientOf) -> None:
    answer = client_of("nobody").get("/api/locks")

    detail = assert_problem(answer, 401, "NOT_AUTHENTICATED")
    assert "Authorization: Api-Key" in detail
    assert answer["WWW-Authenticate"] == "Api-Key"


@pytest.mark.parametrize(
    "key",
    [
        "",
        "x",
        "0123abcd.",
        "0123abcd." + "a" * 43,
        "0123abcd." + "a" * 42 + "\x00",
        "kéy.ünknown",
        "\x00",
        "a" * 10_000,
        "' OR 1=1 --",
    ],
)
def test_a_key_that_is_wrong_is_told_to_be_so(db: None, key: str) -> None:
    client = APIClient(raise_request_exception=False)
    answer = client.get("/api/locks", HTTP_AUTHORIZATION=f"Api-Key {key}")

    assert_problem(answer, 401, "INVALID_API_KEY")
    assert answer["WWW-Authenticate"] == "Api-Key"


@pytest.mark.parametrize("header", ["Bearer abc", "Basic YTpi", "\xff\xfe", "Api-Keyx 1.2"])
def test_another_scheme_is_no_key_at_all(db: None, header: str) -> None:
    client = APIClient(raise_request_exception=False)
    answer = client.get("/api/locks", HTTP_AUTHORIZATION=header)

    assert_problem(answer, 401, "NOT_AUTHENTICATED")


def test_a_role_that_is_too_low_is_named(client_of: ClientOf) -> None:
    answer = client_of("reader").post("/api/locks/acquire", {})

    detail = assert_problem(answer, 403, "FORBIDDEN")
    assert "needs the role robot" in detail
    assert "has the role reader" in detail


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1,", b"\xff\xfe", b"NaN", b'{"a": Infinity}', b"[" * 20_000]
)
def test_a_malformed_body_is_refused(client_of: ClientOf, body: bytes) -> None:
    answer = client_of("robot").generic("POST", "/api/locks/acquire", body, "application/json")

    code = "INVALID_BODY" if body == b"" else "MALFORMED_BODY"
    assert_problem(answer, 400, code)


@pytest.mark.parametrize("body", [[], "text", 1, None, [{}]])
def test_a_body_of_another_shape_is_refused(client_of: ClientOf, body: Any) -> None:
    answer = client_of("robot").post("/api/locks/acquire", body, format="json")

    assert_problem(answer, 400, "INVALID_BODY")


def test_a_field_that_is_wrong_is_named(client_of: ClientOf) -> None:
    answer = client_of("robot").post("/api/locks/verify", {"name": "ES", "fencing_token": "42"})

    detail = assert_problem(answer, 400, "INVALID_BODY")
    assert detail.startswith("fencing_token: ")
    assert set(answer.json()["errors"]) == {"fencing_token"}


def test_a_body_of_another_type_is_refused(client_of: ClientOf) -> None:
    answer = client_of("robot").generic("POST", "/api/locks/acquire", b"a=1", "text/plain")

    assert_problem(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("address", ["/api/locks", "/api/docs", "/api/schema", "/healthz"])
def test_what_an_address_takes_is_told_by_the_schema_alone(
    client_of: ClientOf, address: str
) -> None:
    assert_problem(client_of("operator").options(address), 405, "METHOD_NOT_ALLOWED")


def test_a_method_that_an_address_does_not_have_is_refused(client_of: ClientOf) -> None:
    answer = client_of("operator").delete("/api/locks/acquire")

    assert_problem(answer, 405, "METHOD_NOT_ALLOWED")
    assert "POST" in answer["Allow"]


@pytest.mark.parametrize("address", ["/api/nothing", "/api/", "/api/locks/acquire/more", "/api"])
def test_an_address_that_is_not_there_is_a_problem_and_no_page(db: None, address: str) -> None:
    assert_problem(APIClient().get(address), 404, "NOT_FOUND")


def test_people_get_a_page_for_an_address_that_is_not_there(db: None) -> None:
    answer = APIClient().get("/nothing")

    assert answer.status_code == 404
    assert answer["Content-Type"].startswith("text/html")


@pytest.mark.parametrize(
    "accept", ["text/html", "application/problem+json", "application/xml", "nonsense", ""]
)
def test_json_is_answered_whatever_is_accepted(client_of: ClientOf, accept: str) -> None:
    answer = client_of("reader").get("/api/locks", HTTP_ACCEPT=accept)

    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/json"


@pytest.mark.parametrize("address", ["/api/schema", "/api/docs"])
def test_a_refusal_is_json_where_the_answer_would_be_something_else(
    client_of: ClientOf, address: str
) -> None:
    answer = client_of("revoked").get(address)

    assert_problem(answer, 401, "INVALID_API_KEY")


def test_a_form_that_the_schema_does_not_have_is_refused(client_of: ClientOf) -> None:
    answer = client_of("reader").get("/api/schema", HTTP_ACCEPT="text/html")

    assert_problem(answer, 406, "NOT_ACCEPTABLE")


def test_a_host_that_is_not_ours_is_refused_with_a_problem(db: None) -> None:
    answer = APIClient().get("/api/locks", HTTP_HOST="evil.example")

    assert_problem(answer, 400, "BAD_REQUEST")


@override_settings(ROOT_URLCONF="tests.watchdog.test_problems")
def test_a_server_error_of_the_api_is_a_problem_that_tells_nothing(
    client_of: ClientOf, caplog: pytest.LogCaptureFixture
) -> None:
    answer = client_of("reader").get("/api/failing")

    assert_problem(answer, 500, "INTERNAL_ERROR")
    assert SECRET not in answer.content.decode()
    assert "RuntimeError" not in answer.content.decode()
    assert "Internal Server Error: /api/failing" in caplog.text


@override_settings(ROOT_URLCONF="tests.watchdog.test_problems")
def test_a_server_error_of_a_page_tells_nothing_either(client_of: ClientOf) -> None:
    answer = client_of("superuser").get("/page")

    assert answer.status_code == 500
    assert SECRET not in answer.content.decode()
    assert "Traceback" not in answer.content.decode()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("address", "code"),
    [("/api/locks", "LOCK_AUTHORITY_UNAVAILABLE"), ("/api/schema", "DATABASE_UNAVAILABLE")],
)
def test_a_database_that_does_not_answer_is_a_503_and_no_500(
    client_of: ClientOf, monkeypatch: pytest.MonkeyPatch, address: str, code: str
) -> None:
    client = client_of("reader")

    def refuse(*_: object) -> None:
        raise OperationalError("connection to server at 10.0.0.7 refused")

    connection.close()
    with monkeypatch.context() as outage:
        outage.setattr(connection, "get_new_connection", refuse)
        answer = client.get(address)

    assert_problem(answer, 503, code)
    assert answer["Retry-After"] == "1"
    assert "10.0.0.7" not in answer.content.decode()
