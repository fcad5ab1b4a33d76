"""Evidence can be read in the admin, and nothing else."""

from __future__ import annotations

import json

from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from unfold.admin import ModelAdmin


class EvidenceAdmin(ModelAdmin):
    """Rows that tell what happened: they can be read, and neither made, changed nor removed."""

    list_fullwidth = True
    list_per_page = 50
    show_full_result_count = False
    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


def link_to_list(model: str, text: str, **filters: str | int) -> str:
    """A link to another list of this app, narrowed to `filters`."""
    address = reverse(f"admin:identity_{model}_changelist")
    return format_html('<a href="{}?{}">{}</a>', address, urlencode(filters), text)


def as_block(value: object) -> str:
    """Any JSON value, indented, as it is."""
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    return format_html('<pre class="wd-json">{}</pre>', text)


def run_link(run_id: str) -> str:
    """The run's own rows, under as much of its id as tells it apart; a dash for none."""
    if not run_id:
        return "-"
    shown = run_id if len(run_id) <= 16 else f"{run_id[:12]}…"
    address = reverse("admin:identity_robotrun_changelist")
    return format_html(
        '<a class="wd-id" href="{}?{}" title="{}">{}</a>',
        address,
        urlencode({"run_id": run_id}),
        run_id,
        shown,
    )
