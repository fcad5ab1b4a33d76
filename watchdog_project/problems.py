"""Every refusal of the API as application/problem+json with a stable code."""

from __future__ import annotations

import logging
import math
from typing import Any

from django.http import Http404
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.views import set_rollback

from canonical_guard.errors import GuardError
from locks.errors import LockRefused

logger = logging.getLogger(__name__)


def problem(
    code: str,
    http_status: int,
    detail: str,
    extra: dict[str, Any] | None = None,
    retry_after: float | None = None,
) -> Response:
    """A problem+json answer; `retry_after` seconds are rounded up to whole ones in the header."""
    headers = {}
    if retry_after is not None:
        headers["Retry-After"] = str(max(0, math.ceil(retry_after)))
    body = {
        "type": "about:blank",
        "title": code.replace("_", " ").capitalize(),
        "status": http_status,
        "code": code,
        "detail": detail,
        **(extra or {}),
    }
    return Response(
        body, status=http_status, headers=headers, content_type="application/problem+json"
    )


def problem_response(exc: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler; what it does not know is a server error and is logged by Django."""
    answer = _translate(exc)
    if answer is not None:
        set_rollback()
    return answer


def _translate(exc: Exception) -> Response | None:
    if isinstance(exc, LockRefused):
        return problem(exc.code, exc.status, exc.detail, exc.extra, exc.retry_after)
    if isinstance(exc, GuardError):
        return problem(exc.code, status.HTTP_422_UNPROCESSABLE_ENTITY, str(exc))
    if isinstance(exc, Http404):
        return problem("NOT_FOUND", 404, "There is nothing at this address.")
    if isinstance(exc, exceptions.ValidationError):
        return problem(
            "INVALID_BODY", 400, _first_message(exc.detail), {"errors": exc.get_full_details()}
        )
    if isinstance(exc, exceptions.ParseError):
        return problem("MALFORMED_BODY", 400, str(exc.detail))
    if isinstance(exc, exceptions.APIException):
        code = getattr(exc.detail, "code", exc.default_code).upper()
        answer = problem(code, exc.status_code, str(exc.detail), None, getattr(exc, "wait", None))
        if getattr(exc, "auth_header", None):
            answer["WWW-Authenticate"] = exc.auth_header  # type: ignore[attr-defined]
        return answer
    return None


def _first_message(detail: Any) -> str:
    if isinstance(detail, dict):
        field, inner = next(iter(detail.items()))
        return f"{field}: {_first_message(inner)}"
    if isinstance(detail, list):
        return _first_message(detail[0])
    return str(detail)
