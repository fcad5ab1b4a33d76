"""Identity over HTTP: thin doors to the services.

`identity_urls(tenure_facts)` gives the addresses, to be included under `api/`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar

from django.db import models, transaction
from django.db.models import QuerySet
from django.urls import URLPattern, re_path
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import exceptions
from rest_framework.generics import ListAPIView
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer, Serializer
from rest_framework.views import APIView

from identity import strictjson
from identity.admission import Place
from identity.batch import Rejected
from identity.facts import TenureFacts
from identity.ingest import ingest_posted
from identity.models import IdentityEvent, Violation
from identity.registry import load_registry
from identity.robotlog import is_blank
from identity.serializers import (
    EventFilter,
    EventRow,
    IngestAnswer,
    ResolvedAnswer,
    SymbolQuery,
    ViolationFilter,
    ViolationRow,
)

MAX_EVENTS = 1000
MAX_BODY_BYTES = 5 * 1024 * 1024
ROBOT, READER = "robot", "reader"


class BodyTooLarge(exceptions.APIException):
    status_code = 413
    default_code = "BODY_TOO_LARGE"
    default_detail = f"Events are posted in bodies of at most {MAX_BODY_BYTES} bytes; send fewer."


class TooManyEvents(exceptions.APIException):
    status_code = 413
    default_code = "TOO_MANY_EVENTS"
    default_detail = f"At most {MAX_EVENTS} events are posted at once; send them in parts."


class EventsParser(BaseParser):
    """A body of events -> a list of parsed values, or of bytes of a line each."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        raw = stream.read(MAX_BODY_BYTES + 1)
        if len(raw) > MAX_BODY_BYTES:
            raise BodyTooLarge
        lines = self.split(raw)
        if len(lines) > MAX_EVENTS:
            raise TooManyEvents
        return lines

    def split(self, raw: bytes) -> list[Any]:
        raise NotImplementedError


class JSONEvents(EventsParser):
    media_type = "application/json"

    def split(self, raw: bytes) -> list[Any]:
        try:
            return strictjson.loads_each(raw.decode("utf-8-sig").strip())
        except (strictjson.NotReadable, UnicodeDecodeError) as error:
            raise exceptions.ParseError(
                f"The body is neither an event nor a list of them. {error} "
                "Events one a line are application/x-ndjson."
            ) from None


class NDJSONEvents(EventsParser):
    media_type = "application/x-ndjson"

    def split(self, raw: bytes) -> list[Any]:
        return [line for line in raw.split(b"\n") if not is_blank(line)]


class Pages(CursorPagination):
    """`{"next", "previous", "results"}`, newest first."""

    ordering = "-id"
    page_size = 100
    page_size_query_param = "page_size"
    max_page_size = 1000

    def decode_cursor(self, request: Request) -> Cursor | None:
        cursor = super().decode_cursor(request)
        if cursor is not None and cursor.position is not None:
            position = str(cursor.position)
            if not (position.isascii() and position.isdigit() and len(position) < 19):
                raise exceptions.NotFound("Invalid cursor")
        return cursor


class IdentityList(ListAPIView[Any]):
    """Rows of one table, narrowed by the parameters that `filter_class` knows."""

    required_role: ClassVar[dict[str, str]] = {"GET": READER}
    pagination_class = Pages
    filter_class: type[Serializer[Any]]

    def get_queryset(self) -> QuerySet[models.Model]:
        wanted = self.filter_class(data=self.request.query_params.dict())
        wanted.is_valid(raise_exception=True)
        given = wanted.validated_data
        lookups = {
            str(field.source): given[field.source]
            for field in wanted.fields.values()
            if field.source in given
        }
        if "open" in lookups:
            lookups["ended_at__isnull"] = lookups.pop("open")
        return super().get_queryset().filter(**lookups)


class EventsView(IdentityList):
    required_role: ClassVar[dict[str, str]] = {"GET": READER, "POST": ROBOT}
    parser_classes = [JSONEvents, NDJSONEvents]
    reports = True
    queryset = IdentityEvent.objects.all()
    serializer_class: type[BaseSerializer[Any]] = EventRow
    filter_class = EventFilter
    tenure_facts: TenureFacts | None = None

    @extend_schema(parameters=[EventFilter])
    def get(self, request: Request, *args: Any, **options: Any) -> Response:
        return super().get(request, *args, **options)

    @extend_schema(request=OpenApiTypes.OBJECT, responses=IngestAnswer)
    def post(self, request: Request) -> Response:
        lines = request.data
        if not isinstance(lines, list):
            raise exceptions.ParseError("The body is empty; send an event, a list, or NDJSON.")
        sender: Any = request.auth
        place = Place(log=f"{sender.name} ({sender.prefix})")
        outcome = ingest_posted(lines, place, timezone.now(), self.tenure_facts)
        return Response(
            {
                "accepted": outcome.accepted,
                "duplicates": outcome.duplicates,
                "rejected": [_rejected(one) for one in outcome.rejected],
                "warnings": [_rejected(one) for one in outcome.warnings],
            }
        )


class ViolationsView(IdentityList):
    queryset = Violation.objects.all()
    serializer_class: type[BaseSerializer[Any]] = ViolationRow
    filter_class = ViolationFilter

    @extend_schema(parameters=[ViolationFilter])
    def get(self, request: Request, *args: Any, **options: Any) -> Response:
        return super().get(request, *args, **options)


class ResolveView(APIView):
    required_role: ClassVar[dict[str, str]] = {"GET": READER}

    @extend_schema(parameters=[SymbolQuery], responses=ResolvedAnswer)
    def get(self, request: Request) -> Response:
        query = SymbolQuery(data=request.query_params.dict())
        query.is_valid(raise_exception=True)
        return Response(asdict(load_registry().resolve(query.validated_data["symbol"])))


def identity_urls(tenure_facts: TenureFacts) -> list[URLPattern]:
    """Every address of identity, with and without a trailing slash.

    Ingest brings its own short transactions, so its view stays out of ATOMIC_REQUESTS.
    """
    events = transaction.non_atomic_requests(EventsView.as_view(tenure_facts=tenure_facts))
    return [
        re_path(r"^events/?$", events, name="events"),
        re_path(r"^identity/violations/?$", ViolationsView.as_view(), name="identity-violations"),
        re_path(r"^identity/resolve/?$", ResolveView.as_view(), name="identity-resolve"),
    ]


def _rejected(one: Rejected) -> dict[str, Any]:
    return {"index": one.index, "code": one.code, "detail": one.detail}
