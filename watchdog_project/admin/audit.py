"""The audit trail of keys, to look at."""

from __future__ import annotations

import json

from django.contrib import admin
from django.utils.html import format_html
from unfold.decorators import display

from locks.admin import EvidenceAdmin
from watchdog_project.models import AuditEntry


@admin.register(AuditEntry)
class AuditEntryAdmin(EvidenceAdmin):
    list_display = ("at", "action", "subject", "actor", "via", "reason")
    list_filter = ("action", "via", "actor")
    search_fields = ("subject", "actor", "reason", "=action", "=via")
    date_hierarchy = "at"
    ordering = ("-at", "-id")
    readonly_fields = ("shown_data",)
    fieldsets = (
        (None, {"fields": (("at", "action"), "subject", ("actor", "via"), "reason", "shown_data")}),
    )

    @display(description="Data")
    def shown_data(self, entry: AuditEntry) -> str:
        return format_html(
            '<pre class="wd-json">{}</pre>', json.dumps(entry.data, indent=2, ensure_ascii=False)
        )
