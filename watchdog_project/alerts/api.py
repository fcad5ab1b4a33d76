"""Alerts over HTTP: listed for readers, acknowledged and snoozed by operators."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from django.urls import URLPattern, re_path
from django.utils import timezone
from drf_spectacular.utils import (
    OpenApiParameter,
    extend_schema,
    extend_schema_field,
    extend_schema_view,
)
from rest_framework import serializers
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView

from identity.serializers import Moment, Word, YesNo
from locks.api import SmallJSONParser
from locks.serializers import Text
from watchdog_project.alerts.answers import alert_answer
from watchdog_project.alerts.errors import AlertRefused
from watchdog_project.alerts.kinds import Kind, Severity
from watchdog_project.alerts.lifecycle import State
from watchdog_project.alerts.models import Alert
from watchdog_project.alerts.services import acknowledge_alert, snooze_alert

READER, OPERATOR = "reader", "operator"
MAX_REASON = 2000
MAX_ID = 2**63 - 1
NUMBER = OpenApiParameter("id", int, OpenApiParameter.PATH)


class AlertAnswer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    kind = serializers.CharField()
    market = serializers.CharField(help_text="empty: not of one market")
    scope = serializers.CharField()
    subject = serializers.CharField(help_text="what tells it from others of its kind and market")
    severity = serializers.ChoiceField([one.value for one in Severity])
    state = serializers.ChoiceField([one.value for one in State])
    summary = serializers.CharField()
    who = serializers.CharField()
    since = serializers.DateTimeField(help_text="when the condition began")
    fired_at = serializers.DateTimeField(allow_null=True)
    resolved_at = serializers.DateTimeField(allow_null=True)
    told_at = serializers.DateTimeField(
        allow_null=True, help_text="when a message of it was written last"
    )
    held_back = serializers.CharField(help_text="why it sends no messages; empty: it does")
    snoozed_until = serializers.DateTimeField(allow_null=True)
    handled_by = serializers.CharField()
    handled_reason = serializers.CharField()
    what_to_do = serializers.CharField()
    runbook = serializers.CharField()

    def to_representation(self, instance: Any) -> dict[str, Any]:
        return super().to_representation(alert_answer(instance))


class AlertFilter(serializers.Serializer[Any]):
    open = YesNo(required=False, source="resolved_at__isnull")
    state = serializers.ChoiceField([one.value for one in State], required=False)
    kind = serializers.ChoiceField([one.value for one in Kind], required=False)
    severity = serializers.ChoiceField([one.value for one in Severity], required=False)
    market = Word()
    scope = Word()


class AcknowledgeBody(serializers.Serializer[Any]):
    reason = Text(max_length=MAX_REASON)


@extend_schema_field({"type": "string", "format": "date-time"})
class Until(serializers.CharField):
    """Read by the view: which of the well-formed times are no time at all, no schema can say."""


class SnoozeBody(serializers.Serializer[Any]):
    until = Until(max_length=64, help_text="with its zone, and within 30 days")
    reason = Text(max_length=MAX_REASON, required=False, default="No reason was given.")


@extend_schema_view(get=extend_schema(parameters=[AlertFilter]))
class AlertsView(ListAPIView[Any]):
    """Every alert that held for its minimum time, newest first; `open=true` for those of now."""

    required_role: ClassVar[dict[str, str]] = {"GET": READER}
    queryset = Alert.objects.exclude(fired_at__isnull=True)
    serializer_class: type[BaseSerializer[Any]] = AlertAnswer
    filter_class = AlertFilter


class AlertActView(APIView):
    required_role: ClassVar[dict[str, str]] = {"POST": OPERATOR}
    parser_classes = [SmallJSONParser]


class AcknowledgeView(AlertActView):
    """Somebody sees to it: it is not repeated, and its end is still told."""

    @extend_schema(parameters=[NUMBER], request=AcknowledgeBody, responses=AlertAnswer)
    def post(self, request: Request, id: str) -> Response:
        body = AcknowledgeBody(data=request.data)
        body.is_valid(raise_exception=True)
        alert = acknowledge_alert(
            _number(id),
            by=request.auth.name,  # type: ignore[union-attr]
            reason=body.validated_data["reason"],
            now=timezone.now(),
        )
        return Response(AlertAnswer(alert).data)


class SnoozeView(AlertActView):
    """No message until then; where it still holds, it is told again."""

    @extend_schema(parameters=[NUMBER], request=SnoozeBody, responses=AlertAnswer)
    def post(self, request: Request, id: str) -> Response:
        body = SnoozeBody(data=request.data)
        body.is_valid(raise_exception=True)
        alert = snooze_alert(
            _number(id),
            until=_moment(body.validated_data["until"]),
            by=request.auth.name,  # type: ignore[union-attr]
            reason=body.validated_data["reason"],
            now=timezone.now(),
        )
        return Response(AlertAnswer(alert).data)


def _moment(text: str) -> datetime:
    try:
        moment: datetime = Moment().run_validation(text)
    except serializers.ValidationError:
        raise AlertRefused(
            "END_UNREADABLE",
            "Give a time with its zone, as 2026-03-02T16:00:00-06:00 or 2026-03-02T22:00:00Z.",
            422,
        ) from None
    return moment


def _number(alert_id: str) -> int:
    # No database has a row beyond this; SQLite would not even take the number.
    return min(int(alert_id), MAX_ID)


def alert_urls() -> list[URLPattern]:
    """The addresses of alerts, with and without a trailing slash, to be included under `api/`."""
    one = r"^alerts/(?P<id>[0-9]{1,19})"
    return [
        re_path(r"^alerts/?$", AlertsView.as_view(), name="alerts"),
        re_path(one + r"/acknowledge/?$", AcknowledgeView.as_view(), name="alert-acknowledge"),
        re_path(one + r"/snooze/?$", SnoozeView.as_view(), name="alert-snooze"),
    ]
