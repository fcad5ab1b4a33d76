"""What looks at both apps, over HTTP: status and badge, health, and the API's own description."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.cache import get_conditional_response, patch_cache_control, patch_vary_headers
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import AllowAny
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.encoders import JSONEncoder
from rest_framework.views import APIView

from canonical_guard.errors import UnknownInstrument
from watchdog_project.authentication import PublicOnLoopback, answers_without_key
from watchdog_project.badge_svg import badge_svg
from watchdog_project.lists import refuse_unstated
from watchdog_project.models import Role
from watchdog_project.problems import problem
from watchdog_project.schema import HealthAnswer, ReadyAnswer, StatusAnswer
from watchdog_project.status import market_named, readiness, snapshot
from watchdog_project.status_memory import STATUS

MARKET = OpenApiParameter("market", str, description="one market, in any notation; default: all")


class PublicOnLoopbackView(APIView):
    """Readers, and where the settings allow it anybody on this host who sends no key."""

    permission_classes = [PublicOnLoopback]
    required_role = {"GET": Role.READER}

    def get_authenticators(self) -> list[BaseAuthentication]:
        request = getattr(self, "request", None)
        # An outage of the database must not take the status with it.
        if request is not None and answers_without_key(request):
            return []
        return super().get_authenticators()

    def market_of(self, request: Request) -> str | None:
        refuse_unstated(request, ["market"])
        symbol = request.query_params.get("market")
        return None if symbol is None else market_named(symbol)

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, UnknownInstrument):
            return problem(exc.code, HTTPStatus.NOT_FOUND, str(exc))
        return super().handle_exception(exc)


class StatusView(PublicOnLoopbackView):
    """The worst of all watched markets, and each of them. An `ETag` makes polling cheap."""

    @extend_schema(parameters=[MARKET], responses=StatusAnswer)
    def get(self, request: Request) -> HttpResponseBase:
        market = self.market_of(request)
        told = STATUS.tell(request.META.get("QUERY_STRING", ""), lambda: _look(market))
        answer = HttpResponse(told.body, content_type=JSONRenderer.media_type)
        return _revalidated(request, answer, told.tag)


def _look(market: str | None) -> tuple[str, bytes]:
    """The status as it is now: its entity tag, and its body."""
    now = timezone.now()
    told = snapshot(now, market)
    return status_tag(told, now), JSONRenderer().render(told)


class BadgeView(PublicOnLoopbackView):
    """The status as a picture, for wikis and dashboards."""

    @extend_schema(
        parameters=[MARKET],
        responses={(200, "image/svg+xml"): OpenApiResponse(str)},
    )
    def get(self, request: Request) -> HttpResponseBase:
        now = timezone.now()
        market = self.market_of(request)
        told = snapshot(now, market)
        picture = badge_svg(told["status"], len(told["last_identity_violations"]), now, market)
        answer = HttpResponse(picture, content_type="image/svg+xml; charset=utf-8")
        # Opened by itself, a picture is a document of this site.
        answer["Content-Security-Policy"] = "default-src 'none'"
        return _revalidated(request, answer, f'"{_digest(picture)}"')


def _revalidated(request: Request, answer: HttpResponse, tag: str) -> HttpResponseBase:
    """The answer, or 304 to who holds it already; never served from a cache unasked."""
    answer["ETag"] = tag
    patch_cache_control(answer, no_cache=True)
    patch_vary_headers(answer, ["Authorization", "Cookie"])
    # The answer is not rendered yet where it is a Response; only its headers are looked at.
    return get_conditional_response(request._request, etag=tag, response=answer) or answer


def status_tag(told: dict[str, Any], now: datetime) -> str:
    """The entity tag of a snapshot: what it says, without what only says that time has passed.

    Left out are `snapshot_utc`, `timestamp_chicago`, `sweep.age_seconds`, and each lock's
    `expires_in` and `renewed_at`: they change with every poll and every renewal, while what they
    are good for shows itself in `overdue` and in the lock's `state`. So equal tags do not mean
    equal bytes, and the tag is a weak one. The minute is in it, so that no copy a client holds is
    older than that.
    """
    ticking = {"snapshot_utc", "timestamp_chicago"}
    said = {name: value for name, value in told.items() if name not in ticking}
    said["sweep"] = {**told["sweep"], "age_seconds": None}
    said["markets"] = [_without_ticking(row) for row in told["markets"]]
    said["minute"] = now.replace(second=0, microsecond=0)
    return f'W/"{_digest(json.dumps(said, cls=JSONEncoder, sort_keys=True))}"'


def _without_ticking(row: dict[str, Any]) -> dict[str, Any]:
    if row["lock"] is None:
        return row
    return {**row, "lock": {**row["lock"], "expires_in": None, "renewed_at": None}}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class HealthView(APIView):
    """The process answers; nothing else is looked at."""

    authentication_classes: Sequence[type[BaseAuthentication]] = []
    permission_classes = [AllowAny]

    @extend_schema(responses=HealthAnswer)
    def get(self, request: Request) -> Response:
        return Response({"status": "ok"}, headers={"Cache-Control": "no-store"})


class ReadyView(APIView):
    """Whether this process can do its work: 503 while its database does not answer.

    An overdue sweep is told but is no 503: a load balancer that took the lease authority away
    because a worker is dead would stop every robot.
    """

    authentication_classes: Sequence[type[BaseAuthentication]] = []
    permission_classes = [AllowAny]

    @extend_schema(responses={200: ReadyAnswer, 503: ReadyAnswer})
    def get(self, request: Request) -> Response:
        told = readiness(timezone.now())
        code = HTTPStatus.OK if told["ready"] else HTTPStatus.SERVICE_UNAVAILABLE
        return Response(told, status=code, headers={"Cache-Control": "no-store"})


class SchemaView(SpectacularAPIView):
    required_role = {"GET": Role.READER}


class DocsView(SpectacularSwaggerSplitView):
    """The API's pages; a person without a session is sent to the login first."""

    required_role = {"GET": Role.READER}

    def handle_exception(self, exc: Exception) -> Any:
        if isinstance(exc, exceptions.NotAuthenticated):
            return redirect_to_login(self.request.get_full_path())
        return super().handle_exception(exc)
