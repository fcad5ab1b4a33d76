"""What the API's schema says of the addresses and answers that are composed here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.conf import settings
from drf_spectacular.extensions import (
    OpenApiAuthenticationExtension,
    OpenApiSerializerFieldExtension,
)
from rest_framework import serializers

from identity.status import IdentityStatus
from watchdog_project.alerts.api import AlertAnswer

Endpoint = tuple[str, str, str, Callable[..., Any]]


def one_path_per_address(endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """Every address answers with and without a trailing slash; the schema tells of the latter."""
    return [(path.rstrip("/"), regex, method, view) for path, regex, method, view in endpoints]


class ViolationAnswer(serializers.Serializer[Any]):
    code = serializers.CharField()
    subject = serializers.CharField(help_text="event name, stream id or run")
    message = serializers.CharField()
    count = serializers.IntegerField()
    opened_at = serializers.DateTimeField()
    last_seen_at = serializers.DateTimeField()
    accepted_until = serializers.DateTimeField(allow_null=True)
    runbook = serializers.CharField(help_text="the section that tells what to do")


def _status_field() -> serializers.ChoiceField:
    return serializers.ChoiceField([status.value for status in IdentityStatus])


class IdentityAnswer(serializers.Serializer[Any]):
    status = _status_field()
    checked_at = serializers.DateTimeField(allow_null=True)
    evidence_at = serializers.DateTimeField(allow_null=True)
    changed_at = serializers.DateTimeField(allow_null=True)
    execution_instrument = serializers.CharField()
    stream_ids = serializers.ListField(child=serializers.CharField())
    historical = serializers.BooleanField(help_text="known from old logs only")
    evidence_from = serializers.CharField(help_text="where the newest evidence was read")
    run_id = serializers.CharField()
    violations = ViolationAnswer(many=True)

    def get_fields(self) -> dict[str, Any]:
        # Neither name can be an attribute of a serializer.
        return {
            **super().get_fields(),
            "pass": serializers.BooleanField(allow_null=True),
            "label": serializers.CharField(
                help_text="`from logs of …` where it is historical, else empty"
            ),
        }


class LockAnswer(serializers.Serializer[Any]):
    state = serializers.CharField()
    run_id = serializers.CharField()
    host = serializers.CharField()
    execution_instrument = serializers.CharField()
    fencing_token = serializers.IntegerField()
    acquired_at = serializers.DateTimeField(allow_null=True)
    renewed_at = serializers.DateTimeField(allow_null=True)
    free_at = serializers.DateTimeField(allow_null=True, help_text="end of the lock delay")
    expires_in = serializers.FloatField(
        allow_null=True, help_text="seconds; below zero: over, and nobody has seen it yet"
    )


class SessionAnswer(serializers.Serializer[Any]):
    open = serializers.BooleanField(
        allow_null=True, help_text="null: not known, which is not closed"
    )
    next_change_at = serializers.DateTimeField(allow_null=True)


class MarketAnswer(serializers.Serializer[Any]):
    market = serializers.CharField()
    scope = serializers.CharField()
    identity = IdentityAnswer()
    lock = LockAnswer(allow_null=True)
    session = SessionAnswer()
    kill_switch_active = serializers.BooleanField(allow_null=True)


class SweepAnswer(serializers.Serializer[Any]):
    last_finished_at = serializers.DateTimeField(allow_null=True)
    age_seconds = serializers.FloatField(allow_null=True)
    overdue = serializers.BooleanField()


class IngestSumsAnswer(serializers.Serializer[Any]):
    last_event_at = serializers.DateTimeField(allow_null=True)
    accepted = serializers.IntegerField(allow_null=True)
    rejected = serializers.IntegerField(allow_null=True)


class StatusAnswer(serializers.Serializer[Any]):
    status = _status_field()
    timestamp_chicago = serializers.DateTimeField()
    snapshot_utc = serializers.DateTimeField()
    last_identity_invariants_pass = serializers.BooleanField(allow_null=True)
    last_identity_invariants_event_chicago = serializers.DateTimeField(allow_null=True)
    last_identity_violations = serializers.ListField(child=serializers.CharField())
    markets = MarketAnswer(many=True)
    kill_switch_active = serializers.BooleanField(
        allow_null=True, help_text="null: it cannot be read, which robots are told is active"
    )
    alerts = AlertAnswer(many=True, help_text="open ones, worst first, 500 at most")
    sweep = SweepAnswer()
    overdue_tasks = serializers.ListField(
        child=serializers.CharField(),
        help_text="periodic work that did not finish in time; each makes the status STALE",
    )
    ingest = IngestSumsAnswer()
    unreadable = serializers.ListField(
        child=serializers.CharField(), help_text="what could not be read, and is unknown here"
    )


class HealthAnswer(serializers.Serializer[Any]):
    status = serializers.CharField()


class ReadyAnswer(serializers.Serializer[Any]):
    ready = serializers.BooleanField()
    database = serializers.ChoiceField(["ok", "unavailable"])
    sweep = serializers.ChoiceField(["ok", "overdue", "unknown"])
    last_sweep_at = serializers.DateTimeField(allow_null=True)
    overdue_tasks = serializers.ListField(child=serializers.CharField())


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How the API's schema tells of keys."""

    target_class = "watchdog_project.authentication.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`Api-Key <prefix>.<secret>`",
        }


class AdminSessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How the API's schema tells of the admin's session."""

    target_class = "watchdog_project.authentication.AdminSessionAuthentication"
    name = "adminSession"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME}


class LockText(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """A lock request's text: no control characters, and more than blanks where one is needed."""

    target_class = "locks.serializers.Text"

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        field = self.target
        visible = (
            r"^[^\x00-\x1f\x7f]+$"
            if field.allow_blank
            else (r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$")
        )
        told: dict[str, Any] = {"type": "string", "pattern": visible}
        if field.max_length is not None:
            told["maxLength"] = field.max_length
        if not field.allow_blank:
            told["minLength"] = 1
        return told


class QueryText(LockText):  # type: ignore[no-untyped-call]
    target_class = "identity.serializers.Word"
