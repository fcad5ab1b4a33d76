"""A desk's ordinary day, for pictures of the console: seven markets, one of them in trouble."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils import timezone

from identity.models import (
    EventOrigin,
    IdentityEvent,
    IngestSource,
    InvariantResult,
    LogFolder,
    RobotRun,
    Stream,
    Violation,
    WatchedMarket,
)
from locks.models import (
    KillSwitch,
    LockEvent,
    LockEventType,
    LockRecord,
    LockState,
    Tenure,
    TenureEnd,
)
from watchdog_project.alerts.models import Alert
from watchdog_project.heartbeat import PRUNE, REAP, SWEEP
from watchdog_project.models import StatusSpan, TaskHeartbeat
from watchdog_project.sessions import write_sessions

MESSAGE = "ORDER_SUBMITTED of stream NG1 executes MNQ, which belongs to NQ and not to NG."
# Market, product, host, streams, passed, hours of history (status, from, to).
DESK = (
    ("ES", "MES", "trader-1", 2, True, (("OK", 22, 9.5), ("STALE", 9.5, 9.1), ("OK", 9.1, 0))),
    ("NQ", "MNQ", "trader-1", 2, True, (("OK", 23, 0),)),
    ("NG", "MNG", "trader-2", 1, False, (("OK", 20, 0.6), ("VIOLATION", 0.6, 0))),
    ("CL", "MCL", "trader-2", 1, True, (("OK", 24, 6), ("IDLE", 6, 5), ("OK", 5, 0))),
    ("GC", "MGC", "trader-3", 1, True, (("UNKNOWN", 3, 2.8), ("OK", 2.8, 0))),
    ("YM", "MYM", "trader-3", 1, None, (("UNKNOWN", 0.3, 0),)),
    ("RTY", "M2K", "", 1, True, (("OK", 24, 7), ("IDLE", 7, 0))),
)


def a_desk() -> None:
    """Fill an empty, migrated and seeded database."""
    now = timezone.now()
    KillSwitch.objects.get_or_create(market="")
    for task, seconds in ((SWEEP, 60), (REAP, 15), (PRUNE, 3600)):
        TaskHeartbeat.objects.create(task=task, interval=seconds, finished_at=now)
    today = timezone.localdate()
    # The day's pause in trading, at an hour that no picture is taken at.
    pause = 1 + (timezone.localtime().hour + 4) % 22
    hours = f"00:00-{pause:02}:00 {pause + 1:02}:00-24:00"
    write_sessions(
        now,
        lambda calendar, first, last: {
            today + timedelta(days=days): hours for days in range(-5, 3)
        },
    )
    folder = LogFolder.objects.create(path="/srv/robots/logs", scanned_at=now)
    IngestSource.objects.create(
        folder=folder,
        name="/srv/robots/logs/robot_MES.jsonl",
        fingerprint="f1",
        accepted=18_402,
        last_event_at=now,
    )
    for place, (market, product, host, streams, passed, history) in enumerate(DESK):
        run = _a_run(market, product, host or "trader-3", streams, now, stopped=not host)
        _a_market(market, product, streams, passed, run, history[-1][1], now)
        for status, began, ended in history:
            StatusSpan.objects.create(
                market=market, status=status, began_at=_ago(now, began), seen_at=_ago(now, ended)
            )
        _a_lock(market, product, host, run, place, now)
    _trouble(now)


def _ago(now: datetime, hours: float) -> datetime:
    return now - timedelta(hours=hours)


def _a_run(
    market: str, product: str, host: str, streams: int, now: datetime, *, stopped: bool
) -> RobotRun:
    run = RobotRun.objects.create(
        run_id=f"{market.lower()}-5f3a91c2d7",
        host=host,
        first_seen_at=_ago(now, 9),
        last_seen_at=_ago(now, 7) if stopped else now,
        stopped_at=_ago(now, 7) if stopped else None,
        log=f"/srv/robots/logs/robot_{product}.jsonl",
    )
    for number in range(1, streams + 1):
        Stream.objects.create(
            run=run,
            stream_id=f"{market}{number}",
            market=market,
            canonical_instrument=market,
            execution_instrument=product,
            first_seen_at=_ago(now, 9),
            last_seen_at=now,
        )
    for minutes in range(0, 30, 3):
        at = now - timedelta(minutes=minutes, seconds=7)
        IdentityEvent.objects.create(
            identity_key=f"{market}:{minutes}",
            event_type="STREAM_STATE" if minutes % 2 else "ORDER_SUBMITTED",
            market=market,
            run_id=run.run_id,
            stream_id=f"{market}1",
            occurred_at=at,
            received_at=at,
        )
    return run


def _a_market(
    market: str,
    product: str,
    streams: int,
    passed: bool | None,
    run: RobotRun,
    since: float,
    now: datetime,
) -> None:
    watched = WatchedMarket.objects.create(
        market=market,
        first_evidence_at=_ago(now, 24),
        evidence_at=now,
        evidence_from=run.log,
        run_id=run.run_id,
    )
    InvariantResult.objects.create(
        watched=watched,
        origin=EventOrigin.SWEEP,
        passed=passed,
        checked_at=now,
        evidence_at=now,
        changed_at=_ago(now, since),
        run_id=run.run_id,
        execution_instrument=product,
        stream_ids=[f"{market}{number}" for number in range(1, streams + 1)],
        violations=[] if passed else [MESSAGE],
    )


def _a_lock(market: str, product: str, host: str, run: RobotRun, place: int, now: datetime) -> None:
    token = 40 + place
    lock = LockRecord.objects.create(
        name=market,
        state=LockState.HELD if host else LockState.FREE,
        fencing_token=token,
        run_id=run.run_id,
        execution_instrument=product,
        host=run.host,
        pid=4711 + place,
        acquired_at=_ago(now, 9),
        renewed_at=now,
        # Far enough ahead for a slow machine to take its pictures.
        expires_at=now + timedelta(seconds=15),
        renewals=6480,
    )
    before = {"lock": lock, "nonce_hash": "0" * 64, "execution_instrument": product}
    Tenure.objects.create(
        **before,
        fencing_token=token - 1,
        run_id=f"{market.lower()}-09b1",
        host=run.host,
        acquired_at=_ago(now, 22),
        ended_at=_ago(now, 9.6),
        end=TenureEnd.CRASHED if market == "ES" else TenureEnd.RELEASED,
        renewals=8930,
    )
    Tenure.objects.create(
        **before,
        fencing_token=token,
        run_id=run.run_id,
        host=run.host,
        acquired_at=_ago(now, 9),
        ended_at=None if host else _ago(now, 7),
        end="" if host else TenureEnd.RELEASED,
        takeover=market == "ES",
        renewals=6480,
    )


def _trouble(now: datetime) -> None:
    for kind, market, severity, hours, summary in (
        ("IDENTITY_VIOLATION", "NG", "critical", 0.6, MESSAGE),
        (
            "DUPLICATE_EXECUTOR_BLOCKED",
            "NQ",
            "emergency",
            2.5,
            "Two robots on NQ are alive: MNQ on trader-1 executes it, NQ on trader-4 was refused.",
        ),
    ):
        Alert.objects.create(
            kind=kind,
            market=market,
            severity=severity,
            state="firing" if market == "NG" else "acknowledged",
            handled_by="" if market == "NG" else "operator",
            summary=summary,
            since=_ago(now, hours),
            opened_at=_ago(now, hours),
        )
    Violation.objects.create(
        market="NG",
        code="EXECUTION_NOT_OF_CANONICAL",
        subject="NG1",
        message=MESSAGE,
        run_id="ng-5f3a91c2d7",
        host="trader-2",
        log="/srv/robots/logs/robot_MNG.jsonl",
        count=14,
        runs={"ng-5f3a91c2d7": now.isoformat()},
        sample={
            "event": "ORDER_SUBMITTED",
            "run_id": "ng-5f3a91c2d7",
            "data": {
                "stream": "NG1",
                "canonical_instrument": "NG",
                "execution_instrument": "MNQ",
                "intent_id": "b7c1",
            },
        },
        opened_at=_ago(now, 0.6),
        last_seen_at=now - timedelta(seconds=48),
    )
    Violation.objects.create(
        market="ES",
        code="EVENT_IDENTITY_INCOMPLETE",
        subject="TRADE_CLOSED",
        message="TRADE_CLOSED names no execution instrument.",
        run_id="es-5f3a91c2d7",
        count=3,
        opened_at=_ago(now, 14),
        last_seen_at=_ago(now, 13.8),
        ended_at=_ago(now, 13.7),
        end="mended",
    )
    for type_, market, hours, count, data in (
        (LockEventType.STALE, "ES", 9.6, 1, {"seen_by": "reaper"}),
        (LockEventType.ALREADY_ACTIVE, "ES", 4.0, 2, {"execution_instrument": "ES"}),
        (LockEventType.ALREADY_ACTIVE, "NQ", 2.5, 1, {"execution_instrument": "NQ"}),
    ):
        refused = type_ == LockEventType.ALREADY_ACTIVE
        LockEvent.objects.create(
            type=type_,
            name=market,
            run_id="late-77d0" if refused else "es-09b1",
            host="trader-4" if refused else "trader-1",
            fencing_token=40,
            code="CANONICAL_MARKET_ALREADY_ACTIVE" if refused else "",
            at=_ago(now, hours),
            last_at=_ago(now, hours - 0.01),
            count=count,
            data=data,
        )
