"""Each request is named, counted, and told in a line of the log."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from rest_framework.exceptions import APIException

from watchdog_project import metrics
from watchdog_project.log_context import current_request_id, request_id

HEADER = "X-Request-Id"
ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{8,64}")
ASKED_BY = "_asked_by"
# Asked again and again by who is well; said only to who asks for every line.
ROUTINE = {"lock-renew", "lock-verify"}

logger = logging.getLogger(__name__)


class RequestLog:
    """Middleware, the outermost: names the request, counts it, and tells how it was answered."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get(HEADER, "")
        token = request_id.set(given if ACCEPTABLE.fullmatch(given) else uuid.uuid4().hex)
        began = time.perf_counter()
        try:
            answer = self.get_response(request)
            answer[HEADER] = current_request_id()
            took = time.perf_counter() - began
            route = request.resolver_match.view_name if request.resolver_match else "none"
            metrics.count_request(route, str(request.method), answer.status_code, took)
            _tell(request, answer, route, took)
            return answer
        finally:
            request_id.reset(token)


def tell_who(answer: HttpResponse, who: dict[str, str]) -> None:
    """Say whose request was answered, where no view of REST framework answered it."""
    setattr(answer, ASKED_BY, who)


def _tell(request: HttpRequest, answer: HttpResponse, route: str, took: float) -> None:
    routine = answer.status_code < 400 and (request.method == "GET" or route in ROUTINE)
    level = logging.DEBUG if routine else logging.INFO
    if not logger.isEnabledFor(level):
        return
    logger.log(
        level,
        "%s %s answered %s in %.0f ms",
        request.method,
        request.path,
        answer.status_code,
        took * 1000,
        extra={
            "route": route,
            "method": request.method,
            "status": answer.status_code,
            "duration_ms": round(took * 1000, 1),
            **_who(answer, route),
        },
    )


def _who(answer: HttpResponse, route: str) -> dict[str, str]:
    """Key and run of a lease request, as far as it came to that; the nonce is nobody's business."""
    known: dict[str, str] | None = getattr(answer, ASKED_BY, None)
    if known is not None:
        return known
    asked = getattr(answer, "renderer_context", {}).get("request")
    if asked is None:
        return {}
    who = {}
    prefix = getattr(asked.auth, "prefix", None)
    if prefix:
        who["key_prefix"] = prefix
    if route.startswith("lock-") and asked.method == "POST":
        try:
            run_id = asked.data.get("run_id")
        except (APIException, AttributeError):
            return who
        if isinstance(run_id, str):
            who["run_id"] = run_id[:128]
    return who
