"""What is asked of the lock authority, and what it answers: plain values."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from canonical_guard.terms import LeaseTerms

CANONICAL_MARKET = "canonical_market"


@dataclass(frozen=True, slots=True)
class LockId:
    """Which lock: at most one holder at a time for each (kind, name, scope)."""

    kind: str
    name: str
    scope: str = ""

    def __str__(self) -> str:
        return f"{self.name}@{self.scope}" if self.scope else self.name

    @property
    def obeys_kill_switch(self) -> bool:
        """The switch says *no orders*; jobs and log writers send none."""
        return self.kind == CANONICAL_MARKET


@dataclass(frozen=True, slots=True)
class AcquireRequest:
    """One process asks for a lease.

    Of a canonical market it names the `execution_instrument`, in any notation, and its own opinion
    of the `canonical_instrument`; of any other kind the lock's `name`. `nonce` is 128 random bits
    in hex, made once per process; `key_prefix` names the API key that the request came with, and
    `key_markets` are the only markets that the key may lock, where there are any.
    """

    run_id: str
    nonce: str = field(repr=False)
    key_prefix: str
    host: str
    key_markets: frozenset[str] = frozenset()
    pid: int | None = None
    boot_id: str = ""
    kind: str = CANONICAL_MARKET
    name: str = ""
    execution_instrument: str = ""
    canonical_instrument: str = ""
    account: str = ""
    lock_file_path: str = ""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who says that he holds `lock`: all of it must be as it was when the lease was granted."""

    lock: LockId
    run_id: str
    nonce: str = field(repr=False)
    key_prefix: str
    fencing_token: int


@dataclass(frozen=True, slots=True)
class Grant:
    """The lease is the caller's; durations in seconds, from when he sent the request."""

    lock: LockId
    run_id: str
    execution_instrument: str
    fencing_token: int
    takeover: bool
    terms: LeaseTerms


@dataclass(frozen=True, slots=True)
class Renewal:
    """The lease lasts `ttl` seconds more, from when the holder sent the request."""

    ttl: float
    fencing_token: int
    renewals: int
    kill_switch_active: bool


def hash_nonce(nonce: str) -> str:
    """What is kept of a nonce. 128 random bits need no slow hash: there is nothing to guess."""
    return hashlib.sha256(nonce.encode()).hexdigest()
