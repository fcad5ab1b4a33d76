"""What a caller sees when a request never reached a view, or the view failed.

Programs get a problem, people get Django's own page.
"""

from __future__ import annotations

from http import HTTPStatus

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views import defaults

from watchdog_project.problems import NOTHING_HERE, SERVER_ERROR, plain_problem

FOR_PROGRAMS = ("/api", "/healthz", "/readyz", "/metrics")


def _for_programs(request: HttpRequest) -> bool:
    return request.path.startswith(FOR_PROGRAMS)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if _for_programs(request):
        detail = "The request itself is not acceptable: its host, its headers or its size."
        return plain_problem("BAD_REQUEST", HTTPStatus.BAD_REQUEST, detail)
    return defaults.bad_request(request, exception)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if _for_programs(request):
        return plain_problem("FORBIDDEN", HTTPStatus.FORBIDDEN, "This is not allowed.")
    return defaults.permission_denied(request, exception)


def locked_out(
    request: HttpRequest, original_response: HttpResponse | None, credentials: object
) -> HttpResponse:
    """After too many wrong passwords; who has the right one waits as well."""
    seconds = int(settings.AXES_COOLOFF_TIME.total_seconds())
    answer = render(request, "429.html", {"minutes": seconds // 60}, status=429)
    answer["Retry-After"] = str(seconds)
    return answer


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if _for_programs(request):
        return plain_problem("NOT_FOUND", HTTPStatus.NOT_FOUND, NOTHING_HERE)
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse | HttpResponseBase:
    if _for_programs(request):
        return plain_problem("INTERNAL_ERROR", HTTPStatus.INTERNAL_SERVER_ERROR, SERVER_ERROR)
    return defaults.server_error(request)
