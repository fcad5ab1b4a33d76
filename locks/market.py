"""What the lock authority must be told of a market; the registry itself is not its business."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MarketTerms:
    """A registered market as a lease sees it; `ttl` in seconds."""

    canonical_instrument: str
    execution_instrument: str
    exclusive_per_account: bool
    ttl: float


ResolveMarket = Callable[[str], MarketTerms]
"""Execution instrument in any notation -> terms; raises canonical_guard's UnknownInstrument."""
