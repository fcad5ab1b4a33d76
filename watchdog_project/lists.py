"""How every list of the API is narrowed and cut into pages: strictly, so that no typo shows all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import QuerySet
from rest_framework import exceptions
from rest_framework.filters import BaseFilterBackend
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request
from rest_framework.views import APIView

MAX_BIGINT = 2**63 - 1


class Pages(CursorPagination):
    """`{"next", "previous", "results"}`, newest first, `page_size` rows at most."""

    ordering = "-id"
    page_size = 100
    page_size_query_param = "page_size"
    max_page_size = 1000

    def get_page_size(self, request: Request) -> int:
        given = request.query_params.get("page_size")
        if given is None:
            return self.page_size
        if given.isascii() and given.isdigit() and 1 <= int(given[:9]) <= self.max_page_size:
            return int(given)
        raise exceptions.ValidationError(
            {"page_size": [f"A page has 1 to {self.max_page_size} rows."]}
        )

    def decode_cursor(self, request: Request) -> Cursor | None:
        cursor = super().decode_cursor(request)
        if cursor is not None and cursor.position is not None:
            position = str(cursor.position)
            digits = position.isascii() and position.isdigit() and len(position) < 20
            if not digits or int(position) > MAX_BIGINT:
                raise exceptions.NotFound("This cursor is not one that a page gave out.")
        return cursor

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        size = {"type": "integer", "minimum": 1, "maximum": self.max_page_size, "default": 100}
        return [
            {
                "name": "cursor",
                "in": "query",
                "description": "where a page begins, as `next` and `previous` of another one say",
                "schema": {"type": "string"},
            },
            {
                "name": "page_size",
                "in": "query",
                "description": "rows in a page at most",
                "schema": size,
            },
        ]


class StatedFilters(BaseFilterBackend):
    """Narrows by the parameters that the view's `filter_class`, a serializer, states.

    A field's source is the lookup. A parameter that is not stated is refused.
    """

    def filter_queryset(
        self, request: Request, queryset: QuerySet[Any], view: APIView
    ) -> QuerySet[Any]:
        wanted = view.filter_class(data=request.query_params.dict())  # type: ignore[attr-defined]
        refuse_unstated(request, {*wanted.fields, "cursor", "page_size"})
        wanted.is_valid(raise_exception=True)
        given = wanted.validated_data
        lookups = [str(field.source) for field in wanted.fields.values() if field.source in given]
        return queryset.filter(**{lookup: given[lookup] for lookup in lookups})


def refuse_unstated(request: Request, stated: Iterable[str]) -> None:
    """Raise a ValidationError for a query parameter that is not stated, or is given twice."""
    known = set(stated)
    for name, values in request.query_params.lists():
        if name not in known:
            # Its name as it was given could hold anything.
            raise exceptions.ValidationError(
                {"query": [f"There is a parameter unknown here; known: {_listed(known)}."]}
            )
        if len(values) > 1:
            raise exceptions.ValidationError({name: ["It is given more than once."]})


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"
