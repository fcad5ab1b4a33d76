"""What looks at both apps: who may call the API, and whether the periodic work is alive."""

from __future__ import annotations

from django.db import models

# Django looks for an app's tables in this module; those of the alerts are made in theirs.
from watchdog_project.alerts import models as alerts_models  # noqa: F401


class Role(models.TextChoices):
    READER = "reader"
    ROBOT = "robot"
    OPERATOR = "operator"


class Via(models.TextChoices):
    """By which door an act came."""

    ADMIN = "admin"
    API = "api"
    COMMAND = "command"
    START = "start"


class ApiKey(models.Model):
    """A robot's, reader's or operator's way in. The secret is kept as a hash and shown once."""

    name = models.CharField(max_length=128, unique=True)
    prefix = models.CharField(max_length=16, unique=True, editable=False)
    secret_hash = models.CharField(max_length=64, editable=False)
    role = models.CharField(max_length=16, choices=Role, default=Role.ROBOT)
    markets = models.JSONField(
        default=list, blank=True, help_text="canonical markets that it may lock; none: all"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    rotated_at = models.DateTimeField(null=True, blank=True)
    previous_hash = models.CharField(max_length=64, blank=True, default="", editable=False)
    previous_until = models.DateTimeField(
        null=True, blank=True, help_text="how long the secret before the last rotation is good"
    )
    last_used_at = models.DateTimeField(
        null=True, blank=True, help_text="to within ten minutes, so that a renewal writes nothing"
    )

    class Meta:
        verbose_name = "API key"
        permissions = [("operate", "Can revoke leases and use the kill switch")]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix})"


class AuditEntry(models.Model):
    """A privileged act: who did what, to what, when and why. Written with the act itself.

    Acts on locks and the kill switch are told by LockEvent, those on findings by the finding's own
    row; here is what has no other row that outlives it.
    """

    at = models.DateTimeField()
    actor = models.CharField(max_length=150)
    via = models.CharField(max_length=16, choices=Via)
    action = models.CharField(max_length=64)
    subject = models.CharField(max_length=256)
    reason = models.TextField(blank=True, default="")
    data = models.JSONField(default=dict)

    class Meta:
        verbose_name_plural = "audit entries"
        indexes = [models.Index(fields=["at"], name="audit_by_time")]

    def __str__(self) -> str:
        return f"{self.action} {self.subject}"


class TaskHeartbeat(models.Model):
    """When a periodic task last ran, so that its silence can be seen."""

    task = models.CharField(max_length=128, unique=True)
    interval = models.FloatField(help_text="seconds between two runs")
    expected_since = models.DateTimeField(
        null=True, blank=True, help_text="when a sweep first found it scheduled"
    )
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True, default="")

    def __str__(self) -> str:
        return self.task


class StatusSpan(models.Model):
    """How a market stood for a while, as sweep after sweep saw it; the identity strip shows these.

    Statuses are computed when they are read and leave no trace, STALE above all: without these rows
    nobody could tell tomorrow what the badge said today.
    """

    market = models.CharField(max_length=16, blank=True, default="")
    scope = models.CharField(max_length=128, blank=True, default="")
    status = models.CharField(max_length=16)
    began_at = models.DateTimeField()
    seen_at = models.DateTimeField(help_text="the last sweep that saw it so")

    class Meta:
        indexes = [
            # The dashboard's strips: what was seen within the last day, of all markets.
            models.Index(fields=["seen_at"], name="span_by_time"),
            models.Index(fields=["market", "scope", "seen_at"], name="span_by_market"),
        ]

    def __str__(self) -> str:
        return f"{self.market or '(no market)'} {self.status}"


class SessionDay(models.Model):
    """When the markets of one calendar trade on one day in Chicago.

    The calendar's word is written anew every day; an operator's correction stands above it until he
    withdraws it. A day that is not here is not known, which is not closed.
    """

    calendar_key = models.CharField(max_length=64)
    day = models.DateField()
    hours = models.CharField(
        max_length=128,
        blank=True,
        default="",
        verbose_name="hours of the calendar",
        help_text="as in 00:00-16:00 17:00-24:00, Chicago time; ? marks what is not known",
    )
    written_at = models.DateTimeField(null=True, blank=True)
    corrected_hours = models.CharField(
        max_length=128,
        blank=True,
        default="",
        help_text="Chicago time, as in 00:00-12:00 17:00-24:00, or: closed. Empty: no correction.",
    )
    corrected_by = models.CharField(max_length=150, blank=True, default="")
    corrected_at = models.DateTimeField(null=True, blank=True)
    reason = models.TextField(blank=True, default="", help_text="why, and where it is announced")

    class Meta:
        verbose_name = "market session"
        constraints = [
            models.UniqueConstraint(fields=["calendar_key", "day"], name="one_row_per_session_day"),
        ]
        indexes = [models.Index(fields=["day"], name="session_by_day")]

    def __str__(self) -> str:
        return f"{self.calendar_key} on {self.day:%Y-%m-%d}"
