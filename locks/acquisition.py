"""How a lease is granted: the only way into a market."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from canonical_guard.errors import UnknownInstrument
from canonical_guard.terms import LeaseTerms
from locks import execution
from locks.errors import LockRefused
from locks.execution import Sight, statements
from locks.leases import CANONICAL_MARKET, AcquireRequest, Grant, Holder, LockId, hash_nonce
from locks.market import MarketTerms, ResolveMarket
from locks.models import LockState
from locks.refusals import (
    after_failover,
    failing_closed,
    refuse_acquire,
    unavailable,
    why_not_granted,
)
from locks.services import expire_lease, release_lease

ATTEMPTS = 5


def acquire_lease(request: AcquireRequest, resolve_market: ResolveMarket) -> Grant:
    """Grant the lease of a market (or of another kind's name) that nobody holds.

    Asked again with the same run_id and nonce by the same process, before its first renewal and
    within stop time, it gives the same token again: the first answer may have been lost.
    Raises LockRefused: MARKET_NOT_ALLOWED (403), UNKNOWN_INSTRUMENT, MAPPING_DRIFT,
    ACCOUNT_REQUIRED (422), KILL_SWITCH_ACTIVE (423), CANONICAL_MARKET_ALREADY_ACTIVE,
    ALREADY_LOCKED, LOCK_DELAY, CANONICAL_MARKET_LOCK_LOST (409), LOCK_AUTHORITY_UNAVAILABLE (503).
    """
    with failing_closed():
        if request.kind == CANONICAL_MARKET:
            lock, request, terms = _market_of(request, resolve_market)
        else:
            lock, terms = LockId(request.kind, request.name), LeaseTerms()
        for _ in range(ATTEMPTS):
            grant = _try_to_acquire(request, lock, terms)
            if grant is not None:
                break
        else:
            raise unavailable()
        if request.kind == CANONICAL_MARKET:
            _refuse_if_remapped(grant, request, resolve_market)
        return grant


def _refuse_if_remapped(
    grant: Grant, request: AcquireRequest, resolve_market: ResolveMarket
) -> None:
    """The registry may have changed between the look at it and the grant; from now on it cannot."""
    try:
        lock, *_ = _market_of(request, resolve_market)
        if lock == grant.lock:
            return
        drift = LockRefused(
            "MAPPING_DRIFT",
            422,
            f"The registry changed while {request.execution_instrument} asked for {grant.lock}; "
            "try again.",
        )
        refusal = refuse_acquire(request, grant.lock, drift, grant.fencing_token)
    except LockRefused as changed:
        refusal = changed
    holder = Holder(
        grant.lock, request.run_id, request.nonce, request.key_prefix, grant.fencing_token
    )
    # It never reached its robot, so whatever the next one has to know is what this one had.
    release_lease(holder, crashed=grant.takeover)
    raise refusal


def _market_of(
    request: AcquireRequest, resolve_market: ResolveMarket
) -> tuple[LockId, AcquireRequest, LeaseTerms]:
    """Which lock a market's request is about; the registry says so, never the request."""
    nowhere = LockId(CANONICAL_MARKET, "")
    try:
        market = resolve_market(request.execution_instrument)
    except UnknownInstrument as unknown:
        refusal = LockRefused("UNKNOWN_INSTRUMENT", 422, str(unknown))
        raise refuse_acquire(request, nowhere, refusal) from unknown
    lock = LockId(CANONICAL_MARKET, market.canonical_instrument)
    refusal_of = _objection(request, market)
    if refusal_of is not None:
        raise refuse_acquire(request, lock, refusal_of)
    if market.exclusive_per_account:
        lock = replace(lock, scope=request.account)
    request = replace(request, execution_instrument=market.execution_instrument)
    return lock, request, LeaseTerms.for_ttl(market.ttl)


def _objection(request: AcquireRequest, market: MarketTerms) -> LockRefused | None:
    if request.key_markets and market.canonical_instrument not in request.key_markets:
        return LockRefused(
            "MARKET_NOT_ALLOWED",
            403,
            f"The API key {request.key_prefix} may lock {', '.join(sorted(request.key_markets))} "
            f"only, and {market.execution_instrument} executes {market.canonical_instrument}.",
            {"canonical_instrument": market.canonical_instrument},
        )
    claimed = request.canonical_instrument.strip().upper()
    if claimed != market.canonical_instrument:
        return LockRefused(
            "MAPPING_DRIFT",
            422,
            f"{market.execution_instrument} executes {market.canonical_instrument} by the "
            f"registry, but {claimed or 'nothing'} by the guard; make both say the same.",
            {
                "canonical_instrument": market.canonical_instrument,
                "execution_instrument": market.execution_instrument,
                "claimed_canonical_instrument": claimed,
            },
        )
    if market.exclusive_per_account and not request.account:
        return LockRefused(
            "ACCOUNT_REQUIRED",
            422,
            f"{market.canonical_instrument} is exclusive per account; say which account trades.",
            {"canonical_instrument": market.canonical_instrument},
        )
    return None


def _try_to_acquire(request: AcquireRequest, lock: LockId, terms: LeaseTerms) -> Grant | None:
    """Once: the grant; None where the lock has changed under us and another try is due."""
    nonce_hash = hash_nonce(request.nonce)
    granted = execution.run(
        statements().grant,
        lock,
        {
            "run_id": request.run_id,
            "nonce_hash": nonce_hash,
            "key_prefix": request.key_prefix,
            "execution_instrument": request.execution_instrument,
            "account": request.account,
            "host": request.host,
            "boot_id": request.boot_id,
            "pid": request.pid,
            "lock_file_path": request.lock_file_path,
            "ttl": terms.ttl,
            "lock_delay": terms.lock_delay,
            "obeys_kill_switch": lock.obeys_kill_switch,
        },
    )
    if granted is not None:
        return _grant(lock, granted)
    sight = execution.examine(lock, request.run_id, nonce_hash)
    if sight is None:
        execution.create_record(lock)
        return None
    if sight.is_overdue:
        expire_lease(lock, seen_by=request.run_id)
        return None
    if not sight.server_known:
        execution.begin_epoch()
        return None
    refusal = why_not_granted(request, lock, sight) or after_failover(request, lock, sight, terms)
    if refusal is None:
        return None
    if refusal.code != "KILL_SWITCH_ACTIVE" and _is_lost_reply(request, nonce_hash, sight):
        return _grant(lock, sight.columns)
    raise refuse_acquire(request, lock, refusal, sight.record.fencing_token)


def _is_lost_reply(request: AcquireRequest, nonce_hash: str, sight: Sight) -> bool:
    """The same process asks again because it never heard that the lease is its own."""
    record = sight.record
    same = (
        record.run_id == request.run_id
        and record.nonce_hash == nonce_hash
        and record.key_prefix == request.key_prefix
        and record.host == request.host
        and record.pid == request.pid
    )
    if not same or record.state != LockState.HELD or record.renewals or record.acquired_at is None:
        return False
    stop = timedelta(seconds=LeaseTerms.for_ttl(record.ttl).stop_after)
    return sight.now < record.acquired_at + stop


def _grant(lock: LockId, columns: Mapping[str, Any]) -> Grant:
    return Grant(
        lock=lock,
        run_id=columns["run_id"],
        execution_instrument=columns["execution_instrument"],
        fencing_token=columns["fencing_token"],
        takeover=columns["takeover"],
        terms=LeaseTerms.for_ttl(columns["ttl"]),
    )
