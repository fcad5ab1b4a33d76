"""What operators do with findings: acknowledge, accept or mend a violation, forget a market."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.decorators import action, display
from unfold.enums import ActionVariant

from identity.admin.findings import ViolationAdmin, WatchedMarketAdmin
from identity.invariants import EVENT_IDENTITY_INCOMPLETE
from identity.models import Violation, WatchedMarket
from identity.operators import (
    accept_violation,
    acknowledge_violation,
    forget_market,
    mend_violation,
)
from identity.runbook import section_of
from watchdog_project.admin.confirmation import Act, ReasonForm, confirmed
from watchdog_project.admin.operations import OperatedAdmin
from watchdog_project.market_page import market_url
from watchdog_project.runbook_page import runbook_url

ACCEPT_FOR = timedelta(days=14)


class UntilForm(ReasonForm):
    """An acceptance ends with a day, in the time zone of the console."""

    until = forms.DateField(
        label="Accepted until the end of",
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )
    field_order = ("until", "reason")


def _end_of(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day + timedelta(days=1), time.min))


def _open(violation: Violation) -> bool:
    return violation.ended_at is None


@admin.register(Violation)
class OperatedViolationAdmin(OperatedAdmin, ViolationAdmin):
    actions_detail = ("acknowledge", "accept", "mend")
    possible = {
        "acknowledge": _open,
        "accept": lambda row: _open(row) and row.code == EVENT_IDENTITY_INCOMPLETE,
        "mend": _open,
    }

    @display(description="What to do")
    def runbook(self, violation: Violation) -> str:
        return format_html(
            '<a href="{}">The runbook on {}</a>',
            runbook_url(section_of(violation.code)),
            violation.code,
        )

    @display(description="More of it")
    def events_link(self, violation: Violation) -> str:
        return format_html(
            '<a href="{}">the market\'s page</a> · {}',
            market_url(violation.market, violation.scope),
            super().events_link(violation),
        )

    @action(description="Acknowledge", permissions=["operate"], icon="visibility")
    def acknowledge(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._do(
            request,
            object_id,
            acknowledge_violation,
            title="Acknowledge this violation?",
            what_happens=("It says that you know of it. It stays open, and red.",),
            confirm="Acknowledge",
            said="Acknowledged",
            danger=False,
        )

    @action(description="Accept until a day", permissions=["operate"], icon="event_available")
    def accept(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._do(
            request,
            object_id,
            accept_violation,
            title="Accept this violation until a day?",
            what_happens=(
                "For a logger whose schema cannot change today. Until that day it is listed and "
                "counted, but is not red and alerts nobody; afterwards it is red again.",
            ),
            confirm="Accept",
            said="Accepted",
            danger=False,
            form_class=UntilForm,
            initial={"until": timezone.localdate() + ACCEPT_FOR},
        )

    @action(
        description="Mend",
        permissions=["operate"],
        icon="check_circle",
        variant=ActionVariant.PRIMARY,
    )
    def mend(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._do(
            request,
            object_id,
            mend_violation,
            title="End this violation on your word?",
            what_happens=(
                "It ends now, though nothing was seen that mends it. The next breach of its kind "
                "opens another one.",
            ),
            confirm="Mend",
            said="Mended",
        )

    def _do(self, request: HttpRequest, object_id: str, service: Any, **words: Any) -> HttpResponse:
        violation = get_object_or_404(Violation, pk=object_id)

        def do(values: dict[str, Any]) -> Model:
            until = values.pop("until", None)
            ends = {} if until is None else {"until": _end_of(until)}
            who = request.user.get_username()
            service(violation.pk, by=who, now=timezone.now(), **values, **ends)
            return violation

        facts = (
            ("Market", f"{violation.market or '(no market)'} {violation.scope}".strip()),
            ("What", f"{violation.code} {violation.subject}".strip()),
            ("It says", violation.message),
            ("Seen", f"{violation.count}×"),
        )
        act = Act(facts=facts, **words)
        return confirmed(self, request, act, do, self.page_of(violation))


@admin.register(WatchedMarket)
class OperatedWatchedMarketAdmin(OperatedAdmin, WatchedMarketAdmin):
    actions_detail = ("forget",)
    possible = {"forget": lambda watched: watched.forgotten_at is None}

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **more: Any) -> Any:
        watched = self.get_object(request, object_id)
        if request.method != "GET" or watched is None:
            return super().change_view(request, object_id, *args, **more)
        return HttpResponseRedirect(market_url(watched.market, watched.scope))

    @action(
        description="Forget this market",
        permissions=["operate"],
        icon="visibility_off",
        variant=ActionVariant.DANGER,
    )
    def forget(self, request: HttpRequest, object_id: str) -> HttpResponse:
        watched = get_object_or_404(WatchedMarket, pk=object_id)

        def do(values: dict[str, Any]) -> Model:
            who = request.user.get_username()
            forget_market(watched.pk, by=who, reason=values["reason"], now=timezone.now())
            return watched

        act = Act(
            title=f"Forget {watched}?",
            what_happens=(
                "It leaves the dashboard and no longer counts for the badge, with whatever is "
                "wrong there. Newer evidence of it, or a lease, brings it back. Nothing is "
                "deleted.",
            ),
            confirm="Forget it",
            said=f"Forgot {watched}",
        )
        return confirmed(self, request, act, do, reverse("admin:index"))
