"""Identity over HTTP: thin doors to the services.

`identity_urls(tenure_facts)` gives the addresses, to be included under `api/`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar

from django.db import transaction
from django.urls import URLPattern, re_path
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import exceptions
from rest_framework.generics import ListAPIView
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


class IdentityList(ListAPIView[Any]):
    """Rows of one table, narrowed by the parameters that `filter_class` knows."""

    required_role: ClassVar[dict[str, str]] = {"GET": READER}
    filter_class: type[Serializer[Any]]


class EventsView(IdentityList):
    """What robots said: log lines, feed lines and journals, as they are."""

    required_role: ClassVar[dict[str, str]] = {"GET": READER, "POST": ROBOT}
    parser_classes = [JSONEvents, NDJSONEvents]
    reports = True
    queryset = IdentityEvent.objects.all()
    serializer_class: type[BaseSerializer[Any]] = EventRow
    filter_class = EventFilter
    tenure_facts: TenureFacts | None = None

    @extend_schema(parameters=[EventFilter])
    def get(self, request: Request, *args: Any, **options: Any) -> Response:
        """Events of robots and the watchdog's own results, newest first."""
        return super().get(request, *args, **options)

    @extend_schema(request=OpenApiTypes.OBJECT, responses=IngestAnswer)
    def post(self, request: Request) -> Response:
        """Take in up to 1,000 events in 5 MiB, each once; a bad one costs only itself.

        `event_id`, where given, makes an event the same event again; without one its content does.
        """
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
        """Breaches of the rules of identity, open and ended, newest first."""
        return super().get(request, *args, **options)


class ResolveView(APIView):
    required_role: ClassVar[dict[str, str]] = {"GET": READER}

    @extend_schema(parameters=[SymbolQuery], responses=ResolvedAnswer)
    def get(self, request: Request) -> Response:
        """The product that a symbol names in any notation, and the market that it executes."""
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
