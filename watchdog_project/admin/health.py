"""Whether the periodic work is alive, and who changed what in the admin."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.db.models import Model
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.decorators import display

from watchdog_project.models import TaskHeartbeat


class ReadOnlyAdmin(ModelAdmin):
    list_fullwidth = True
    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(TaskHeartbeat)
class TaskHeartbeatAdmin(ReadOnlyAdmin):
    list_display = ("task", "interval", "started_at", "finished_at", "shown_health")
    ordering = ("task",)
    fieldsets = (
        (None, {"fields": (("task", "interval"), ("started_at", "finished_at"), "error")}),
    )

    @display(description="Last run", label={"failed": "danger", "done": "success", "never ran": ""})
    def shown_health(self, heartbeat: TaskHeartbeat) -> str:
        if heartbeat.error:
            return "failed"
        return "done" if heartbeat.finished_at else "never ran"


@admin.register(LogEntry)
class LogEntryAdmin(ReadOnlyAdmin):
    list_display = ("action_time", "user", "shown_action", "content_type", "object_repr", "message")
    list_filter = ("action_flag", "content_type", "user")
    list_select_related = ("user", "content_type")
    search_fields = ("object_repr", "change_message", "user__username")
    date_hierarchy = "action_time"
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("action_time", "user"),
                    ("shown_action", "content_type"),
                    ("object_repr", "object_id"),
                    "message",
                )
            },
        ),
    )
    readonly_fields = ("shown_action", "message")

    @display(description="Action", ordering="action_flag")
    def shown_action(self, entry: LogEntry) -> str:
        return entry.get_action_flag_display()

    @display(description="What changed")
    def message(self, entry: LogEntry) -> str:
        return entry.get_change_message() or "-"
