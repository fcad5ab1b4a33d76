"""Markets, results and violations: what the watchdog found, to look at."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.decorators import display

from identity.admin.read_only import EvidenceAdmin, as_block, link_to_list, run_link
from identity.models import InvariantResult, Violation, WatchedMarket
from identity.runbook import section_of
from identity.status import market_identities

VERDICTS = {True: "pass", False: "violation", None: "unknown"}
STATUS_COLOURS = {
    "VIOLATION": "danger",
    "STALE": "warning",
    "UNKNOWN": "",
    "OK": "success",
    "IDLE": "",
    "forgotten": "",
}
VERDICT_COLOURS = {"pass": "success", "violation": "danger", "unknown": ""}


class ViolationState(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("open", "Open"), ("accepted", "Open, accepted"), ("ended", "Ended")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "open":
            return queryset.filter(ended_at__isnull=True)
        if self.value() == "accepted":
            return queryset.filter(ended_at__isnull=True, accepted_until__gt=timezone.now())
        if self.value() == "ended":
            return queryset.filter(ended_at__isnull=False)
        return queryset


class ViolationAdmin(EvidenceAdmin):
    list_display = (
        "code",
        "shown_market",
        "subject",
        "count",
        "shown_state",
        "last_seen_at",
        "opened_at",
    )
    list_filter = (ViolationState, "code", "market", "historical")
    search_fields = ("code", "subject", "market", "message", "run_id", "host")
    date_hierarchy = "last_seen_at"
    ordering = ("-last_seen_at", "-id")
    readonly_fields = ("shown_sample", "events_link", "runbook")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("code", "subject"),
                    "message",
                    "runbook",
                    ("market", "scope"),
                    ("count", "events_link"),
                    ("opened_at", "last_seen_at"),
                )
            },
        ),
        ("Where it was seen", {"fields": (("run_id", "host"), ("log", "historical"))}),
        ("Sample", {"fields": ("shown_sample",)}),
        (
            "How it ended",
            {
                "fields": (
                    ("ended_at", "end"),
                    ("ended_by", "end_reason"),
                    ("accepted_until", "accepted_by"),
                    "accepted_reason",
                    ("acknowledged_at", "acknowledged_by"),
                    "acknowledged_reason",
                )
            },
        ),
    )

    @display(description="Market", ordering="market")
    def shown_market(self, violation: Violation) -> str:
        market = violation.market or "(no market)"
        return f"{market}@{violation.scope}" if violation.scope else market

    @display(
        description="State",
        ordering="ended_at",
        label={
            "OPEN": "danger",
            "OPEN, old logs": "danger",
            "OPEN, acknowledged": "danger",
            "accepted": "warning",
            "ended": "success",
        },
    )
    def shown_state(self, violation: Violation) -> str:
        if violation.ended_at:
            return "ended"
        until = violation.accepted_until
        if until and until > timezone.now():
            return "accepted"
        if violation.acknowledged_at:
            return "OPEN, acknowledged"
        return "OPEN, old logs" if violation.historical else "OPEN"

    @display(description="What to do")
    def runbook(self, violation: Violation) -> str:
        return section_of(violation.code)

    @display(description="Sample")
    def shown_sample(self, violation: Violation) -> str:
        return as_block(violation.sample)

    @display(description="Events")
    def events_link(self, violation: Violation) -> str:
        return link_to_list("identityevent", "events of this market", market=violation.market)


def _tell_statuses(markets: Iterable[WatchedMarket]) -> None:
    """Give each market its status as of now: the last result alone would outlive its evidence."""
    found = {(one.market, one.scope): one for one in market_identities(timezone.now())}
    for watched in markets:
        one = found.get((watched.market, watched.scope))
        watched.identity_status = one.status.value if one else "forgotten"  # type: ignore[attr-defined]
        watched.open_count = len(one.violations) if one else None  # type: ignore[attr-defined]


class WatchedMarketAdmin(EvidenceAdmin):
    list_display = (
        "shown_market",
        "status",
        "open_violations",
        "evidence_at",
        "shown_run",
        "forgotten_at",
    )
    list_filter = ("historical", ("forgotten_at", admin.EmptyFieldListFilter))
    search_fields = ("market", "scope", "run_id")
    ordering = ("market", "scope")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist = super().get_changelist_instance(request)
        _tell_statuses(changelist.result_list)
        return changelist

    @display(description="Market", ordering="market")
    def shown_market(self, watched: WatchedMarket) -> str:
        return str(watched)

    @display(description="Identity", label=STATUS_COLOURS)
    def status(self, watched: WatchedMarket) -> str:
        return str(getattr(watched, "identity_status", "UNKNOWN"))

    @display(description="Run", ordering="run_id")
    def shown_run(self, watched: WatchedMarket) -> str:
        return run_link(watched.run_id)

    @display(description="Open violations")
    def open_violations(self, watched: WatchedMarket) -> str:
        count = getattr(watched, "open_count", None)
        if count is None:
            return "-"
        return link_to_list(
            "violation", str(count), state="open", market=watched.market, scope=watched.scope
        )


@admin.register(InvariantResult)
class InvariantResultAdmin(EvidenceAdmin):
    list_display = ("watched", "origin", "verdict", "checked_at", "evidence_at", "changed_at")
    list_filter = ("origin", "passed")
    list_select_related = ("watched",)
    search_fields = ("watched__market", "run_id", "execution_instrument")
    ordering = ("watched__market", "watched__scope", "origin")
    readonly_fields = ("verdict", "shown_streams", "shown_violations")
    fieldsets = (
        (None, {"fields": (("watched", "origin"), ("verdict", "execution_instrument"), "run_id")}),
        ("Times", {"fields": (("checked_at", "evidence_at"), "changed_at")}),
        ("What it found", {"fields": ("shown_streams", "shown_violations")}),
    )

    @display(description="Result", ordering="passed", label=VERDICT_COLOURS)
    def verdict(self, result: InvariantResult) -> str:
        return VERDICTS[result.passed]

    @display(description="Streams")
    def shown_streams(self, result: InvariantResult) -> str:
        return ", ".join(str(stream) for stream in result.stream_ids) or "none"

    @display(description="Violations")
    def shown_violations(self, result: InvariantResult) -> str:
        return as_block(result.violations) if result.violations else "none"
