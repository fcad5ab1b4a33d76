"""What alerts are made of and where they go: rules, channels, maintenance windows."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextInputWidget

from identity.registry import load_registry
from watchdog_project.admin.confirmation import Act, confirmed
from watchdog_project.admin.operations import OperatedAdmin
from watchdog_project.alerts.channels import SendFailed, seal_url, send_test
from watchdog_project.alerts.errors import AlertRefused
from watchdog_project.alerts.kinds import rule_objection
from watchdog_project.alerts.models import AlertRule, Channel, MaintenanceWindow
from watchdog_project.alerts.store import rule_of
from watchdog_project.alerts.windows import end_window, moment_in, window_objection


class RuleForm(forms.ModelForm):  # type: ignore[type-arg]
    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        names = ("enabled", "severity", "hold_seconds", "renotify_seconds", "market_hours_only")
        if not self.errors:
            asked = AlertRule(kind=self.instance.kind, **{name: cleaned[name] for name in names})
            if objection := rule_objection(rule_of(asked)):
                raise forms.ValidationError(objection)
        return cleaned


@admin.register(AlertRule)
class AlertRuleAdmin(ModelAdmin):
    """One row a kind; an empty field is the default, and says which that is."""

    form = RuleForm
    actions = None
    list_fullwidth = True
    list_display = ("kind", "enabled", "says", "shown_hold", "shown_renotify", "shown_hours")
    ordering = ("kind",)
    readonly_fields = ("kind",)
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("kind", "enabled"),
                    ("severity", "hold_seconds"),
                    ("renotify_seconds", "market_hours_only"),
                )
            },
        ),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    @display(description="Severity")
    def says(self, row: AlertRule) -> str:
        return f"{rule_of(row).severity}{_whose(row.severity)}"

    @display(description="Has held for")
    def shown_hold(self, row: AlertRule) -> str:
        return f"{rule_of(row).hold.total_seconds():g} s{_whose(row.hold_seconds)}"

    @display(description="Said again after")
    def shown_renotify(self, row: AlertRule) -> str:
        seconds = rule_of(row).renotify.total_seconds()
        return f"{f'{seconds:g} s' if seconds else 'never'}{_whose(row.renotify_seconds)}"

    @display(description="Market hours only")
    def shown_hours(self, row: AlertRule) -> str:
        says = "yes" if rule_of(row).market_hours_only else "no"
        return f"{says}{_whose(row.market_hours_only)}"


def _whose(value: Any) -> str:
    return " (default)" if value in (None, "") else ""


class ChannelForm(forms.ModelForm):  # type: ignore[type-arg]
    """The address is written and never read: an empty field keeps the one there is."""

    address = forms.CharField(
        required=False,
        max_length=2000,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "off"}),
        help_text="An Apprise URL, such as json://host/path or mailto://user:password@host. "
        "It is kept encrypted and never shown again; empty: as it was.",
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        address = str(cleaned.get("address") or "")
        if not address and not self.instance.pk:
            self.add_error("address", "Say where messages go.")
        elif address:
            try:
                seal_url(self.instance, address)
            except AlertRefused as refused:
                self.add_error("address", refused.detail)
        return cleaned


@admin.register(Channel)
class ChannelAdmin(OperatedAdmin):
    form = ChannelForm
    actions = None
    list_display = ("name", "service", "least_severity", "enabled", "shown_health", "last_sent_at")
    ordering = ("name",)
    actions_detail = ("test",)
    possible = {"test": lambda channel: True}
    readonly_fields = ("service", "last_sent_at", "last_error_at", "last_error")
    fieldsets = (
        (None, {"fields": (("name", "service"), "address", ("least_severity", "enabled"))}),
        ("How it went", {"fields": (("last_sent_at", "last_error_at"), "last_error")}),
    )

    def save_model(self, request: HttpRequest, obj: Channel, form: Any, change: bool) -> None:
        if not change:
            obj.created_at = timezone.now()
        super().save_model(request, obj, form, change)

    @display(
        description="Health",
        label={"failing": "danger", "works": "success", "never used": "", "off": ""},
    )
    def shown_health(self, channel: Channel) -> str:
        if not channel.enabled:
            return "off"
        failed, sent = channel.last_error_at, channel.last_sent_at
        if failed and (sent is None or failed >= sent):
            return "failing"
        return "works" if sent else "never used"

    @action(description="Send a test message", permissions=["operate"], icon="send")
    def test(self, request: HttpRequest, object_id: str) -> HttpResponse:
        channel = get_object_or_404(Channel, pk=object_id)

        def do(values: dict[str, Any]) -> Model:
            try:
                send_test(channel, timezone.now())
            except SendFailed as failure:
                raise AlertRefused("SEND_FAILED", str(failure)) from None
            return channel

        act = Act(
            title=f"Send a test message to {channel}?",
            what_happens=(f"{channel.service} gets one message that says it is a test.",),
            confirm="Send it",
            said=f"{channel.service} took the test message",
            danger=False,
        )
        return confirmed(self, request, act, do, self.page_of(channel))


class WallClock(forms.Field):
    """A date and a time of day as a clock on some wall shows them; of which, another field says."""

    widget = UnfoldAdminTextInputWidget

    def to_python(self, value: Any) -> datetime | None:
        if not value:
            return None
        try:
            found = datetime.fromisoformat(str(value).strip())
        except ValueError:
            found = None
        if found is None or found.tzinfo is not None:
            raise forms.ValidationError("Give a date and a time of day, as 2026-03-07 16:00.")
        return found


class WindowForm(forms.ModelForm):  # type: ignore[type-arg]
    starts = WallClock(
        label="Starts at", help_text="By the clock of the time zone above, as 2026-03-07 16:00."
    )
    ends = WallClock(label="Ends at", help_text="By the same clock, 30 days later at most.")

    def clean_market(self) -> str:
        market = str(self.cleaned_data["market"]).strip().upper()
        if market and market not in load_registry().canonicals:
            raise forms.ValidationError(
                f"{market} is no canonical market of the registry; leave it empty for all markets."
            )
        return market

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        zone = str(cleaned.get("timezone") or "")
        moments = {}
        for field in ("starts", "ends"):
            wall = cleaned.get(field)
            if wall is None:
                continue
            try:
                moments[field] = moment_in(wall, zone)
            except AlertRefused as refused:
                self.add_error(
                    "timezone" if refused.code == "UNKNOWN_TIMEZONE" else field, refused.detail
                )
        if len(moments) == 2:
            objection = window_objection(moments["starts"], moments["ends"], timezone.now())
            if objection:
                self.add_error("ends", objection)
            self.instance.starts_at, self.instance.ends_at = moments["starts"], moments["ends"]
        return cleaned


@admin.register(MaintenanceWindow)
class MaintenanceWindowAdmin(OperatedAdmin):
    form = WindowForm
    actions = None
    list_display = ("shown_market", "starts_at", "ends_at", "shown_state", "reason", "created_by")
    list_filter = ("market",)
    ordering = ("-starts_at",)
    actions_detail = ("end",)
    possible = {
        "end": lambda row: row.ended_early_at is None and row.ends_at > timezone.now(),
    }

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        entered = (("market", "timezone"), ("starts", "ends"), "reason", "emergencies_too")
        known = (
            ("market", "timezone"),
            ("starts_at", "ends_at"),
            "reason",
            ("emergencies_too", "created_by"),
            "ended_early_at",
        )
        return ((None, {"fields": known if obj else entered}),)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.has_operate_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def save_model(
        self, request: HttpRequest, obj: MaintenanceWindow, form: Any, change: bool
    ) -> None:
        obj.created_by = request.user.get_username()
        super().save_model(request, obj, form, change)

    @display(description="Market", ordering="market")
    def shown_market(self, row: MaintenanceWindow) -> str:
        return row.market or "all markets"

    @display(
        description="State", label={"runs": "warning", "to come": "info", "over": "", "ended": ""}
    )
    def shown_state(self, row: MaintenanceWindow) -> str:
        now = timezone.now()
        if row.ended_early_at:
            return "ended"
        if now < row.starts_at:
            return "to come"
        return "runs" if now < row.ends_at else "over"

    @action(description="End it now", permissions=["operate"], icon="event_busy")
    def end(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = get_object_or_404(MaintenanceWindow, pk=object_id)
        act = Act(
            title="End this window now?",
            what_happens=("What is wrong by then sends its messages within half a minute.",),
            facts=(("Window", str(row)),),
            confirm="End it",
            said="Ended",
            danger=False,
        )
        return confirmed(
            self, request, act, lambda _: end_window(row.pk, timezone.now()), self.page_of(row)
        )
