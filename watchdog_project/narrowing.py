"""What a list offers to narrow it, found at a cost that does not grow with the list."""

from __future__ import annotations

from copy import copy
from datetime import date, datetime
from typing import Any

from django.contrib.admin import AllValuesFieldListFilter, RelatedFieldListFilter
from django.contrib.admin.templatetags.admin_list import date_hierarchy
from django.contrib.admin.views.main import ChangeList
from django.db.models import CharField, Field, GenericIPAddressField, QuerySet, TextField
from django.utils import timezone

LOOKED_AT = 5_000


class RecentValues(AllValuesFieldListFilter):
    """Offers what stands in the newest rows, and what is chosen; any other value is searched for.

    The library's own reads every row of the table for its values, each time the list is opened.
    """

    def __init__(
        self,
        field: Field[Any, Any],
        request: Any,
        params: dict[str, Any],
        model: Any,
        model_admin: Any,
        field_path: str,
    ) -> None:
        super().__init__(field, request, params, model, model_admin, field_path)
        newest = _newest(model_admin.get_queryset(request))
        found = set(newest.values_list(field_path, flat=True).distinct())
        found.update(self.lookup_val or ())
        self.lookup_choices: Any = sorted(found, key=lambda value: (value is None, value))


class RecentRelated(RelatedFieldListFilter):
    """Offers what the newest rows belong to; the library's own offers all that there is."""

    def field_choices(self, field: Any, request: Any, model_admin: Any) -> Any:
        newest = _newest(model_admin.get_queryset(request))
        return field.get_choices(
            include_blank=False,
            limit_choices_to={"pk__in": newest.values(f"{self.field_path}__pk")},
            ordering=self.field_admin_ordering(field, request, model_admin),
        )


def _newest(rows: QuerySet[Any]) -> QuerySet[Any]:
    plain = rows.order_by()
    return plain.filter(pk__in=plain.order_by("-pk").values("pk")[:LOOKED_AT])


def is_free_text(field: Field[Any, Any]) -> bool:
    """Whether any value may stand in the field: those that do can only be looked up."""
    return isinstance(field, CharField | TextField | GenericIPAddressField) and not field.choices


def date_drill(changelist: ChangeList) -> dict[str, Any]:
    """The library's links to years, months and days, from the oldest to the newest row.

    Its own asks every row for its day. So a day without rows is offered as well, where rows stand
    before and after it.
    """
    field = changelist.date_hierarchy
    if not field:
        return {"show": False}
    narrowed: Any = copy(changelist)
    narrowed.queryset = _Ends(changelist.queryset, field)
    return date_hierarchy(narrowed) or {"show": False}


class _Ends:
    """Stands in for a list's rows, of which it looks at the first and the last."""

    def __init__(self, rows: QuerySet[Any], field: str) -> None:
        times = rows.filter(**{f"{field}__isnull": False}).values_list(field, flat=True)
        self.first: datetime | None = times.order_by(field).first()
        self.last: datetime | None = times.order_by(f"-{field}").first()

    def aggregate(self, **_: Any) -> dict[str, datetime | None]:
        return {"first": self.first, "last": self.last}

    def datetimes(self, _field: str, kind: str) -> list[date]:
        if self.first is None or self.last is None:
            return []
        first, last = timezone.localdate(self.first), timezone.localdate(self.last)
        if kind == "year":
            return [date(year, 1, 1) for year in range(first.year, last.year + 1)]
        # Rows of several years are told by year, those of several months of one by month.
        if kind == "month":
            return [date(first.year, month, 1) for month in range(first.month, last.month + 1)]
        return [first.replace(day=day) for day in range(first.day, last.day + 1)]
