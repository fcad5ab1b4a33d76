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
