"""API keys: made here, shown once on the page that answers, rotated and revoked, never edited."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminTextInputWidget

from watchdog_project.api_keys import (
    ApiKeyRefused,
    canonical_markets,
    create_api_key,
    revoke_api_key,
    rotate_api_key,
)
from watchdog_project.audit import Actor
from watchdog_project.models import ApiKey, Via

SHOWN = ("name", "role", "prefix", "shown_state", "shown_markets")
TIMES = ("created_at", "expires_at", "last_used_at", "rotated_at", "previous_until", "revoked_at")


class ApiKeyForm(forms.ModelForm):  # type: ignore[type-arg]
    markets = forms.CharField(
        required=False,
        max_length=1000,
        label="Markets it may lock",
        help_text="with commas between them, in any notation; empty: all of them",
        widget=UnfoldAdminTextInputWidget,
    )

    def clean_markets(self) -> list[str]:
        given = self.cleaned_data["markets"].split(",")
        try:
            return canonical_markets(symbol.strip() for symbol in given if symbol.strip())
        except ApiKeyRefused as unknown:
            raise ValidationError(str(unknown)) from unknown

    def clean_expires_at(self) -> Any:
        end = self.cleaned_data["expires_at"]
        if end is not None and end <= timezone.now():
            raise ValidationError("This is over already; a key's end lies ahead.")
        return end


class ReasonForm(forms.Form):
    reason = forms.CharField(max_length=500, widget=forms.Textarea(attrs={"rows": 3}))


class RotationForm(ReasonForm):
    grace_hours = forms.FloatField(
        label="Hours that the old secret stays good",
        initial=24,
        min_value=0,
        max_value=720,
        help_text="until then its users have time to change over; 0 where it has leaked",
    )


@admin.register(ApiKey)
class ApiKeyAdmin(ModelAdmin):
    form = ApiKeyForm
    list_display = (
        "name", "shown_role", "shown_markets", "prefix", "shown_state", "created_at",
        "expires_at", "last_used_at",
    )  # fmt: skip
    list_filter = ("role", ("revoked_at", admin.EmptyFieldListFilter))
    search_fields = ("name", "prefix")
    ordering = ("name",)
    actions = None
    actions_detail = ("rotate", "revoke")

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        if obj is None:
            return ((None, {"fields": ("name", "role", "markets", "expires_at")}),)
        who = (("name", "role"), ("prefix", "shown_state"), "shown_markets")
        return (
            (None, {"fields": who}),
            ("Times", {"fields": (TIMES[:2], TIMES[2:4], TIMES[4:])}),
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return () if obj is None else (*SHOWN, *TIMES)

    @display(
        description="Role",
        ordering="role",
        label={"operator": "warning", "robot": "info", "reader": ""},
    )
    def shown_role(self, key: ApiKey) -> str:
        return key.role

    @display(description="Markets")
    def shown_markets(self, key: ApiKey) -> str:
        return ", ".join(key.markets) or "all"

    @display(
        description="State",
        ordering="revoked_at",
        label={"good": "success", "ended": "warning", "revoked": "danger"},
    )
    def shown_state(self, key: ApiKey) -> str:
        if key.revoked_at:
            return "revoked"
        return "ended" if key.expires_at and key.expires_at <= timezone.now() else "good"

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

    def has_administer_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("watchdog.change_apikey")

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        key = create_api_key(
            obj.name, obj.role, by=_actor(request), markets=obj.markets, expires_at=obj.expires_at
        )
        made = ApiKey.objects.get(name=obj.name)
        obj.pk, obj.prefix, obj.created_at = made.pk, made.prefix, made.created_at
        obj._state.adding = False
        # On the request, not in a message: messages may be kept in a cookie.
        request._new_api_key = key  # type: ignore[attr-defined]

    def response_add(
        self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None
    ) -> HttpResponse:
        return self._shown_once(request, obj, request._new_api_key)  # type: ignore[attr-defined]

    def _shown_once(self, request: HttpRequest, key: ApiKey, whole: str) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": f"API key {key.name}",
            "opts": self.model._meta,
            "api_key": key,
            "whole_key": whole,
            "list_url": reverse("admin:watchdog_apikey_changelist"),
        }
        return TemplateResponse(
            request, "watchdog/api_key_made.html", context, headers={"Cache-Control": "no-store"}
        )

    @action(
        description="Rotate this key",
        url_path="rotate",
        permissions=["administer"],
        icon="autorenew",
    )
    def rotate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def do(key: ApiKey, values: dict[str, Any]) -> HttpResponse:
            grace = timedelta(hours=values["grace_hours"])
            whole = rotate_api_key(
                key.name, timezone.now(), grace=grace, by=_actor(request), reason=values["reason"]
            )
            self.log_change(request, key, f"Rotated: {values['reason']}")
            return self._shown_once(request, key, whole)

        return self._confirmed(request, object_id, ROTATION, RotationForm, do)

    @action(
        description="Revoke this key",
        url_path="revoke",
        permissions=["administer"],
        icon="block",
        variant=ActionVariant.DANGER,
    )
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def do(key: ApiKey, values: dict[str, Any]) -> HttpResponse:
            revoke_api_key(key.name, timezone.now(), by=_actor(request), reason=values["reason"])
            self.log_change(request, key, f"Revoked: {values['reason']}")
            messages.success(request, f"{key} is revoked: it opens nothing from now on.")
            return HttpResponseRedirect(_page(key))

        return self._confirmed(request, object_id, REVOCATION, ReasonForm, do)

    def _confirmed(
        self,
        request: HttpRequest,
        object_id: str,
        words: dict[str, str],
        form_class: type[ReasonForm],
        do: Callable[[ApiKey, dict[str, Any]], HttpResponse],
    ) -> HttpResponse:
        """Say what will happen, and do it once that is confirmed with a reason."""
        key = get_object_or_404(ApiKey, pk=object_id)
        form = form_class(request.POST if request.method == "POST" else None)
        if key.revoked_at:
            messages.info(request, f"{key} was revoked already.")
            return HttpResponseRedirect(_page(key))
        if form.is_valid():
            try:
                return do(key, form.cleaned_data)
            except ApiKeyRefused as refused:
                form.add_error(None, str(refused))
        context = {
            **self.admin_site.each_context(request),
            "title": words["title"].format(key=key),
            "opts": self.model._meta,
            "what_happens": words["what_happens"].format(key=key),
            "confirm": words["confirm"],
            "form": form,
            "back_url": _page(key),
        }
        return TemplateResponse(request, "watchdog/confirm.html", context)


REVOCATION = {
    "title": "Revoke API key {key.name}?",
    "what_happens": (
        "Every request with the key {key.prefix}… is refused within seconds. A robot that holds a "
        "lease with it cannot renew: it stops trading. "
        "This cannot be undone; make a new key instead."
    ),
    "confirm": "Revoke the key",
}
ROTATION = {
    "title": "Rotate API key {key.name}?",
    "what_happens": (
        "The key {key.prefix}… gets a new secret, which the next page shows once. Leases are kept: "
        "they belong to the key, with the old secret as with the new. "
        "When the hours below are over, whoever still sends the old one is refused."
    ),
    "confirm": "Rotate the key",
}


def _page(key: ApiKey) -> str:
    return reverse("admin:watchdog_apikey_change", args=[key.pk])


def _actor(request: HttpRequest) -> Actor:
    return Actor(request.user.get_username(), Via.ADMIN)
