"""Who may execute: how a lease is kept, given back, taken away and found dead.

Each call is a transaction of its own and raises LockRefused where the answer is no; a database that
does not answer in time is a no as well. Call none of them inside another transaction.
"""

from __future__ import annotations

import logging
from datetime import datetime

from django.db import connection
from django.db.models import Q

from locks import execution
from locks.errors import LockRefused
from locks.execution import statements
from locks.leases import CANONICAL_MARKET, Holder, LockId, Renewal, hash_nonce
from locks.models import AuthorityEpoch, LockRecord, LockState, TenureEnd
from locks.refusals import (
    failing_closed,
    kill_switch_active,
    lock_lost,
    not_confirmed,
    tenure_of,
)
from locks.statements import KILL_SWITCH

logger = logging.getLogger(__name__)


def renew_lease(holder: Holder) -> Renewal:
    """Prolong the lease by its TTL, for its holder, while it lasts; raises LockRefused (409, 503).

    An engaged kill switch is told, not acted on: nobody loses his hands on an open position to it.
    It is read without a lock, since it decides nothing here and must not make a renewal wait.
    """
    with failing_closed():
        renewed = execution.run(statements().renew, holder.lock, _of(holder))
        if renewed is None:
            raise _lost(holder)
        return Renewal(
            ttl=renewed["ttl"],
            fencing_token=renewed["fencing_token"],
            renewals=renewed["renewals"],
            kill_switch_active=holder.lock.obeys_kill_switch and not renewed[KILL_SWITCH],
        )


def release_lease(holder: Holder, *, crashed: bool = False) -> bool:
    """Give the lease back; True where this call ended it, False where it was over already.

    `crashed`: nothing of the robot is left, but nobody tidied up after it, so the next holder is
    told to take over. Raises LockRefused (409) for who never held it, or holds other credentials.
    """
    reason = "crashed" if crashed else "clean"
    end = TenureEnd.CRASHED if crashed else TenureEnd.RELEASED
    values = {**_of(holder), "crashed": crashed, "reason": reason, "end": end.value}
    with failing_closed():
        if execution.run(statements().release, holder.lock, values) is not None:
            return True
        # A lease past its end cannot be released any more: who knows what happened meanwhile.
        expire_lease(holder.lock, seen_by=holder.run_id)
        sight = execution.look(holder.lock)
        if sight is not None:
            tenure = tenure_of(holder, hash_nonce(holder.nonce), sight.record)
            if tenure is not None and tenure.ended_at is not None:
                return False
        raise _lost(holder)


def _of(holder: Holder) -> dict[str, object]:
    return {
        "fencing_token": holder.fencing_token,
        "run_id": holder.run_id,
        "nonce_hash": hash_nonce(holder.nonce),
        "key_prefix": holder.key_prefix,
    }


def _lost(holder: Holder) -> LockRefused:
    expire_lease(holder.lock, seen_by=holder.run_id)
    return lock_lost(holder, hash_nonce(holder.nonce), execution.look(holder.lock))


def verify_token(lock: LockId, fencing_token: int) -> None:
    """Return where `fencing_token` is that of the current, unexpired tenure and orders may be sent.

    Raises LockRefused: STALE_FENCING_TOKEN (409), KILL_SWITCH_ACTIVE (423),
    LOCK_AUTHORITY_UNAVAILABLE (503), as after a failover until the next renewal. It says how
    things stood when it was asked; the answer is already old when it arrives.
    """
    with failing_closed():
        sight = execution.look(lock)
        if sight is not None and not sight.server_known:
            execution.begin_epoch()
            sight = execution.look(lock)
        valid = (
            sight is not None
            and sight.columns["state"] == LockState.HELD
            and sight.columns["fencing_token"] == fencing_token
            and not sight.is_overdue
        )
        if sight is None or not valid:
            raise LockRefused(
                "STALE_FENCING_TOKEN",
                409,
                f"Token {fencing_token} is not that of a lease of {lock} in force; "
                "what carries it must not be executed.",
                {"fencing_token": fencing_token},
            )
        if lock.obeys_kill_switch and not sight.kill_switch_released:
            raise kill_switch_active(lock)
        doubt = not_confirmed(sight)
        if doubt is not None:
            raise doubt


def revoke_lease(lock: LockId, fencing_token: int, *, reason: str, by: str) -> LockRecord:
    """Take the lease away from the tenure that the operator saw; raises LockRefused (409).

    The lock delay runs from now, since the holder only hears of it with his next renewal.
    """
    values = {"fencing_token": fencing_token, "reason": reason, "revoked_by": by}
    with failing_closed():
        revoked = execution.run(statements().revoke, lock, values)
        if revoked is not None:
            return execution.as_record(revoked)
        found = execution.look(lock)
    if found is None:
        raise LockRefused("STALE_FENCING_TOKEN", 409, f"Nobody ever held {lock}.")
    record = found.record
    raise LockRefused(
        "STALE_FENCING_TOKEN",
        409,
        f"The lease of {lock} with token {fencing_token} cannot be revoked: the lock is "
        f"{record.state} with token {record.fencing_token} now. Look again.",
        {"fencing_token": record.fencing_token, "state": record.state},
    )


def expire_lease(lock: LockId, *, seen_by: str) -> LockRecord | None:
    """Mark a held lease past its end as expired, and start its lock delay; else None."""
    expired = execution.run(statements().expire, lock, {"seen_by": seen_by})
    return execution.as_record(expired) if expired else None


def reap_expired() -> list[LockRecord]:
    """Expire every held lease past its end; returns those that this call expired."""
    with failing_closed():
        notice_other_server()
        reaped = [expire_lease(lock, seen_by="reaper") for lock in execution.overdue()]
        return [record for record in reaped if record is not None]


def notice_other_server() -> bool:
    """Hold grants from now on where another database server took over; True where it did."""
    begun = execution.begin_epoch()
    if begun:
        logger.warning("The lock authority's database is another server than before.")
    return begun


def distrust_database() -> datetime:
    """The database was restored from a backup, whatever it looks like: hold grants, and let every
    lock's next token be above all that were given; returns until when no lease is granted.
    """
    with failing_closed():
        execution.begin_epoch(always=True)
        return AuthorityEpoch.objects.get().grants_after


def market_under_lease(canonical_instrument: str) -> bool:
    """Whether the market is held, or its lock delay runs, in any scope.

    Until then its products must not be mapped elsewhere, nor its scope rule be changed. Asked
    inside a transaction, no lease of the market is granted until that ends.
    """
    if connection.in_atomic_block:
        execution.withhold_grants(canonical_instrument)
    return (
        LockRecord.objects.filter(kind=CANONICAL_MARKET, name=canonical_instrument)
        .filter(Q(state=LockState.HELD) | Q(free_at__gt=database_now()))
        .exists()
    )


def database_now() -> datetime:
    """The one clock that decides on leases: the database's."""
    return execution.database_now()
