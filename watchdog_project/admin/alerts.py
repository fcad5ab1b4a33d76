"""Alerts, their messages, and what operators decide on both."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.utils.html import format_html
from unfold.admin import TabularInline
from unfold.decorators import action, display
from unfold.enums import ActionVariant

from identity.runbook import section_of
from watchdog_project.admin.confirmation import Act, ReasonForm, confirmed
from watchdog_project.admin.health import ReadOnlyAdmin
from watchdog_project.admin.operations import OperatedAdmin
from watchdog_project.alerts.kinds import WHAT_TO_DO, Kind
from watchdog_project.alerts.lifecycle import State
from watchdog_project.alerts.models import Alert, AlertStep, Delivery, DeliveryState
from watchdog_project.alerts.outbox import retry_delivery
from watchdog_project.alerts.services import acknowledge_alert, snooze_alert
from watchdog_project.runbook_page import runbook_url

SEVERITY_COLOURS = {"emergency": "danger", "critical": "danger", "warning": "warning", "quiet": ""}
STATE_COLOURS = {
    "FIRING": "danger",
    "acknowledged": "warning",
    "snoozed": "warning",
    "pending": "",
    "resolved": "success",
}
DELIVERY_COLOURS = {"sent": "success", "waiting": "warning", "sending": "info", "DEAD": "danger"}
SNOOZES = {"15": "15 minutes", "60": "an hour", "240": "four hours", "1440": "a day"}


class AlertStateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("open", "Open"), *((state.value, state.value.capitalize()) for state in State)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "open":
            return queryset.filter(resolved_at__isnull=True).exclude(state=State.PENDING)
        return queryset.filter(state=self.value()) if self.value() else queryset


class ReadOnlyInline(TabularInline):
    extra = 0
    can_delete = False
    show_change_link = False

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class StepsInline(ReadOnlyInline):
    model = AlertStep
    fields = readonly_fields = ("at", "step", "by", "reason", "owed", "told_at")
    ordering = ("id",)


class MessagesInline(ReadOnlyInline):
    model = Delivery.alerts.through
    verbose_name_plural = "messages"
    fields = readonly_fields = ("message", "channel", "state", "attempts", "sent")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("delivery__channel").order_by("pk")

    @display(description="Message")
    def message(self, row: Any) -> str:
        return str(row.delivery)

    @display(description="Channel")
    def channel(self, row: Any) -> str:
        return str(row.delivery.channel)

    @display(description="State")
    def state(self, row: Any) -> str:
        return str(row.delivery.state)

    @display(description="Attempts")
    def attempts(self, row: Any) -> int:
        return int(row.delivery.attempts)

    @display(description="Sent")
    def sent(self, row: Any) -> Any:
        return row.delivery.sent_at


class SnoozeForm(ReasonForm):
    minutes = forms.ChoiceField(choices=list(SNOOZES.items()), label="For how long", initial="60")
    field_order = ("minutes", "reason")


def _can_be_handled(alert: Alert) -> bool:
    return alert.resolved_at is None and alert.state != State.PENDING


@admin.register(Alert)
class AlertAdmin(OperatedAdmin, ReadOnlyAdmin):
    list_display = (
        "kind",
        "shown_place",
        "shown_severity",
        "shown_state",
        "since",
        "resolved_at",
        "held_back",
        "handled_by",
    )
    list_filter = (AlertStateFilter, "severity", "kind", "market")
    search_fields = ("kind", "market", "subject", "summary", "who", "host")
    date_hierarchy = "opened_at"
    ordering = ("-opened_at", "-id")
    inlines = (StepsInline, MessagesInline)
    readonly_fields = ("shown_severity", "shown_state", "what_to_do", "runbook")
    actions_detail = ("acknowledge", "snooze")
    possible = {
        "acknowledge": lambda alert: _can_be_handled(alert) and alert.state != State.ACKNOWLEDGED,
        "snooze": _can_be_handled,
    }
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("kind", "subject"),
                    ("market", "scope"),
                    ("shown_severity", "shown_state"),
                    "summary",
                    "who",
                    "what_to_do",
                    "runbook",
                )
            },
        ),
        (
            "Times",
            {"fields": (("since", "fired_at"), ("resolved_at", "told_at"), "held_back")},
        ),
        ("Who sees to it", {"fields": (("handled_by", "snoozed_until"), "handled_reason")}),
    )

    @display(description="Market", ordering="market")
    def shown_place(self, alert: Alert) -> str:
        return alert.place or alert.subject or "-"

    @display(description="Severity", ordering="severity", label=SEVERITY_COLOURS)
    def shown_severity(self, alert: Alert) -> str:
        return alert.severity

    @display(description="State", ordering="state", label=STATE_COLOURS)
    def shown_state(self, alert: Alert) -> str:
        return "FIRING" if alert.state == State.FIRING else alert.state

    @display(description="What to do")
    def what_to_do(self, alert: Alert) -> str:
        known = {kind.value: text for kind, text in WHAT_TO_DO.items()}
        return known.get(alert.kind, "-")

    @display(description="Runbook")
    def runbook(self, alert: Alert) -> str:
        section = section_of(alert.kind)
        return format_html('<a href="{}">{}</a>', runbook_url(section), Kind(alert.kind).value)

    @action(description="Acknowledge", permissions=["operate"], icon="visibility")
    def acknowledge(self, request: HttpRequest, object_id: str) -> HttpResponse:
        alert = get_object_or_404(Alert, pk=object_id)

        def do(values: dict[str, Any]) -> Model:
            who = request.user.get_username()
            return acknowledge_alert(alert.pk, by=who, reason=values["reason"], now=timezone.now())

        act = Act(
            title=f"Acknowledge {alert}?",
            what_happens=(
                "It says that you see to it. No message repeats it; its end is still told.",
            ),
            facts=(("What", alert.summary),),
            confirm="Acknowledge",
            said="Acknowledged",
            danger=False,
        )
        return confirmed(self, request, act, do, self.page_of(alert))

    @action(description="Snooze", permissions=["operate"], icon="snooze")
    def snooze(self, request: HttpRequest, object_id: str) -> HttpResponse:
        alert = get_object_or_404(Alert, pk=object_id)

        def do(values: dict[str, Any]) -> Model:
            now = timezone.now()
            return snooze_alert(
                alert.pk,
                until=now + timedelta(minutes=int(values["minutes"])),
                by=request.user.get_username(),
                reason=values["reason"],
                now=now,
            )

        act = Act(
            title=f"Snooze {alert}?",
            what_happens=("No message of it until then. Where it still holds, it is told again.",),
            facts=(("What", alert.summary),),
            confirm="Snooze",
            said="Snoozed",
            danger=False,
            form_class=SnoozeForm,
        )
        return confirmed(self, request, act, do, self.page_of(alert))


@admin.register(Delivery)
class DeliveryAdmin(OperatedAdmin, ReadOnlyAdmin):
    list_display = (
        "title",
        "channel",
        "shown_state",
        "attempts",
        "created_at",
        "sent_at",
        "last_error",
    )
    list_filter = ("state", "channel", "severity")
    list_select_related = ("channel",)
    search_fields = ("title", "body", "last_error", "=key")
    date_hierarchy = "created_at"
    ordering = ("-created_at", "-id")
    readonly_fields = ("shown_state", "shown_body", "key")
    actions_detail = ("retry",)
    possible = {
        "retry": lambda row: row.state in (DeliveryState.DEAD, DeliveryState.WAITING),
    }
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "title",
                    ("channel", "shown_state"),
                    ("attempts", "next_attempt_at"),
                    ("created_at", "sent_at"),
                    "last_error",
                    "key",
                    "shown_body",
                )
            },
        ),
    )

    @display(description="State", ordering="state", label=DELIVERY_COLOURS)
    def shown_state(self, row: Delivery) -> str:
        return "DEAD" if row.state == DeliveryState.DEAD else row.state

    @display(description="Text")
    def shown_body(self, row: Delivery) -> str:
        return format_html('<pre class="wd-json">{}</pre>', row.body)

    @action(
        description="Send again",
        permissions=["operate"],
        icon="replay",
        variant=ActionVariant.PRIMARY,
    )
    def retry(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = get_object_or_404(Delivery.objects.select_related("channel"), pk=object_id)

        def do(values: dict[str, Any]) -> Model:
            return retry_delivery(row.pk, timezone.now())

        act = Act(
            title="Send this message again?",
            what_happens=(
                f"It is sent to {row.channel} with the next delivery, within seconds, and tried "
                "again where it fails.",
            ),
            facts=(("Message", row.title), ("Last error", row.last_error or "none")),
            confirm="Send again",
            said="Sent again",
            danger=False,
        )
        return confirmed(self, request, act, do, self.page_of(row))
