"""Alerts and their history, what was sent of them to whom, and what operators decided on both."""

from __future__ import annotations

from enum import StrEnum

from django.db import models
from django.db.models import Q

from watchdog_project.alerts.kinds import Severity
from watchdog_project.alerts.lifecycle import State, Step


def _choices(names: type[StrEnum]) -> list[tuple[str, str]]:
    return [(name.value, name.value) for name in names]


SEVERITIES = _choices(Severity)
STATES = _choices(State)


class AlertRule(models.Model):
    """What an operator decided otherwise than the defaults; an empty field is the default."""

    kind = models.CharField(max_length=64, unique=True)
    enabled = models.BooleanField(default=True)
    severity = models.CharField(max_length=16, choices=SEVERITIES, blank=True, default="")
    hold_seconds = models.PositiveIntegerField(
        null=True, blank=True, help_text="how long it must hold before it is an alert"
    )
    renotify_seconds = models.PositiveIntegerField(
        null=True, blank=True, help_text="say that it still holds after so long; 0: never"
    )
    market_hours_only = models.BooleanField(
        null=True, blank=True, help_text="open nothing while the market is known to be closed"
    )

    class Meta:
        ordering = ["kind"]

    def __str__(self) -> str:
        return self.kind


class Alert(models.Model):
    """Something that is wrong, or was: open until its condition is seen to be over."""

    kind = models.CharField(max_length=64)
    market = models.CharField(max_length=16, blank=True, default="")
    scope = models.CharField(max_length=128, blank=True, default="")
    subject = models.CharField(
        max_length=512, blank=True, default="", help_text="a pair of runs, a code, a host"
    )
    state = models.CharField(max_length=16, choices=STATES, default=State.PENDING.value)
    severity = models.CharField(max_length=16, choices=SEVERITIES)
    summary = models.TextField()
    who = models.CharField(max_length=1024, blank=True, default="")
    host = models.CharField(max_length=255, blank=True, default="")
    since = models.DateTimeField(help_text="when the condition began")
    opened_at = models.DateTimeField()
    fired_at = models.DateTimeField(null=True, blank=True)
    resolved_at = models.DateTimeField(null=True, blank=True)
    told_at = models.DateTimeField(
        null=True, blank=True, help_text="when a message of it was written last"
    )
    held_back = models.CharField(
        max_length=512, blank=True, default="", help_text="why it sends no messages"
    )
    quiet_until = models.DateTimeField(null=True, blank=True)
    snoozed_until = models.DateTimeField(null=True, blank=True)
    handled_by = models.CharField(
        max_length=150, blank=True, default="", help_text="who acknowledged or snoozed it"
    )
    handled_reason = models.TextField(blank=True, default="")
    version = models.PositiveIntegerField(default=0, help_text="grows with every change")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "market", "scope", "subject"],
                condition=Q(resolved_at__isnull=True),
                name="one_open_alert",
            ),
        ]
        indexes = [
            # Every look begins with the open ones; they are few among many.
            models.Index(fields=["id"], condition=Q(resolved_at__isnull=True), name="open_alerts"),
            models.Index(fields=["market", "opened_at"], name="alert_by_market"),
            models.Index(fields=["opened_at"], name="alert_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.place}".strip()

    @property
    def place(self) -> str:
        """The market, with its scope where it has one."""
        return f"{self.market}@{self.scope}" if self.scope else self.market


class AlertStep(models.Model):
    """One thing that happened to an alert. While it is owed and not told, somebody must hear of it:
    it was written with the change itself, so that no crash can lose it."""

    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, related_name="steps")
    step = models.CharField(max_length=32, choices=_choices(Step))
    at = models.DateTimeField()
    by = models.CharField(max_length=150, blank=True, default="")
    reason = models.TextField(blank=True, default="")
    owed = models.BooleanField(default=False)
    told_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(
                fields=["id"], condition=Q(owed=True, told_at__isnull=True), name="owed_steps"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.alert} {self.step}"


class Channel(models.Model):
    """Where messages go. The address holds secrets: it is kept encrypted and never shown again."""

    name = models.CharField(max_length=64, unique=True)
    service = models.CharField(max_length=64, editable=False, help_text="what it is, and its host")
    sealed_url = models.TextField(editable=False)
    least_severity = models.CharField(
        max_length=16,
        choices=[one for one in SEVERITIES if one[0] != Severity.QUIET],
        default=Severity.WARNING.value,
        help_text="nothing less severe is sent there",
    )
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField()
    last_sent_at = models.DateTimeField(null=True, blank=True)
    last_error = models.TextField(blank=True, default="")
    last_error_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class DeliveryState(models.TextChoices):
    WAITING = "waiting"
    SENDING = "sending"
    SENT = "sent"
    DEAD = "dead"


class Delivery(models.Model):
    """One message to one channel, until it is sent. Its key is in the message: the same key twice
    is the same message twice."""

    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="deliveries")
    key = models.UUIDField(unique=True, editable=False)
    alerts = models.ManyToManyField(Alert, related_name="deliveries")
    severity = models.CharField(max_length=16, choices=SEVERITIES)
    title = models.CharField(max_length=255)
    body = models.TextField()
    state = models.CharField(max_length=16, choices=DeliveryState, default=DeliveryState.WAITING)
    attempts = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField()
    next_attempt_at = models.DateTimeField()
    claim = models.CharField(max_length=32, blank=True, default="", editable=False)
    claimed_until = models.DateTimeField(null=True, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    last_error = models.TextField(blank=True, default="")

    class Meta:
        verbose_name_plural = "deliveries"
        indexes = [
            models.Index(
                fields=["channel", "next_attempt_at"],
                condition=Q(state__in=["waiting", "sending"]),
                name="deliveries_to_do",
            ),
            models.Index(fields=["created_at"], name="delivery_by_time"),
        ]

    def __str__(self) -> str:
        return self.title


class MaintenanceWindow(models.Model):
    """A time in which a market's alerts are kept but send no messages, emergencies excepted."""

    market = models.CharField(max_length=16, blank=True, default="", help_text="empty: all markets")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    timezone = models.CharField(
        max_length=64, default="America/Chicago", help_text="of the times as they were entered"
    )
    reason = models.TextField()
    emergencies_too = models.BooleanField(default=False, help_text="hold back emergencies as well")
    created_by = models.CharField(max_length=150, blank=True, default="", editable=False)
    ended_early_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["-starts_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(ends_at__gt=models.F("starts_at")), name="a_window_ends_after_it_starts"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.market or 'all markets'}: {self.reason}"
