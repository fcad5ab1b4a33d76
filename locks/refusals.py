"""The authority's no: which one it is, in words, with its audit event."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.db import Error

from canonical_guard.terms import LeaseTerms
from locks.errors import LockRefused
from locks.execution import Sight, record_refusal
from locks.leases import AcquireRequest, Holder, LockId
from locks.models import KillSwitch, LockEventType, LockRecord, LockState, Tenure

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0


@contextmanager
def failing_closed() -> Iterator[None]:
    """A database that cannot be asked, or not in time, has said no."""
    try:
        yield
    except Error as error:
        logger.warning("The lock authority's database did not answer: %s", error)
        raise unavailable() from error


def unavailable() -> LockRefused:
    return LockRefused(
        "LOCK_AUTHORITY_UNAVAILABLE",
        503,
        "The lock authority could not reach its database in time, so nothing was granted; "
        "try again.",
        retry_after=RETRY_SECONDS,
    )


def refuse_acquire(
    request: AcquireRequest, lock: LockId, refusal: LockRefused, active_token: int = 0
) -> LockRefused:
    """Audit a refused acquire and return what to raise."""
    active = refusal.code in ("CANONICAL_MARKET_ALREADY_ACTIVE", "ALREADY_LOCKED")
    record_refusal(
        _columns(
            LockEventType.ALREADY_ACTIVE if active else LockEventType.FAILED,
            lock,
            request.run_id,
            request.host,
            active_token,
            refusal.code,
        ),
        {
            **refusal.extra,
            "detail": refusal.detail,
            "execution_instrument": request.execution_instrument,
            "account": request.account,
            "pid": request.pid,
            "key_prefix": request.key_prefix,
        },
    )
    return refusal


def why_not_granted(request: AcquireRequest, lock: LockId, sight: Sight) -> LockRefused | None:
    """Why `sight` refuses the request, or None where it does not (any more)."""
    record, now = sight.record, sight.now
    if lock.obeys_kill_switch and not sight.kill_switch_released:
        return kill_switch_active(lock)
    if sight.pair_ended:
        return LockRefused(
            "CANONICAL_MARKET_LOCK_LOST",
            409,
            f"The tenure that this run and nonce had of {lock} is over and never comes back; "
            "start a new run.",
        )
    if record.state == LockState.HELD:
        return already_active(request, lock, record, now)
    if record.state != LockState.FREE and record.free_at is not None and record.free_at > now:
        wait = (record.free_at - now).total_seconds()
        return LockRefused(
            "LOCK_DELAY",
            409,
            f"The last holder of {lock} did not release it, so it is granted again in "
            f"{wait:.1f} s, when nothing can be left of him.",
            {**_named(request, lock), "retry_after": round(wait, 3)},
            retry_after=wait,
        )
    return None


def after_failover(
    request: AcquireRequest, lock: LockId, sight: Sight, terms: LeaseTerms
) -> LockRefused | None:
    """Why nothing is granted yet by a server that may not know what the last one granted."""
    if sight.epoch_began_at is None or sight.grants_after is None:
        return None
    of_this_lock = sight.epoch_began_at + timedelta(seconds=terms.ttl + terms.lock_delay)
    wait = (max(sight.grants_after, of_this_lock) - sight.now).total_seconds()
    if wait <= 0:
        return None
    return LockRefused(
        "LOCK_DELAY",
        409,
        "Another database server took over, which may not know the last grants of the one before, "
        f"so {lock} is granted again in {wait:.1f} s, when these are over.",
        {**_named(request, lock), "retry_after": round(wait, 3)},
        retry_after=wait,
    )


def not_confirmed(sight: Sight) -> LockRefused | None:
    """Why a lease in force is not to be relied on: the server before may have ended it."""
    began, renewed = sight.epoch_began_at, sight.record.renewed_at
    if began is None or (renewed is not None and renewed >= began):
        return None
    return LockRefused(
        "LOCK_AUTHORITY_UNAVAILABLE",
        503,
        "Another database server took over, and the holder has not renewed his lease there yet; "
        "try again.",
        retry_after=RETRY_SECONDS,
    )


def already_active(
    request: AcquireRequest, lock: LockId, record: LockRecord, now: datetime
) -> LockRefused:
    """Says who is active, and when this lease could be granted at the earliest."""
    acquired, expires = record.acquired_at or now, record.expires_at or now
    wait = (expires - now).total_seconds() + max(record.lock_delay, record.ttl)
    extra = {
        **_named(request, lock),
        "active_run_id": record.run_id,
        "active_host": record.host,
        "active_execution_instrument": record.execution_instrument,
        "active_since": acquired.isoformat(),
        "lock_age_seconds": round((now - acquired).total_seconds(), 3),
        "fencing_token": record.fencing_token,
        "retry_after": round(wait, 3),
    }
    who = f"run {record.run_id} on {record.host or 'an unnamed host'}"
    if not lock.obeys_kill_switch:
        return LockRefused("ALREADY_LOCKED", 409, f"{lock} is held by {who}.", extra, wait)
    return LockRefused(
        "CANONICAL_MARKET_ALREADY_ACTIVE",
        409,
        f"{who[0].upper()}{who[1:]} executes {lock} with {record.execution_instrument} since "
        f"{acquired:%Y-%m-%d %H:%M:%S} UTC; stop it first.",
        extra,
        wait,
    )


def kill_switch_active(lock: LockId) -> LockRefused:
    """Names the switch that says no: engaged, or not there."""
    rows = {row.market: row for row in KillSwitch.objects.filter(market__in=["", lock.name])}
    for market, of_what in (("", "all markets"), (lock.name, lock.name)):
        switch = rows.get(market)
        if switch is None:
            detail = (
                f"The kill switch of {of_what} cannot be read, which counts as engaged; "
                "an operator has to set it."
            )
            return LockRefused("KILL_SWITCH_ACTIVE", 423, detail, {"market": market or None})
        if switch.engaged:
            reason = f": {switch.reason}" if switch.reason else ""
            detail = f"The kill switch is engaged for {of_what}{reason}. No orders may be sent."
            return LockRefused("KILL_SWITCH_ACTIVE", 423, detail, {"market": market or None})
    return LockRefused("KILL_SWITCH_ACTIVE", 423, "The kill switch was engaged just now.")


def lock_lost(holder: Holder, nonce_hash: str, sight: Sight | None) -> LockRefused:
    """Audit a refused renewal or release and return what to raise.

    Lost is what this very process once held; who knows only the token never held anything.
    """
    lock = holder.lock
    if sight is None:
        return LockRefused(
            "CANONICAL_MARKET_LOCK_LOST", 409, f"Nobody ever held {lock}; acquire it first."
        )
    tenure = tenure_of(holder, nonce_hash, sight.record)
    refusal = LockRefused(
        "CANONICAL_MARKET_LOCK_LOST", 409, _how_lost(holder, tenure, sight.record)
    )
    record_refusal(
        _columns(
            LockEventType.LOST if tenure else LockEventType.FAILED,
            lock,
            holder.run_id,
            tenure.host if tenure else "",
            holder.fencing_token,
            refusal.code,
        ),
        {"detail": refusal.detail, "key_prefix": holder.key_prefix},
    )
    return refusal


def tenure_of(holder: Holder, nonce_hash: str, record: LockRecord) -> Tenure | None:
    """The tenure that was granted to exactly this holder, over or not."""
    return Tenure.objects.filter(
        lock=record,
        fencing_token=holder.fencing_token,
        run_id=holder.run_id,
        nonce_hash=nonce_hash,
        key_prefix=holder.key_prefix,
    ).first()


def _how_lost(holder: Holder, tenure: Tenure | None, record: LockRecord) -> str:
    mine = f"The lease of {holder.lock} with token {holder.fencing_token}"
    if tenure is None:
        return f"{mine} was not granted to this run, nonce and API key."
    end = f"{mine} is over ({tenure.end})" if tenure.end else f"{mine} is over"
    if record.state == LockState.HELD and record.fencing_token != holder.fencing_token:
        return (
            f"{end}; run {record.run_id} holds it now, with token {record.fencing_token}. "
            "Stop trading."
        )
    return f"{end}. Stop trading."


def _named(request: AcquireRequest, lock: LockId) -> dict[str, Any]:
    if not lock.obeys_kill_switch:
        return {"kind": lock.kind, "name": lock.name, "scope": lock.scope}
    return {
        "kind": lock.kind,
        "scope": lock.scope,
        "canonical_instrument": lock.name,
        "execution_instrument": request.execution_instrument,
    }


def _columns(
    type_: LockEventType, lock: LockId, run_id: str, host: str, token: int, code: str
) -> dict[str, Any]:
    return {
        "type": type_.value,
        "kind": lock.kind,
        "name": lock.name,
        "scope": lock.scope,
        "run_id": run_id,
        "host": host,
        "fencing_token": token,
        "code": code,
    }
