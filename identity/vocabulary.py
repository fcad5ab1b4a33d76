"""The names of events that identity acts on. Pure."""

from __future__ import annotations

INVARIANTS_STATUS = "IDENTITY_INVARIANTS_STATUS"
SELF_TEST = "CANONICALIZATION_SELF_TEST"
ENGINE_START = "ENGINE_START"
ENGINE_STOP = "ENGINE_STOP"
DUPLICATE_INSTANCE = "DUPLICATE_INSTANCE_DETECTED"

# An event named like this carries both identities, or breaks EVENT_IDENTITY_INCOMPLETE.
IDENTITY_PREFIXES = ("ORDER_", "EXECUTION_", "INTENT_", "PROTECTIVE_", "STREAM_", "TRADE_")
# Orders, fills and streams claim a market; an intent is not yet one of them.
CLAIM_PREFIXES = ("ORDER_", "EXECUTION_", "PROTECTIVE_", "STREAM_", "TRADE_")
STREAM_PREFIX = "STREAM_"


def carries_identity(event_type: str) -> bool:
    return event_type.startswith(IDENTITY_PREFIXES)


def claims_market(event_type: str) -> bool:
    return event_type.startswith(CLAIM_PREFIXES)
