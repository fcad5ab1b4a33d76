"""A list of the console as CSV, filtered as it is shown, that no spreadsheet takes for formulas."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.contrib.admin.exceptions import NotRegistered
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import Field, Model
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse

OURS = ("locks", "identity", "watchdog", "admin")
MOST_ROWS = 100_000
ROWS_AT_ONCE = 2_000
# What a spreadsheet takes for the beginning of a formula, in either width.
FORMULAS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


class _Line:
    """A file for csv that hands back what is written to it."""

    def write(self, line: str) -> str:
        return line


def csv_url(changelist: ChangeList) -> str:
    """Where the list is found as CSV, filtered as it is; empty for other people's models."""
    meta = changelist.model._meta
    if meta.app_label not in OURS:
        return ""
    return reverse("csv", args=[meta.app_label, meta.model_name]) + changelist.get_query_string(
        remove=["p"]
    )


def export_csv(request: HttpRequest, app_label: str, model_name: str) -> HttpResponseBase:
    """The rows that the list of this address would show on all its pages, MOST_ROWS at most.

    Columns are the model's fields but for those that nobody may edit: secrets and their hashes.
    """
    try:
        model = apps.get_model(app_label, model_name)
        model_admin = admin.site.get_model_admin(model)
    except (LookupError, NotRegistered) as unknown:
        raise Http404 from unknown
    if app_label not in OURS:
        raise Http404
    if not model_admin.has_view_permission(request):
        raise PermissionDenied
    try:
        changelist = model_admin.get_changelist_instance(request)
    except IncorrectLookupParameters:
        return HttpResponse("There is no such filter.", status=400, content_type="text/plain")
    fields = [field for field in model._meta.concrete_fields if field.editable or field.primary_key]
    rows = changelist.queryset.select_related(None)[:MOST_ROWS]
    answer = StreamingHttpResponse(_lines(rows, fields), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{model_name}.csv"'
    return answer


def _lines(rows: Any, fields: list[Field[Any, Any]]) -> Iterator[str]:
    writer = csv.writer(_Line())
    yield writer.writerow([field.attname for field in fields])
    row: Model
    for row in rows.iterator(chunk_size=ROWS_AT_ONCE):
        yield writer.writerow([cell(getattr(row, field.attname)) for field in fields])


def cell(value: Any) -> Any:
    """A value as it stands in a file: times in UTC, JSON as text, and never a formula."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False)
    text = str(value)
    runs = text.lstrip().startswith(FORMULAS) or text.startswith(("\t", "\r", "\n"))
    return f"'{text}" if runs else text
