"""API keys: made here, shown once on the page that answers, revoked here, never edited."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.enums import ActionVariant

from watchdog_project.api_keys import create_api_key, revoke_api_key
from watchdog_project.models import ApiKey


@admin.register(ApiKey)
class ApiKeyAdmin(ModelAdmin):
    list_display = ("name", "shown_role", "prefix", "created_at", "shown_state", "revoked_at")
    list_filter = ("role", ("revoked_at", admin.EmptyFieldListFilter))
    search_fields = ("name", "prefix")
    ordering = ("name",)
    actions = None
    actions_detail = ("revoke",)
    fields = ("name", "role")

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        if obj is None:
            return ((None, {"fields": ("name", "role")}),)
        rows = (("name", "role"), ("prefix", "shown_state"), ("created_at", "revoked_at"))
        return ((None, {"fields": rows}),)

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        if obj is None:
            return ()
        return ("name", "role", "prefix", "shown_state", "created_at", "revoked_at")

    @display(
        description="Role",
        ordering="role",
        label={"operator": "warning", "robot": "info", "reader": ""},
    )
    def shown_role(self, key: ApiKey) -> str:
        return key.role

    @display(
        description="State", ordering="revoked_at", label={"good": "success", "revoked": "danger"}
    )
    def shown_state(self, key: ApiKey) -> str:
        return "revoked" if key.revoked_at else "good"

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        # Whichever way it is saved, the page that shows the key comes next.
        only_save = {"show_save_and_add_another": False, "show_save_and_continue": False}
        return super().render_change_form(request, {**context, **only_save}, *args, **kwargs)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_revoke_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("watchdog.change_apikey")

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        key = create_api_key(obj.name, obj.role)
        made = ApiKey.objects.get(name=obj.name)
        obj.pk, obj.prefix, obj.created_at = made.pk, made.prefix, made.created_at
        obj._state.adding = False
        # On the request, not in a message: messages may be kept in a cookie.
        request._new_api_key = key  # type: ignore[attr-defined]

    def response_add(
        self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None
    ) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": f"API key {obj.name}",
            "opts": self.model._meta,
            "api_key": obj,
            "whole_key": request._new_api_key,  # type: ignore[attr-defined]
            "list_url": reverse("admin:watchdog_apikey_changelist"),
        }
        return TemplateResponse(request, "watchdog/api_key_made.html", context)

    @action(
        description="Revoke this key",
        url_path="revoke",
        permissions=["revoke"],
        icon="block",
        variant=ActionVariant.DANGER,
    )
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        key = get_object_or_404(ApiKey, pk=object_id)
        page = reverse("admin:watchdog_apikey_change", args=[key.pk])
        if key.revoked_at:
            messages.info(request, f"{key} was revoked already.")
            return HttpResponseRedirect(page)
        if request.method == "POST":
            revoke_api_key(key.name, timezone.now())
            self.log_change(request, key, "Revoked.")
            messages.success(request, f"{key} is revoked: it opens nothing from now on.")
            return HttpResponseRedirect(page)
        context = {
            **self.admin_site.each_context(request),
            "title": f"Revoke API key {key.name}?",
            "opts": self.model._meta,
            "what_happens": (
                f"Every request with the key {key.prefix}… is refused from now on. A robot that "
                "holds a lease with it cannot renew: it stops trading within seconds. "
                "This cannot be undone; make a new key instead."
            ),
            "confirm": "Revoke the key",
            "back_url": page,
        }
        return TemplateResponse(request, "watchdog/confirm.html", context)
