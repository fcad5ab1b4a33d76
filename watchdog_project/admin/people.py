"""Users, groups and who logged in, in the theme's forms."""

from __future__ import annotations

from typing import Any

from axes.models import AccessAttempt, AccessLog
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from locks.admin import EvidenceAdmin

admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):  # type: ignore[type-arg]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):
    pass


@admin.register(AccessLog)
class LogInAdmin(EvidenceAdmin):
    list_display = ("attempt_time", "username", "ip_address", "logout_time", "user_agent")
    list_filter = ("username", "ip_address")
    search_fields = ("username", "ip_address")
    date_hierarchy = "attempt_time"
    ordering = ("-attempt_time", "-id")
    fieldsets = (
        (None, {"fields": (("attempt_time", "logout_time"), ("username", "ip_address"))}),
        ("By what means", {"fields": ("user_agent", "path_info")}),
    )


@admin.register(AccessAttempt)
class FailedLogInAdmin(EvidenceAdmin):
    """Wrong passwords since the last right one; removing a row lets its name try again."""

    list_display = ("attempt_time", "username", "ip_address", "failures_since_start", "user_agent")
    list_filter = ("username", "ip_address")
    search_fields = ("username", "ip_address")
    ordering = ("-attempt_time", "-id")
    # Not what was posted: somebody may have typed a password where the name goes.
    fieldsets = (
        (None, {"fields": (("attempt_time", "failures_since_start"), ("username", "ip_address"))}),
        ("By what means", {"fields": ("user_agent", "path_info")}),
    )

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("axes.delete_accessattempt")
