"""Who may execute, to look at: everything here is evidence, so nothing can be edited."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from unfold.admin import ModelAdmin
from unfold.decorators import display

from locks.models import KillSwitch, LockEvent, LockRecord, Tenure

STATE_COLOURS = {"HELD": "success", "FREE": "", "EXPIRED": "warning", "REVOKED": "danger"}
END_COLOURS = {
    "released": "success",
    "crashed": "danger",
    "expired": "warning",
    "revoked": "danger",
    "running": "info",
}
EVENT_COLOURS = {
    "CANONICAL_MARKET_LOCK_ACQUIRED": "success",
    "CANONICAL_MARKET_LOCK_RELEASED": "info",
    "CANONICAL_MARKET_ALREADY_ACTIVE": "danger",
    "CANONICAL_MARKET_LOCK_STALE": "warning",
    "CANONICAL_MARKET_LOCK_LOST": "danger",
    "CANONICAL_MARKET_LOCK_REVOKED": "danger",
    "CANONICAL_MARKET_LOCK_FAILED": "danger",
    "KILL_SWITCH_ACTIVE": "danger",
    "KILL_SWITCH_RELEASED": "info",
}


class EvidenceAdmin(ModelAdmin):
    """Rows that tell what happened: they can be read, and neither made, changed nor removed."""

    list_fullwidth = True
    list_per_page = 50
    show_full_result_count = False
    actions = None

    @display(description="Run", ordering="run_id")
    def shown_run(self, row: Any) -> str:
        """As much of the run's id as tells it apart in a list."""
        if len(row.run_id) <= 16:
            return row.run_id or "-"
        return format_html('<span class="wd-id" title="{}">{}…</span>', row.run_id, row.run_id[:12])

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


def link_to_list(model: str, text: str, **filters: str | int) -> str:
    """A link to another list of this app, narrowed to `filters`."""
    address = reverse(f"admin:locks_{model}_changelist")
    return format_html('<a href="{}?{}">{}</a>', address, urlencode(filters), text)


class LockRecordAdmin(EvidenceAdmin):
    list_display = (
        "shown_lock",
        "shown_state",
        "execution_instrument",
        "host",
        "shown_run",
        "fencing_token",
        "acquired_at",
        "expires_at",
    )
    list_filter = ("state", "kind", "host")
    search_fields = ("name", "scope", "run_id", "host", "execution_instrument", "account")
    ordering = ("name", "scope")
    readonly_fields = ("tenures_link", "events_link")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("kind", "name", "scope"),
                    ("state", "fencing_token"),
                    ("tenures_link", "events_link"),
                )
            },
        ),
        (
            "Holder",
            {
                "fields": (
                    ("run_id", "execution_instrument"),
                    ("host", "pid"),
                    ("account", "key_prefix"),
                    ("boot_id", "lock_file_path"),
                    ("takeover", "dirty"),
                )
            },
        ),
        (
            "Times",
            {
                "fields": (
                    ("acquired_at", "renewed_at"),
                    ("expires_at", "free_at"),
                    ("ttl", "lock_delay", "renewals"),
                )
            },
        ),
    )

    @display(description="State", ordering="state", label=STATE_COLOURS)
    def shown_state(self, record: LockRecord) -> str:
        return record.state

    @display(description="Lock", ordering="name")
    def shown_lock(self, record: LockRecord) -> str:
        return str(record)

    @display(description="Tenures")
    def tenures_link(self, record: LockRecord) -> str:
        count = record.tenures.count()
        return link_to_list("tenure", f"{count} so far", lock__id__exact=record.pk)

    @display(description="Events")
    def events_link(self, record: LockRecord) -> str:
        return link_to_list(
            "lockevent", "its lock events", name=record.name, scope=record.scope, kind=record.kind
        )


@admin.register(Tenure)
class TenureAdmin(EvidenceAdmin):
    list_display = (
        "lock",
        "fencing_token",
        "execution_instrument",
        "host",
        "shown_run",
        "acquired_at",
        "ended_at",
        "shown_end",
        "renewals",
    )
    list_filter = ("end", "takeover", "execution_instrument", "host")
    list_select_related = ("lock",)
    search_fields = ("lock__name", "run_id", "host", "execution_instrument", "=fencing_token")
    date_hierarchy = "acquired_at"
    ordering = ("-acquired_at", "-id")
    fieldsets = (
        (None, {"fields": (("lock", "fencing_token"), ("run_id", "execution_instrument"))}),
        ("Holder", {"fields": (("host", "pid"), ("account", "key_prefix"), "boot_id", "takeover")}),
        ("Times", {"fields": (("acquired_at", "ended_at"), ("end", "renewals"))}),
    )

    @display(description="End", ordering="end", label=END_COLOURS)
    def shown_end(self, tenure: Tenure) -> str:
        return tenure.end or "running"


@admin.register(LockEvent)
class LockEventAdmin(EvidenceAdmin):
    list_display = (
        "at",
        "shown_type",
        "shown_lock",
        "count",
        "fencing_token",
        "host",
        "shown_run",
    )
    list_display_links = ("at",)
    list_filter = ("type", "kind", "name", "host")
    search_fields = ("name", "run_id", "host", "=fencing_token")
    date_hierarchy = "at"
    ordering = ("-at", "-id")
    readonly_fields = ("shown_data",)
    fieldsets = (
        (
            None,
            {"fields": (("at", "type"), ("kind", "name", "scope"), ("code", "count", "last_at"))},
        ),
        ("Who", {"fields": (("run_id", "host"), "fencing_token")}),
        ("What was said", {"fields": ("shown_data",)}),
    )

    @display(description="Event", ordering="type", label=EVENT_COLOURS)
    def shown_type(self, event: LockEvent) -> str:
        return event.type

    @display(description="Lock", ordering="name")
    def shown_lock(self, event: LockEvent) -> str:
        return f"{event.name}@{event.scope}" if event.scope else event.name or "all markets"

    @display(description="Data")
    def shown_data(self, event: LockEvent) -> str:
        return format_html(
            '<pre class="wd-json">{}</pre>', json.dumps(event.data, indent=2, ensure_ascii=False)
        )

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        return lookup in {"scope", "kind", "name"} or super().lookup_allowed(lookup, value, request)


class KillSwitchAdmin(EvidenceAdmin):
    list_display = ("shown_market", "shown_engaged", "reason", "changed_by", "changed_at")
    ordering = ("market",)
    fieldsets = (
        (None, {"fields": (("market", "engaged"), "reason", ("changed_by", "changed_at"))}),
    )

    @display(description="Market", ordering="market")
    def shown_market(self, switch: KillSwitch) -> str:
        return str(switch)

    @display(
        description="Orders", ordering="engaged", label={"STOPPED": "danger", "allowed": "success"}
    )
    def shown_engaged(self, switch: KillSwitch) -> str:
        return "STOPPED" if switch.engaged else "allowed"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).order_by("market")
