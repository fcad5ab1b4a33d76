"""The market sessions: what the calendar says, and where an operator knows better."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.widgets import UnfoldAdminSelectWidget

from watchdog_project.authentication import OPERATE
from watchdog_project.market_hours import HoursRefused, format_hours, parse_hours
from watchdog_project.models import SessionDay
from watchdog_project.sessions import correct_day, written_until


class Days(admin.SimpleListFilter):
    """What lies ahead, unless something else is asked for."""

    title = "days"
    parameter_name = "days"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("all", "All"), ("corrected", "Corrected")]

    def choices(self, changelist: Any) -> Any:
        yield {
            "selected": self.value() is None,
            "query_string": changelist.get_query_string(remove=["days"]),
            "display": "Today and later",
        }
        yield from list(super().choices(changelist))[1:]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[SessionDay]
    ) -> QuerySet[SessionDay]:
        if self.value() == "all":
            return queryset
        if self.value() == "corrected":
            return queryset.exclude(corrected_hours="")
        return queryset.filter(day__gte=timezone.localdate())


class SessionDayForm(forms.ModelForm):  # type: ignore[type-arg]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "calendar_key" in self.fields:
            keys = sorted(written_until())
            self.fields["calendar_key"] = forms.ChoiceField(
                choices=[(key, key) for key in keys],
                widget=UnfoldAdminSelectWidget,
                help_text="the calendars that the registry's markets name",
            )
        if "reason" in self.fields:
            self.fields["reason"].widget.attrs["rows"] = 3

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        day = self.instance.day or cleaned.get("day")
        hours = str(cleaned.get("corrected_hours") or "")
        if day and hours.strip():
            try:
                cleaned["corrected_hours"] = format_hours(parse_hours(hours, day))
            except HoursRefused as reason:
                self.add_error("corrected_hours", str(reason))
        elif not self.instance.pk:
            self.add_error("corrected_hours", "Give the hours of this day, or: closed.")
        if not str(cleaned.get("reason") or "").strip():
            self.add_error("reason", "Say why, and where the exchange announces it.")
        return cleaned


@admin.register(SessionDay)
class SessionDayAdmin(ModelAdmin):
    form = SessionDayForm
    actions = None
    list_display = ("shown_day", "calendar_key", "shown_hours", "source", "corrected_by")
    list_filter = (Days, "calendar_key")
    search_fields = ("calendar_key", "reason")
    ordering = ("day", "calendar_key")
    readonly_fields = ("hours", "written_at", "corrected_by", "corrected_at")
    fieldsets = (
        (None, {"fields": (("calendar_key", "day"), ("hours", "written_at"))}),
        (
            "Correction",
            {"fields": ("corrected_hours", "reason", ("corrected_by", "corrected_at"))},
        ),
    )

    def get_readonly_fields(
        self, request: HttpRequest, obj: Model | None = None
    ) -> tuple[str, ...]:
        return (*self.readonly_fields, *(("calendar_key", "day") if obj else ()))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(OPERATE) or super().has_add_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return request.user.has_perm(OPERATE) or super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        # A day that is gone would not be known; a correction is withdrawn by emptying it.
        return False

    def save_model(self, request: HttpRequest, obj: SessionDay, form: Any, change: bool) -> None:
        row = correct_day(
            obj.calendar_key,
            obj.day,
            obj.corrected_hours,
            by=request.user.get_username(),
            reason=obj.reason,
            now=timezone.now(),
        )
        obj.pk = row.pk

    @display(description="Day", ordering="day")
    def shown_day(self, row: SessionDay) -> str:
        return f"{row.day:%a %Y-%m-%d}"

    @display(description="Open, Chicago time")
    def shown_hours(self, row: SessionDay) -> str:
        return row.corrected_hours or row.hours or "not known"

    @display(description="Source", label={"corrected": "warning", "calendar": ""})
    def source(self, row: SessionDay) -> str:
        return "corrected" if row.corrected_hours else "calendar"
