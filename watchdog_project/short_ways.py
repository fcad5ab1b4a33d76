"""Short ways for what is asked all day: no session, no forms' protection, no second query.

Each takes only what it knows at a glance: a key of a moment ago, a plain body, a tag of a moment
ago. All else goes the long way, through every middleware and the view, and is answered there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.http.request import UnreadablePostError
from django.urls import ResolverMatch, resolve

from locks.errors import LockRefused
from locks.leases import Holder
from locks.quick_renewal import MAX_BYTES, holder_at_a_glance
from locks.services import renew_lease
from watchdog_project.api_keys import Principal
from watchdog_project.authentication import answers_without_key
from watchdog_project.key_memory import MEMORY
from watchdog_project.models import Role
from watchdog_project.problems import plain_problem
from watchdog_project.request_log import tell_who
from watchdog_project.status_memory import STATUS
from watchdog_project.throttles import has_budget

KEYWORD = "Api-Key "


class ShortWays:
    """Middleware: answers at once what can be answered at a glance."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        way = WAYS.get(request.path_info)
        answer = way(request) if way is not None and _is_for_us(request) else None
        if answer is None:
            return self.get_response(request)
        request.resolver_match = _route(request.path_info)
        return answer


def renew(request: HttpRequest) -> HttpResponse | None:
    """A renewal by a robot whose key was good a moment ago."""
    principal = _who(request)
    if principal is None or not principal.may(Role.ROBOT):
        return None
    holder = _holder(request, principal)
    if holder is None:
        return None
    try:
        renewal = renew_lease(holder)
    except LockRefused as no:
        answer = plain_problem(no.code, no.status, no.detail, no.extra, no.retry_after)
    else:
        told = {
            "ttl": renewal.ttl,
            "fencing_token": renewal.fencing_token,
            "renewals": renewal.renewals,
            "kill_switch_active": renewal.kill_switch_active,
        }
        content = json.dumps(told, separators=(",", ":"))
        answer = HttpResponse(content, content_type="application/json")
    answer["Content-Length"] = str(len(answer.content))
    tell_who(answer, {"key_prefix": holder.key_prefix, "run_id": holder.run_id})
    return answer


def unchanged_status(request: HttpRequest) -> HttpResponse | None:
    """304 to who holds what was told a moment ago."""
    told = STATUS.recall(request.META.get("QUERY_STRING", ""))
    if request.method != "GET" or told is None:
        return None
    if request.META.get("HTTP_IF_NONE_MATCH") != told.tag:
        return None
    if not answers_without_key(request):
        principal = _who(request)
        if principal is None or not principal.may(Role.READER) or not has_budget(principal.prefix):
            return None
    return HttpResponseNotModified(
        headers={
            "ETag": told.tag,
            "Cache-Control": "no-cache",
            "Vary": "Authorization, Cookie",
        }
    )


WAYS: dict[str, Callable[[HttpRequest], HttpResponse | None]] = {
    f"/api/{path}{slash}": way
    for path, way in (("locks/renew", renew), ("watchdog/status", unchanged_status))
    for slash in ("", "/")
}


@cache
def _route(path: str) -> ResolverMatch:
    return resolve(path)


def _is_for_us(request: HttpRequest) -> bool:
    try:
        request.get_host()
    except DisallowedHost:
        return False
    return True


def _who(request: HttpRequest) -> Principal | None:
    given: str = request.META.get("HTTP_AUTHORIZATION", "")
    return MEMORY.recall(given.removeprefix(KEYWORD)) if given.startswith(KEYWORD) else None


def _holder(request: HttpRequest, principal: Principal) -> Holder | None:
    """Who renews; None where anything about the body wants a closer look."""
    length: str = request.META.get("CONTENT_LENGTH", "")
    if request.method != "POST" or request.META.get("CONTENT_TYPE") != "application/json":
        return None
    if not length.isdecimal() or int(length) > MAX_BYTES:
        return None
    try:
        return holder_at_a_glance(request.body, principal.prefix)
    except UnreadablePostError:
        return None
