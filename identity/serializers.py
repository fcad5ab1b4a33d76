"""What identity's requests and lists look like over HTTP; strict, and bounded in size."""

from __future__ import annotations

import re
from datetime import UTC
from typing import Any

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from identity.models import EventOrigin, IdentityEvent, Violation
from identity.runbook import section_of


class Moment(serializers.DateTimeField):
    """An ISO 8601 time with a zone."""

    default_error_messages = {"invalid": "This is not an ISO 8601 time with a zone."}

    def to_internal_value(self, value: Any) -> Any:
        # In a query string an unescaped plus is a blank.
        text = re.sub(r" (\d\d:?\d\d)$", r"+\1", value) if isinstance(value, str) else ""
        if not re.search(r"\d[Tt ]\d.*([Zz]|[+-]\d\d:?\d\d)$", text, re.ASCII):
            self.fail("invalid")
        try:
            # Near the ends of the calendar there is no such time in UTC.
            return super().to_internal_value(text).astimezone(UTC)
        except OverflowError:
            self.fail("invalid")


class Word(serializers.CharField):
    """A query's text: no control characters, and bounded as it was sent."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"required": False, "allow_blank": True, "max_length": 256, **options})

    def to_internal_value(self, data: Any) -> str:
        if len(data) > (self.max_length or len(data)):
            self.fail("max_length", max_length=self.max_length)
        if any(character < " " or character == "\x7f" for character in data):
            raise serializers.ValidationError("Control characters are not allowed.")
        return str(super().to_internal_value(data))


class YesNo(serializers.BooleanField):
    """`true` or `false` in a query, and no other word for them."""

    def to_internal_value(self, data: Any) -> bool:
        if data not in ("true", "false"):
            self.fail("invalid", input=data)
        return bool(data == "true")


class EventFilter(serializers.Serializer[Any]):
    event_type = Word()
    market = Word()
    scope = Word()
    run_id = Word()
    stream_id = Word()
    origin = serializers.ChoiceField(EventOrigin.choices, required=False)
    since = Moment(required=False, source="occurred_at__gte")
    until = Moment(required=False, source="occurred_at__lt")


class ViolationFilter(serializers.Serializer[Any]):
    open = YesNo(required=False, source="ended_at__isnull")
    code = Word()
    market = Word()
    scope = Word()
    subject = Word()


class SymbolQuery(serializers.Serializer[Any]):
    symbol = Word(required=True, allow_blank=False)


# The locks have events too.
@extend_schema_serializer(component_name="IdentityEventRow")
class EventRow(serializers.ModelSerializer[IdentityEvent]):
    """An event; `record` is the line as it was written, `data` its event's own part."""

    data = serializers.SerializerMethodField()  # type: ignore[assignment]
    record = serializers.JSONField(source="data")

    def get_data(self, event: IdentityEvent) -> dict[str, Any]:
        written: dict[str, Any] = event.data
        inner = written.get("data") if event.origin == EventOrigin.ROBOT else None
        return inner if isinstance(inner, dict) else written

    class Meta:
        model = IdentityEvent
        fields = (
            "id",
            "event_type",
            "origin",
            "market",
            "scope",
            "run_id",
            "stream_id",
            "occurred_at",
            "received_at",
            "historical",
            "fencing_token",
            "changed",
            "data",
            "record",
        )


class ViolationRow(serializers.ModelSerializer[Violation]):
    """A violation; `runbook` is the section that tells what to do about it."""

    runbook = serializers.SerializerMethodField()

    def get_runbook(self, violation: Violation) -> str:
        return section_of(violation.code)

    class Meta:
        model = Violation
        fields = (
            "id",
            "code",
            "subject",
            "market",
            "scope",
            "message",
            "count",
            "sample",
            "run_id",
            "log",
            "host",
            "historical",
            "opened_at",
            "last_seen_at",
            "ended_at",
            "end",
            "ended_by",
            "end_reason",
            "accepted_until",
            "accepted_by",
            "accepted_reason",
            "acknowledged_at",
            "acknowledged_by",
            "acknowledged_reason",
            "runbook",
        )


class RejectedRow(serializers.Serializer[Any]):
    index = serializers.IntegerField()
    code = serializers.CharField()
    detail = serializers.CharField()


class IngestAnswer(serializers.Serializer[Any]):
    accepted = serializers.IntegerField()
    duplicates = serializers.IntegerField()
    rejected = RejectedRow(many=True)
    warnings = RejectedRow(many=True)


class ResolvedAnswer(serializers.Serializer[Any]):
    symbol = serializers.CharField()
    execution_instrument = serializers.CharField()
    canonical_instrument = serializers.CharField()
    contract = serializers.CharField(allow_null=True)
