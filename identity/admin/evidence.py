"""Events, runs and where they were read: what robots said, to look at."""

from __future__ import annotations

from django.contrib import admin
from django.utils.html import format_html_join
from unfold.decorators import display

from identity.admin.read_only import EvidenceAdmin, as_block, link_to_list, run_link
from identity.models import (
    Claim,
    IdentityEvent,
    IngestError,
    IngestSource,
    RobotRun,
    Stream,
)


@admin.register(IdentityEvent)
class IdentityEventAdmin(EvidenceAdmin):
    list_display = (
        "occurred_at",
        "event_type",
        "market",
        "stream_id",
        "shown_run",
        "origin",
    )
    list_display_links = ("occurred_at", "event_type")
    list_filter = ("origin", "market", "event_type", "historical", "changed")
    search_fields = ("=market", "event_type", "run_id", "stream_id")
    date_hierarchy = "occurred_at"
    ordering = ("-occurred_at", "-id")
    list_select_related = ("source",)
    readonly_fields = ("shown_data",)
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("occurred_at", "received_at"),
                    "event_type",
                    "origin",
                    ("market", "scope"),
                    ("run_id", "stream_id"),
                    ("historical", "changed"),
                    "fencing_token",
                )
            },
        ),
        ("Where it was read", {"fields": ("source", "offset")}),
        ("What it said", {"fields": ("shown_data",)}),
    )

    @display(description="Run", ordering="run_id")
    def shown_run(self, event: IdentityEvent) -> str:
        return run_link(event.run_id)

    @display(description="Data")
    def shown_data(self, event: IdentityEvent) -> str:
        return as_block(event.data)


@admin.register(RobotRun)
class RobotRunAdmin(EvidenceAdmin):
    list_display = ("run_id", "host", "account", "first_seen_at", "last_seen_at", "stopped_at")
    list_filter = ("host", ("stopped_at", admin.EmptyFieldListFilter))
    search_fields = ("run_id", "host", "account", "log")
    date_hierarchy = "last_seen_at"
    ordering = ("-last_seen_at", "-id")
    readonly_fields = ("links", "shown_troubles")
    fieldsets = (
        (None, {"fields": (("run_id", "scope"), ("host", "account"), "log", "links")}),
        ("Times", {"fields": (("started_at", "stopped_at"), ("first_seen_at", "last_seen_at"))}),
        ("Health, as it told it", {"fields": (("heard_at", "shown_troubles"),)}),
    )

    @display(description="Troubles")
    def shown_troubles(self, run: RobotRun) -> str:
        return as_block(run.troubles) if run.troubles else "-"

    @display(description="More of it")
    def links(self, run: RobotRun) -> str:
        return format_html_join(
            " · ",
            "{}",
            (
                (link_to_list("identityevent", "events", run_id=run.run_id),),
                (link_to_list("stream", "streams", run__id__exact=run.pk),),
                (link_to_list("claim", "claims", run__id__exact=run.pk),),
            ),
        )


@admin.register(Claim)
class ClaimAdmin(EvidenceAdmin):
    list_display = (
        "market",
        "scope",
        "shown_run",
        "execution_instrument",
        "first_at",
        "last_at",
    )
    list_filter = ("market", "execution_instrument")
    list_select_related = ("run",)
    search_fields = ("market", "run__run_id", "execution_instrument")
    date_hierarchy = "last_at"
    ordering = ("-last_at", "-id")

    @display(description="Run", ordering="run")
    def shown_run(self, claim: Claim) -> str:
        return run_link(claim.run.run_id)


@admin.register(Stream)
class StreamAdmin(EvidenceAdmin):
    list_display = (
        "__str__",
        "market",
        "canonical_instrument",
        "execution_instrument",
        "instrument",
        "shown_run",
        "last_seen_at",
    )
    list_filter = ("market", "execution_instrument")
    list_select_related = ("run",)
    search_fields = ("stream_id", "market", "run__run_id", "execution_instrument")
    date_hierarchy = "last_seen_at"
    ordering = ("-last_seen_at", "-id")

    @display(description="Run", ordering="run")
    def shown_run(self, stream: Stream) -> str:
        return run_link(stream.run.run_id)


@admin.register(IngestSource)
class IngestSourceAdmin(EvidenceAdmin):
    list_display = ("name", "accepted", "duplicates", "rejected", "last_event_at", "updated_at")
    list_filter = ("folder",)
    list_select_related = ("folder",)
    search_fields = ("name",)
    ordering = ("-updated_at", "-id")
    readonly_fields = ("events_link", "errors_link")
    fieldsets = (
        (None, {"fields": ("name", ("folder", "fingerprint"))}),
        (
            "What was read",
            {
                "fields": (
                    ("accepted", "duplicates", "rejected"),
                    ("events_link", "errors_link"),
                    ("offset", "last_event_at", "updated_at"),
                )
            },
        ),
    )

    @display(description="Events")
    def events_link(self, source: IngestSource) -> str:
        return link_to_list("identityevent", "events read here", source__id__exact=source.pk)

    @display(description="Errors")
    def errors_link(self, source: IngestSource) -> str:
        return link_to_list(
            "ingesterror", "lines that could not be read", source__id__exact=source.pk
        )


@admin.register(IngestError)
class IngestErrorAdmin(EvidenceAdmin):
    list_display = ("at", "code", "detail", "source", "offset")
    list_filter = ("code", "source")
    list_select_related = ("source",)
    search_fields = ("code", "detail", "source__name", "sample")
    date_hierarchy = "at"
    ordering = ("-at", "-id")
    readonly_fields = ("shown_sample",)
    fieldsets = (
        (None, {"fields": (("at", "code"), "detail", ("source", "offset"))}),
        ("The line itself", {"fields": ("shown_sample",)}),
    )

    @display(description="Sample")
    def shown_sample(self, error: IngestError) -> str:
        return as_block(error.sample)
