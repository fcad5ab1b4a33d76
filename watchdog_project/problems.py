"""Every refusal of the API as application/problem+json with a stable code."""

from __future__ import annotations

import json
import logging
import math
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpResponse
from rest_framework import exceptions
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.views import set_rollback

from canonical_guard.errors import GuardError
from locks.errors import LockRefused
from watchdog_project.alerts.errors import AlertRefused
from watchdog_project.log_context import current_request_id

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
# DRF's own codes are worded for serializers; these are the contract.
CODES: dict[type[Exception], str] = {
    exceptions.NotAuthenticated: "NOT_AUTHENTICATED",
    exceptions.PermissionDenied: "FORBIDDEN",
    exceptions.MethodNotAllowed: "METHOD_NOT_ALLOWED",
    exceptions.NotAcceptable: "NOT_ACCEPTABLE",
    exceptions.UnsupportedMediaType: "UNSUPPORTED_MEDIA_TYPE",
    exceptions.Throttled: "TOO_MANY_REQUESTS",
    exceptions.NotFound: "NOT_FOUND",
    exceptions.ParseError: "MALFORMED_BODY",
}
HOW_TO_AUTHENTICATE = (
    "This address needs an API key, sent as `Authorization: Api-Key <prefix>.<secret>`, "
    "or the admin's session."
)
NOTHING_HERE = "There is nothing at this address."
SERVER_ERROR = "The server failed at this request; it was logged, and nothing was granted."


class Problem(Response):
    """Always JSON, also where the view itself answers in YAML or HTML."""

    @property
    def rendered_content(self) -> Any:
        self["Content-Type"] = CONTENT_TYPE
        return JSONRenderer().render(self.data)


def problem_body(
    code: str, http_status: int, detail: str, extra: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The members of a problem; `extra` cannot replace the standard ones."""
    named = current_request_id()
    return {
        **(extra or {}),
        **({"request_id": named} if named else {}),
        "type": "about:blank",
        "title": code.replace("_", " ").capitalize(),
        "status": int(http_status),
        "code": code,
        "detail": detail,
    }


def problem(
    code: str,
    http_status: int,
    detail: str,
    extra: dict[str, Any] | None = None,
    retry_after: float | None = None,
) -> Response:
    """A problem+json answer; `retry_after` seconds are rounded up to whole ones in the header."""
    body = problem_body(code, http_status, detail, extra)
    return Problem(body, status=http_status, headers=_retry_header(retry_after))


def plain_problem(
    code: str,
    http_status: int,
    detail: str,
    extra: dict[str, Any] | None = None,
    retry_after: float | None = None,
) -> HttpResponse:
    """The same for what fails outside of a DRF view."""
    body = json.dumps(problem_body(code, http_status, detail, extra))
    return HttpResponse(
        body, status=http_status, content_type=CONTENT_TYPE, headers=_retry_header(retry_after)
    )


def _retry_header(retry_after: float | None) -> dict[str, str]:
    return {} if retry_after is None else {"Retry-After": str(max(0, math.ceil(retry_after)))}


def problem_response(exc: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler; what it does not know is a server error and is logged by Django."""
    answer = _translate(exc, str(context["request"].method))
    if answer is not None:
        set_rollback()
    return answer


def _translate(exc: Exception, method: str) -> Response | None:
    if isinstance(exc, LockRefused):
        return problem(exc.code, exc.status, exc.detail, exc.extra, exc.retry_after)
    if isinstance(exc, AlertRefused):
        return problem(exc.code, exc.status, exc.detail)
    if isinstance(exc, GuardError):
        return problem(exc.code, HTTPStatus.UNPROCESSABLE_ENTITY, str(exc))
    if isinstance(exc, (OperationalError, InterfaceError)):
        return _database_silent(exc)
    if isinstance(exc, Http404):
        return problem("NOT_FOUND", HTTPStatus.NOT_FOUND, NOTHING_HERE)
    if isinstance(exc, PermissionDenied):
        return problem("FORBIDDEN", HTTPStatus.FORBIDDEN, "This is not allowed.")
    if isinstance(exc, exceptions.ValidationError):
        detail = _first_message(exc.detail)
        code = "INVALID_QUERY" if method in ("GET", "HEAD") else "INVALID_BODY"
        return problem(code, exc.status_code, detail, {"errors": exc.get_full_details()})
    if isinstance(exc, exceptions.APIException):
        return _of_rest_framework(exc)
    return None


def _of_rest_framework(exc: exceptions.APIException) -> Response:
    given = str(getattr(exc.detail, "code", exc.default_code)).upper()
    code = next((code for kind, code in CODES.items() if isinstance(exc, kind)), given)
    detail = str(exc.detail)
    if isinstance(exc, exceptions.NotAuthenticated):
        detail = HOW_TO_AUTHENTICATE
    answer = problem(code, exc.status_code, detail, None, getattr(exc, "wait", None))
    challenge = getattr(exc, "auth_header", None)
    if challenge:
        answer["WWW-Authenticate"] = challenge
    return answer


def _database_silent(exc: Exception) -> Response:
    logger.error("The database did not answer a request.", exc_info=exc)
    return problem(
        "DATABASE_UNAVAILABLE",
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The database does not answer, so nothing was done; try again.",
        retry_after=1,
    )


def _first_message(detail: Any) -> str:
    if isinstance(detail, dict):
        field, inner = next(iter(detail.items()))
        message = _first_message(inner)
        return message if field == "non_field_errors" else f"{field}: {message}"
    if isinstance(detail, list):
        # Of a list of objects, the first that is wrong.
        return _first_message(next((item for item in detail if item), ""))
    return str(detail)
