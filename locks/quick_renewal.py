"""A renewal's body read at a glance: what fifty robots send every five seconds.

Whatever is unusual is left to the serializer, which says what is wrong with it.
"""

from __future__ import annotations

import json
import re
from typing import Any

from locks.leases import CANONICAL_MARKET, Holder, LockId

MAX_BYTES = 4096
MAX_BIGINT = 2**63 - 1
DEMANDED = {"name", "run_id", "nonce", "fencing_token"}
KNOWN = DEMANDED | {"kind", "scope"}

_NONCE = re.compile(r"[0-9A-Fa-f]{32,128}")


def holder_at_a_glance(raw: bytes, key_prefix: str) -> Holder | None:
    """Who renews, where `raw` is a plain body of a canonical market's holder; else None."""
    if len(raw) > MAX_BYTES:
        return None
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict) or not body.keys() <= KNOWN or not body.keys() >= DEMANDED:
        return None
    token, nonce, scope = body["fencing_token"], body["nonce"], body.get("scope", "")
    plain = (
        type(token) is int
        and 0 <= token <= MAX_BIGINT
        and isinstance(nonce, str)
        and _NONCE.fullmatch(nonce)
        and body.get("kind", CANONICAL_MARKET) == CANONICAL_MARKET
        and _is_plain(body["name"])
        and _is_plain(body["run_id"])
        and (scope == "" or _is_plain(scope))
    )
    if not plain:
        return None
    lock = LockId(CANONICAL_MARKET, body["name"], scope)
    return Holder(lock, body["run_id"], nonce, key_prefix, token)


def _is_plain(value: Any) -> bool:
    """Text that no validation would change or refuse."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= 128
        and value.isascii()
        and value.isprintable()
        and value == value.strip()
    )
