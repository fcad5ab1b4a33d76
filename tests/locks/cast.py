"""A small market, its robots, and the passing of time."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from django.db.models import F

from canonical_guard.errors import UnknownInstrument
from locks.acquisition import acquire_lease
from locks.leases import AcquireRequest, Grant, Holder, LockId
from locks.market import MarketTerms
from locks.models import LockEvent, LockRecord, Tenure

ES = LockId("canonical_market", "ES")
CANONICAL = {"MES": "ES", "ES": "ES", "MNQ": "NQ", "NQ": "NQ", "MGC": "GC", "GC": "GC"}


def resolve_market(symbol: str) -> MarketTerms:
    """GC is exclusive per account; NQ's lease lasts a minute."""
    product = symbol.split(" ")[0]
    if product not in CANONICAL:
        raise UnknownInstrument(f"{symbol!r} is not an instrument of the registry.")
    market = CANONICAL[product]
    return MarketTerms(market, product, market == "GC", 60.0 if market == "NQ" else 15.0)


@dataclass
class Robot:
    """One process of a robot, with its guard's credentials."""

    run_id: str
    symbol: str = "MES"
    host: str = "trader-1"
    account: str = ""
    key_prefix: str = "aaaa1111"
    pid: int = 4711
    nonce: str = field(default_factory=lambda: secrets.token_hex(16))

    def request(self, **other: Any) -> AcquireRequest:
        asked = AcquireRequest(
            run_id=self.run_id,
            nonce=self.nonce,
            key_prefix=self.key_prefix,
            host=self.host,
            pid=self.pid,
            boot_id="boot-1",
            execution_instrument=self.symbol,
            canonical_instrument=CANONICAL.get(self.symbol, "?"),
            account=self.account,
            lock_file_path="/robots/runtime_locks/canonical_ES.lock",
        )
        return replace(asked, **other)

    def acquire(self, **other: Any) -> Grant:
        return acquire_lease(self.request(**other), resolve_market)

    def holding(self, grant: Grant, **other: Any) -> Holder:
        held = Holder(grant.lock, self.run_id, self.nonce, self.key_prefix, grant.fencing_token)
        return replace(held, **other)


def pass_time(seconds: float) -> None:
    """Move all that is known back by `seconds`, which is what the passing of time does to it."""
    shift = timedelta(seconds=seconds)
    LockRecord.objects.update(
        **{name: F(name) - shift for name in ("acquired_at", "renewed_at", "expires_at", "free_at")}
    )
    Tenure.objects.update(acquired_at=F("acquired_at") - shift, ended_at=F("ended_at") - shift)


def record(lock: LockId = ES) -> LockRecord:
    return LockRecord.objects.get(kind=lock.kind, name=lock.name, scope=lock.scope)


def event_types() -> list[str]:
    """The lock events' types, oldest first, without the part that all have."""
    found = LockEvent.objects.order_by("id").values_list("type", flat=True)
    return [type_.removeprefix("CANONICAL_MARKET_") for type_ in found]
