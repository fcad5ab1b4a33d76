"""Who may execute: one permanent row per lock, and the history of who held it."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class LockKind(models.TextChoices):
    CANONICAL_MARKET = "canonical_market"
    PIPELINE_RUN = "pipeline_run"
    LOG_SINK = "log_sink"


class LockState(models.TextChoices):
    FREE = "FREE"
    HELD = "HELD"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"


class TenureEnd(models.TextChoices):
    RELEASED = "released"
    CRASHED = "crashed"
    EXPIRED = "expired"
    REVOKED = "revoked"


class LockEventType(models.TextChoices):
    """What a lock event tells; the names are fixed.

    ACQUIRED, RELEASED, REVOKED: the lease changed hands, in the way the name says.
    STALE: a lease was seen past its end, by the reaper, a contender or its own late holder.
    LOST: a run that once held the lease was refused its renewal.
    ALREADY_ACTIVE: an acquire was refused because another run holds the lease.
    FAILED: a request was refused for any other reason; `code` says which.
    KILL_SWITCH_ACTIVE, KILL_SWITCH_RELEASED: an operator used the switch.
    """

    ACQUIRED = "CANONICAL_MARKET_LOCK_ACQUIRED"
    ALREADY_ACTIVE = "CANONICAL_MARKET_ALREADY_ACTIVE"
    STALE = "CANONICAL_MARKET_LOCK_STALE"
    RELEASED = "CANONICAL_MARKET_LOCK_RELEASED"
    LOST = "CANONICAL_MARKET_LOCK_LOST"
    REVOKED = "CANONICAL_MARKET_LOCK_REVOKED"
    FAILED = "CANONICAL_MARKET_LOCK_FAILED"
    KILL_SWITCH_ACTIVE = "KILL_SWITCH_ACTIVE"
    KILL_SWITCH_RELEASED = "KILL_SWITCH_RELEASED"


class LockRecord(models.Model):
    """The lease of one (kind, name, scope). Never deleted; its fencing token only grows."""

    kind = models.CharField(max_length=32, choices=LockKind, default=LockKind.CANONICAL_MARKET)
    name = models.CharField(max_length=128)
    scope = models.CharField(max_length=128, blank=True, default="")
    state = models.CharField(max_length=16, choices=LockState, default=LockState.FREE)
    fencing_token = models.BigIntegerField(default=0)
    # A default of the database's too: a process of the version before it makes records as well.
    epoch = models.BigIntegerField(
        default=0, db_default=0, help_text="of the last grant; see AuthorityEpoch"
    )

    run_id = models.CharField(max_length=128, blank=True, default="")
    nonce_hash = models.CharField(max_length=64, blank=True, default="", editable=False)
    key_prefix = models.CharField(max_length=16, blank=True, default="")
    execution_instrument = models.CharField(max_length=16, blank=True, default="")
    account = models.CharField(max_length=128, blank=True, default="")
    host = models.CharField(max_length=255, blank=True, default="")
    boot_id = models.CharField(max_length=64, blank=True, default="")
    pid = models.BigIntegerField(null=True, blank=True)
    lock_file_path = models.CharField(max_length=1024, blank=True, default="")

    ttl = models.FloatField(default=15.0, help_text="seconds")
    lock_delay = models.FloatField(default=15.0, help_text="seconds")
    renewals = models.BigIntegerField(default=0)
    takeover = models.BooleanField(default=False)
    dirty = models.BooleanField(
        default=False, help_text="the last tenure did not end in a clean release"
    )
    acquired_at = models.DateTimeField(null=True, blank=True)
    renewed_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    free_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["kind", "name", "scope"], name="one_record_per_lock"),
            models.CheckConstraint(
                condition=Q(fencing_token__gte=0), name="fencing_token_not_negative"
            ),
        ]
        # No index holds a column that a renewal changes: PostgreSQL then updates the row in place,
        # and the table is so small that the reaper reads all of it.

    def __str__(self) -> str:
        return f"{self.name}@{self.scope}" if self.scope else self.name


class Tenure(models.Model):
    """One holder's time with one fencing token."""

    lock = models.ForeignKey(LockRecord, on_delete=models.PROTECT, related_name="tenures")
    fencing_token = models.BigIntegerField()
    run_id = models.CharField(max_length=128)
    nonce_hash = models.CharField(max_length=64, editable=False)
    key_prefix = models.CharField(max_length=16, blank=True, default="")
    execution_instrument = models.CharField(max_length=16, blank=True, default="")
    account = models.CharField(max_length=128, blank=True, default="")
    host = models.CharField(max_length=255, blank=True, default="")
    boot_id = models.CharField(max_length=64, blank=True, default="")
    pid = models.BigIntegerField(null=True, blank=True)
    takeover = models.BooleanField(default=False)
    acquired_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    end = models.CharField(max_length=16, choices=TenureEnd, blank=True, default="")
    renewals = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["lock", "fencing_token"], name="one_tenure_per_token"),
        ]
        indexes = [
            # A pair whose tenure ended is never granted again: asked at every acquire.
            models.Index(fields=["lock", "run_id"], name="tenure_by_run"),
            models.Index(fields=["acquired_at"], name="tenure_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.lock} token {self.fencing_token}"


class LockEvent(models.Model):
    """What happened to a lock, or was refused; written with the change it tells of.

    A refusal (`code` is not empty) that comes again, for the same run and the same holder's
    token, is counted on its first event, so that a run that keeps asking fills no table.
    """

    type = models.CharField(max_length=64, choices=LockEventType)
    kind = models.CharField(max_length=32, choices=LockKind, default=LockKind.CANONICAL_MARKET)
    name = models.CharField(max_length=128, blank=True, default="")
    scope = models.CharField(max_length=128, blank=True, default="")
    run_id = models.CharField(max_length=128, blank=True, default="")
    host = models.CharField(max_length=255, blank=True, default="")
    fencing_token = models.BigIntegerField(
        null=True,
        blank=True,
        help_text="of the tenure it tells of; a refused acquire: the holder's",
    )
    code = models.CharField(
        max_length=64, blank=True, default="", help_text="a refusal's; empty for what was done"
    )
    at = models.DateTimeField()
    count = models.BigIntegerField(default=1, help_text="how often the same refusal was given")
    last_at = models.DateTimeField(help_text="when it was given last")
    data = models.JSONField(default=dict)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "name", "scope", "type", "run_id", "fencing_token", "code"],
                condition=~Q(code=""),
                name="one_event_per_refusal",
            ),
        ]
        indexes = [
            models.Index(fields=["name", "at"], name="lock_event_by_name"),
            models.Index(fields=["at"], name="lock_event_by_time"),
            # Asked every second: who was refused lately. What was done has no code.
            models.Index(fields=["last_at"], condition=~Q(code=""), name="refusal_by_last_time"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.name}"


class AuthorityEpoch(models.Model):
    """Which database server is the authority; one row.

    A server that takes over from another may not know of its last grants. So a new epoch begins:
    nothing is granted until all that the old server granted is over, and each lock's next fencing
    token lies above any that the old server can have given.
    """

    number = models.BigIntegerField(help_text="0 is the first server's")
    server = models.CharField(max_length=128, help_text="cluster, timeline and table, as it says")
    began_at = models.DateTimeField()
    grants_after = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(id=1), name="one_authority_epoch"),
        ]

    def __str__(self) -> str:
        return f"epoch {self.number} on {self.server}"


class KillSwitch(models.Model):
    """Says *no orders*, for one market or, with an empty market, for all of them."""

    market = models.CharField(max_length=16, blank=True, default="", unique=True)
    engaged = models.BooleanField(default=False)
    reason = models.TextField(blank=True, default="")
    changed_by = models.CharField(max_length=150, blank=True, default="")
    changed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "kill switches"

    def __str__(self) -> str:
        return self.market or "all markets"
