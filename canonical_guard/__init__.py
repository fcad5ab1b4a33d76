"""Robot side of the single-executor guard: standard library only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from canonical_guard.errors import (
    CanonicalMarketAlreadyActive,
    GuardError,
    InvalidConfiguration,
    KillSwitchEngaged,
    LeaseLost,
    LockAuthorityUnavailable,
    MappingDrift,
    UnknownInstrument,
)

if TYPE_CHECKING:
    from canonical_guard.guard import Guard

__all__ = [
    "CanonicalMarketAlreadyActive",
    "Guard",
    "GuardError",
    "InvalidConfiguration",
    "KillSwitchEngaged",
    "LeaseLost",
    "LockAuthorityUnavailable",
    "MappingDrift",
    "UnknownInstrument",
]


def __getattr__(name: str) -> object:
    # A keeper, and a server that only wants the terms, need not load a guard.
    if name == "Guard":
        from canonical_guard.guard import Guard

        return Guard
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
