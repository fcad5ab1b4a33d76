"""One row of every kind that the console shows: a small cast for its pages."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from axes.models import AccessAttempt
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group, User
from django.contrib.contenttypes.models import ContentType
from django.utils import timezone
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)

from identity.models import (
    CanonicalInstrument,
    Claim,
    EventOrigin,
    ExecutionInstrument,
    IdentityEvent,
    IngestError,
    IngestSource,
    InvariantResult,
    LogFolder,
    RobotRun,
    Stream,
    Violation,
    WatchedMarket,
)
from identity.registry import seed_registry
from locks.models import KillSwitch, LockEvent, LockEventType, LockRecord, LockState, Tenure
from watchdog_project.alerts.channels import seal_url
from watchdog_project.alerts.models import (
    Alert,
    AlertRule,
    Channel,
    Delivery,
    MaintenanceWindow,
)
from watchdog_project.models import ApiKey, AuditEntry, Role, SessionDay, TaskHeartbeat, Via

RUN = "run-4711"
MESSAGE = "ORDER_SUBMITTED carries no execution instrument"


def a_registry() -> None:
    seed_registry()
    assert CanonicalInstrument.objects.exists()
    assert ExecutionInstrument.objects.exists()


def a_held_lock(market: str = "ES", now: datetime | None = None) -> LockRecord:
    """MES executes ES; a second run was refused."""
    now = now or timezone.now()
    lock = LockRecord.objects.create(
        name=market,
        state=LockState.HELD,
        fencing_token=7,
        run_id=RUN,
        nonce_hash="5ec4e7" * 10,
        execution_instrument="MES",
        host="trader-1",
        pid=4711,
        acquired_at=now,
        renewed_at=now,
        expires_at=now + timedelta(seconds=15),
    )
    Tenure.objects.create(
        lock=lock,
        fencing_token=7,
        run_id=RUN,
        nonce_hash="5ec4e7" * 10,
        execution_instrument="MES",
        host="trader-1",
        acquired_at=now,
    )
    LockEvent.objects.create(
        type=LockEventType.ALREADY_ACTIVE,
        name=market,
        run_id="run-late",
        host="trader-2",
        fencing_token=7,
        code="CANONICAL_MARKET_ALREADY_ACTIVE",
        at=now,
        last_at=now,
        data={"execution_instrument": "ES"},
    )
    return lock


def a_watched_market(market: str = "ES", *, passed: bool | None, now: datetime) -> WatchedMarket:
    watched = WatchedMarket.objects.create(
        market=market, first_evidence_at=now, evidence_at=now, run_id=RUN
    )
    InvariantResult.objects.create(
        watched=watched,
        origin=EventOrigin.SWEEP,
        passed=passed,
        checked_at=now,
        evidence_at=now,
        changed_at=now,
        run_id=RUN,
        execution_instrument="MES",
        stream_ids=["ES1"],
        violations=[] if passed else [MESSAGE],
    )
    return watched


def a_violation(market: str = "ES", *, now: datetime) -> Violation:
    return Violation.objects.create(
        market=market,
        code="EVENT_IDENTITY_INCOMPLETE",
        subject="ORDER_SUBMITTED",
        message=MESSAGE,
        run_id=RUN,
        sample={"event": "ORDER_SUBMITTED"},
        opened_at=now,
        last_seen_at=now,
    )


def a_stream(now: datetime | None = None) -> RobotRun:
    """ES1 of the run that executes ES."""
    now = now or timezone.now()
    run, _ = RobotRun.objects.get_or_create(
        run_id=RUN,
        defaults={"host": "trader-1", "first_seen_at": now, "last_seen_at": now},
    )
    Stream.objects.get_or_create(
        run=run,
        stream_id="ES1",
        defaults={"market": "ES", "first_seen_at": now, "last_seen_at": now},
    )
    return run


def what_robots_said(now: datetime) -> None:
    folder = LogFolder.objects.create(path="/var/robots/logs", scanned_at=now)
    source = IngestSource.objects.create(
        folder=folder, name="/var/robots/logs/robot_MES.jsonl", fingerprint="f1", accepted=1
    )
    run = a_stream(now)
    Claim.objects.create(
        run=run, market="ES", execution_instrument="MES", first_at=now, last_at=now
    )
    IdentityEvent.objects.create(
        identity_key="k1",
        event_type="ORDER_SUBMITTED",
        market="ES",
        run_id=RUN,
        occurred_at=now,
        received_at=now,
        source=source,
        data={"note": "<script>alert(1)</script>"},
    )
    IngestError.objects.create(
        source=source, code="UNREADABLE", detail="not a JSON object", sample="{", at=now
    )


def an_alert(now: datetime) -> Alert:
    """ES is wrong since now: told over a channel that does not take it, in a window of NQ."""
    alert = Alert.objects.create(
        kind="IDENTITY_VIOLATION",
        market="ES",
        subject="EVENT_IDENTITY_INCOMPLETE",
        state="firing",
        severity="critical",
        summary=MESSAGE,
        who=f"run {RUN} on trader-1",
        since=now,
        opened_at=now,
        fired_at=now,
        told_at=now,
    )
    alert.steps.create(step="fired", at=now, owed=True, told_at=now)
    channel = Channel(name="desk", created_at=now)
    seal_url(channel, "json://127.0.0.1:1/t0p-s3cret")
    channel.save()
    message = Delivery.objects.create(
        channel=channel,
        key=uuid.uuid4(),
        severity="critical",
        title="CRITICAL IDENTITY_VIOLATION ES",
        body=MESSAGE,
        state="dead",
        attempts=150,
        created_at=now,
        next_attempt_at=now,
        last_error="A Connection error occurred.",
    )
    message.alerts.add(alert)
    AlertRule.objects.get_or_create(kind="IDENTITY_VIOLATION")
    MaintenanceWindow.objects.create(
        market="NQ",
        starts_at=now,
        ends_at=now + timedelta(hours=1),
        reason="exchange tests",
        created_by="chief",
    )
    return alert


def everything(now: datetime | None = None) -> None:
    """A broken ES, executed as MES, with a row of every other kind beside it."""
    now = now or datetime.now(UTC)
    a_registry()
    a_held_lock(now=now)
    a_watched_market(passed=False, now=now)
    a_violation(now=now)
    what_robots_said(now)
    an_alert(now)
    KillSwitch.objects.get_or_create(market="")
    AccessAttempt.objects.create(username="guest", ip_address="192.0.2.7", failures_since_start=2)
    AuditEntry.objects.create(
        at=now, actor="operator", via=Via.ADMIN, action="API_KEY_CREATED", subject="trader-1"
    )
    SessionDay.objects.create(calendar_key="CME Globex Equity", day=now.date(), hours="closed")
    TaskHeartbeat.objects.create(
        task="watchdog_project.tasks.sweep_identity", interval=60, finished_at=now
    )


def of_the_libraries(user: User) -> None:
    """One of everything else that has a page: keys, groups, schedules, and what `user` did."""
    group = Group.objects.create(name="desk")
    ApiKey.objects.create(name="reader", prefix="abcd1234", secret_hash="5ec4e7", role=Role.READER)
    interval = IntervalSchedule.objects.create(every=60, period="seconds")
    PeriodicTask.objects.create(name="a task", task="no.such.task", interval=interval)
    CrontabSchedule.objects.create()
    ClockedSchedule.objects.create(clocked_time=datetime.now(UTC))
    SolarSchedule.objects.create(event="sunrise", latitude=41, longitude=-87)
    LogEntry.objects.create(
        user=user,
        content_type=ContentType.objects.get_for_model(Group),
        object_id=str(group.pk),
        object_repr="desk",
        action_flag=CHANGE,
    )
