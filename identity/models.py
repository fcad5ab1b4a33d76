"""Who is who: the registry, what robots said, and where it broke a rule of identity."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from canonical_guard.terms import MAX_TTL, MIN_TTL


class CanonicalInstrument(models.Model):
    """A logical market. The registry says here what it is exclusive within, and for how long."""

    symbol = models.CharField(max_length=16, unique=True)
    name = models.CharField(max_length=128)
    exchange = models.CharField(max_length=32, blank=True, default="")
    calendar_key = models.CharField(max_length=64, blank=True, default="")
    exclusive_per_account = models.BooleanField(
        default=False,
        help_text="one executor per account instead of one everywhere",
    )
    lease_ttl = models.PositiveSmallIntegerField(
        default=MIN_TTL,
        validators=[MinValueValidator(MIN_TTL), MaxValueValidator(MAX_TTL)],
        help_text="seconds a lease lasts without renewal; the other durations scale with it",
    )

    class Meta:
        ordering = ["symbol"]

    def __str__(self) -> str:
        return self.symbol


class ExecutionInstrument(models.Model):
    """A product that orders go to; it belongs to exactly one canonical market."""

    symbol = models.CharField(max_length=16, unique=True)
    canonical = models.ForeignKey(
        CanonicalInstrument, on_delete=models.PROTECT, related_name="execution_instruments"
    )
    name = models.CharField(max_length=128, blank=True, default="")
    multiplier = models.DecimalField(max_digits=16, decimal_places=6, null=True, blank=True)

    class Meta:
        ordering = ["symbol"]

    def __str__(self) -> str:
        return self.symbol


class LogFolder(models.Model):
    """A folder of robot logs that is followed; its events carry its scope and host."""

    path = models.CharField(max_length=1024, unique=True)
    scope = models.CharField(max_length=128, blank=True, default="")
    host = models.CharField(max_length=255, blank=True, default="")
    active = models.BooleanField(default=True)
    scanned_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True, default="")

    def __str__(self) -> str:
        return self.path


class IngestSource(models.Model):
    """Where events come from and how far it was read: a file by its fingerprint, or HTTP."""

    folder = models.ForeignKey(LogFolder, null=True, blank=True, on_delete=models.SET_NULL)
    name = models.CharField(max_length=1024, help_text="the file's last known path, or the API key")
    fingerprint = models.CharField(max_length=64, unique=True)
    offset = models.BigIntegerField(default=0, help_text="bytes read, up to a line's end")
    last_read = models.CharField(
        max_length=64, blank=True, default="", help_text="hash of the bytes right before the offset"
    )
    accepted = models.BigIntegerField(default=0)
    duplicates = models.BigIntegerField(default=0)
    rejected = models.BigIntegerField(default=0)
    last_event_at = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField(null=True, blank=True)
    pruned_to = models.BigIntegerField(
        default=0, help_text="events of the bytes before this were kept long enough, and pruned"
    )
    pruned_until = models.DateTimeField(
        null=True, blank=True, help_text="the newest time among the pruned events"
    )

    def __str__(self) -> str:
        return self.name


class IngestError(models.Model):
    """A line or body that could not be read, kept as a sample."""

    source = models.ForeignKey(IngestSource, on_delete=models.CASCADE, related_name="errors")
    offset = models.BigIntegerField(null=True, blank=True)
    code = models.CharField(max_length=64)
    detail = models.TextField()
    sample = models.TextField(blank=True, default="")
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.code} in {self.source}"


class RobotRun(models.Model):
    """One start of one robot engine, as far as it was heard of."""

    run_id = models.CharField(max_length=128)
    scope = models.CharField(max_length=128, blank=True, default="")
    host = models.CharField(max_length=255, blank=True, default="")
    account = models.CharField(max_length=128, blank=True, default="")
    log = models.CharField(
        max_length=1024, blank=True, default="", help_text="the folder or sender it writes to"
    )
    first_seen_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    stopped_at = models.DateTimeField(null=True, blank=True, help_text="it said so: a clean stop")
    judged_by = models.CharField(
        max_length=16,
        blank=True,
        default="",
        help_text="the registry that judged all it said",
    )
    heard_at = models.DateTimeField(
        null=True, blank=True, help_text="its newest word that was news when it was read"
    )
    troubles = models.JSONField(
        default=dict, blank=True, help_text="its engine's, data's and connection's, as it told them"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run_id", "scope"], name="one_row_per_run"),
        ]
        indexes = [models.Index(fields=["last_seen_at"], name="run_by_last_seen")]

    def __str__(self) -> str:
        return self.run_id


class Claim(models.Model):
    """A run's claim on a market: it sent orders or ran streams there, over this time."""

    run = models.ForeignKey(RobotRun, on_delete=models.CASCADE, related_name="claims")
    market = models.CharField(max_length=16)
    scope = models.CharField(max_length=128, blank=True, default="")
    execution_instrument = models.CharField(max_length=64, blank=True, default="")
    fencing_token = models.BigIntegerField(
        null=True, blank=True, help_text="the newest one it acted with"
    )
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "market", "scope"], name="one_claim_per_run"),
        ]
        indexes = [models.Index(fields=["market", "scope", "last_at"], name="claim_by_market")]

    def __str__(self) -> str:
        return f"{self.run} on {self.market}"


class Stream(models.Model):
    """A stream a run named, with the instruments it said belong to it."""

    run = models.ForeignKey(RobotRun, on_delete=models.CASCADE, related_name="streams")
    stream_id = models.CharField(max_length=128, blank=True, default="")
    market = models.CharField(max_length=16, blank=True, default="")
    scope = models.CharField(max_length=128, blank=True, default="")
    instrument = models.CharField(max_length=64, blank=True, default="")
    canonical_instrument = models.CharField(max_length=64, blank=True, default="")
    execution_instrument = models.CharField(max_length=64, blank=True, default="")
    first_seen_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "stream_id"], name="one_row_per_stream"),
        ]
        indexes = [models.Index(fields=["market", "scope"], name="stream_by_market")]

    def __str__(self) -> str:
        return self.stream_id or "(no stream id)"


class EventOrigin(models.TextChoices):
    ROBOT = "robot"
    SWEEP = "sweep"


class IdentityEvent(models.Model):
    """One event of a robot, or one of the watchdog's own results; each counted exactly once."""

    identity_key = models.CharField(max_length=64, unique=True, editable=False)
    origin = models.CharField(max_length=8, choices=EventOrigin, default=EventOrigin.ROBOT)
    event_type = models.CharField(max_length=128)
    market = models.CharField(max_length=16, blank=True, default="")
    scope = models.CharField(max_length=128, blank=True, default="")
    run_id = models.CharField(max_length=128, blank=True, default="")
    stream_id = models.CharField(max_length=128, blank=True, default="")
    occurred_at = models.DateTimeField()
    received_at = models.DateTimeField()
    historical = models.BooleanField(
        default=False, help_text="older than 10 minutes when it was read"
    )
    source = models.ForeignKey(IngestSource, null=True, blank=True, on_delete=models.SET_NULL)
    offset = models.BigIntegerField(null=True, blank=True)
    fencing_token = models.BigIntegerField(null=True, blank=True)
    changed = models.BooleanField(
        default=False, help_text="a result that differs from the one before it"
    )
    data = models.JSONField(default=dict)

    class Meta:
        indexes = [
            models.Index(fields=["occurred_at", "id"], name="event_by_time"),
            models.Index(fields=["market", "occurred_at"], name="event_by_market"),
            models.Index(fields=["event_type", "occurred_at"], name="event_by_type"),
            models.Index(fields=["run_id", "occurred_at"], name="event_by_run"),
            # What retention looks for every hour: results that said the same as before.
            models.Index(
                fields=["occurred_at"],
                condition=Q(origin=EventOrigin.SWEEP, changed=False),
                name="unchanged_results",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event_type} {self.market}".strip()


class ViolationEnd(models.TextChoices):
    MENDED = "mended"
    OPERATOR = "operator"


class Violation(models.Model):
    """One breach of one invariant, open until it is seen to be mended."""

    market = models.CharField(max_length=16, blank=True, default="")
    scope = models.CharField(max_length=128, blank=True, default="")
    code = models.CharField(max_length=64)
    subject = models.CharField(
        max_length=256, blank=True, default="", help_text="event name, stream id or run"
    )
    message = models.TextField()
    run_id = models.CharField(max_length=128, blank=True, default="")
    log = models.CharField(max_length=1024, blank=True, default="")
    host = models.CharField(max_length=255, blank=True, default="")
    historical = models.BooleanField(default=False, help_text="known from old logs only")
    runs = models.JSONField(
        default=dict, help_text="each run that broke it -> when it last did; all must mend it"
    )
    count = models.BigIntegerField(default=1)
    sample = models.JSONField(default=dict)
    opened_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    end = models.CharField(max_length=16, choices=ViolationEnd, blank=True, default="")
    ended_by = models.CharField(max_length=150, blank=True, default="")
    end_reason = models.TextField(blank=True, default="")
    accepted_until = models.DateTimeField(null=True, blank=True)
    accepted_by = models.CharField(max_length=150, blank=True, default="")
    accepted_reason = models.TextField(blank=True, default="")
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.CharField(max_length=150, blank=True, default="")
    acknowledged_reason = models.TextField(blank=True, default="")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["market", "scope", "code", "subject"],
                condition=Q(ended_at__isnull=True),
                name="one_open_violation",
            ),
        ]
        indexes = [models.Index(fields=["market", "scope", "ended_at"], name="violation_by_market")]

    def __str__(self) -> str:
        return f"{self.code} {self.subject}".strip()


class WatchedMarket(models.Model):
    """A market there is evidence of, until an operator forgets it."""

    market = models.CharField(max_length=16, blank=True, default="")
    scope = models.CharField(max_length=128, blank=True, default="")
    first_evidence_at = models.DateTimeField()
    evidence_at = models.DateTimeField()
    evidence_from = models.CharField(
        max_length=1024, blank=True, default="", help_text="where the newest evidence was read"
    )
    historical = models.BooleanField(default=False, help_text="known from old logs only")
    run_id = models.CharField(
        max_length=128, blank=True, default="", help_text="the newest run that claimed it"
    )
    forgotten_at = models.DateTimeField(null=True, blank=True)
    forgotten_by = models.CharField(max_length=150, blank=True, default="")
    forgotten_reason = models.TextField(blank=True, default="")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["market", "scope"], name="one_row_per_market"),
        ]

    def __str__(self) -> str:
        return f"{self.market or '(no market)'}{'@' + self.scope if self.scope else ''}"


class InvariantResult(models.Model):
    """The newest IDENTITY_INVARIANTS_STATUS of a market, from the sweep and from robots apart."""

    watched = models.ForeignKey(WatchedMarket, on_delete=models.CASCADE, related_name="results")
    origin = models.CharField(max_length=8, choices=EventOrigin)
    passed = models.BooleanField(null=True)
    checked_at = models.DateTimeField()
    evidence_at = models.DateTimeField(null=True, blank=True)
    changed_at = models.DateTimeField()
    run_id = models.CharField(max_length=128, blank=True, default="")
    execution_instrument = models.CharField(max_length=64, blank=True, default="")
    stream_ids = models.JSONField(default=list)
    violations = models.JSONField(default=list)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["watched", "origin"], name="one_result_per_origin"),
        ]

    def __str__(self) -> str:
        return f"{self.watched} {self.origin}: {self.passed}"
