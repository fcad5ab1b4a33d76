"""What the schema says of each address beyond its fields: every refusal it can give, and examples.

The refusals are held against the server by the schema's own test: a code that is not listed here is
an undocumented answer there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Json = Any


@dataclass(frozen=True, slots=True)
class Refusal:
    """A code, its status, and a sentence as the server says it."""

    status: int
    detail: str
    more: dict[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Address:
    """One method of one address."""

    tag: str
    summary: str
    refusals: tuple[str, ...] = ()
    request: Json = None
    answer: Json = None
    keyed: bool = True


TAGS = {
    "locks": "Who may execute: leases with fencing tokens, their tenures and events.",
    "kill switch": "*No orders*, for one market or for all.",
    "events": "What robots report, and what was made of it.",
    "identity": "Who is who: violations, and what a symbol means.",
    "status": "How every watched market stands.",
    "alerts": "What is wrong now, and who knows of it.",
    "service": "The process itself, and this description.",
}

REFUSALS = {
    "NOT_AUTHENTICATED": Refusal(
        401,
        "This address needs an API key, sent as `Authorization: Api-Key <prefix>.<secret>`, "
        "or the admin's session.",
    ),
    "INVALID_API_KEY": Refusal(
        401,
        "This API key is not known, or is over, or was revoked: check that it is whole, "
        "<prefix>.<secret>, or ask an operator for a new one.",
    ),
    "FORBIDDEN": Refusal(403, "POST here needs the role operator; 'trader-1' has the role robot."),
    "NOT_FOUND": Refusal(404, "This cursor is not one that a page gave out."),
    "METHOD_NOT_ALLOWED": Refusal(405, 'Method "PUT" not allowed.'),
    "NOT_ACCEPTABLE": Refusal(406, "Could not satisfy the request Accept header."),
    "UNSUPPORTED_MEDIA_TYPE": Refusal(415, 'Unsupported media type "text/plain" in request.'),
    "TOO_MANY_REQUESTS": Refusal(429, "Request was throttled. Expected available in 1 second."),
    "BAD_REQUEST": Refusal(
        400, "The request itself is not acceptable: its host, its headers or its size."
    ),
    "INVALID_QUERY": Refusal(400, "page_size: A page has 1 to 1000 rows."),
    "INVALID_BODY": Refusal(400, "run_id: This field is required."),
    "MALFORMED_BODY": Refusal(400, "It is not JSON that can be relied on: a key is given twice"),
    "BODY_TOO_LARGE": Refusal(413, "A request here has at most 65536 bytes."),
    "TOO_MANY_EVENTS": Refusal(413, "At most 1000 events are posted at once; send them in parts."),
    "INTERNAL_ERROR": Refusal(
        500, "The server failed at this request; it was logged, and nothing was granted."
    ),
    "DATABASE_UNAVAILABLE": Refusal(
        503, "The database does not answer, so nothing was done; try again."
    ),
    "LOCK_AUTHORITY_UNAVAILABLE": Refusal(
        503,
        "The lock authority could not reach its database in time, so nothing was granted; "
        "try again.",
    ),
    "MARKET_NOT_ALLOWED": Refusal(
        403,
        "The API key 3f9c01ab may lock NQ only, and MES executes ES.",
        {"canonical_instrument": "ES"},
    ),
    "CANONICAL_MARKET_ALREADY_ACTIVE": Refusal(
        409,
        "Run 0f9c on trader-1 executes ES with MES since 2026-03-02 15:00:00 UTC; stop it first.",
        {
            "kind": "canonical_market",
            "scope": "",
            "canonical_instrument": "ES",
            "execution_instrument": "ES",
            "active_run_id": "0f9c",
            "active_host": "trader-1",
            "active_execution_instrument": "MES",
            "active_since": "2026-03-02T15:00:00+00:00",
            "lock_age_seconds": 61.2,
            "fencing_token": 42,
            "retry_after": 28.4,
        },
    ),
    "ALREADY_LOCKED": Refusal(
        409,
        "nightly is held by run 0f9c on trader-1.",
        {"kind": "pipeline_run", "name": "nightly", "scope": "", "retry_after": 28.4},
    ),
    "LOCK_DELAY": Refusal(
        409,
        "The last holder of ES did not release it, so it is granted again in 11.3 s, when nothing "
        "can be left of him.",
        {"canonical_instrument": "ES", "execution_instrument": "MES", "retry_after": 11.3},
    ),
    "CANONICAL_MARKET_LOCK_LOST": Refusal(
        409, "The lease of ES with token 42 is over (expired). Stop trading."
    ),
    "STALE_FENCING_TOKEN": Refusal(
        409,
        "Token 41 is not that of a lease of ES in force; what carries it must not be executed.",
        {"fencing_token": 41},
    ),
    "UNKNOWN_INSTRUMENT": Refusal(
        422, "'MEZ' is not an instrument of the registry; the nearest are MES, MET."
    ),
    "MAPPING_DRIFT": Refusal(
        422,
        "MES executes ES by the registry, but NQ by the guard; make both say the same.",
        {
            "canonical_instrument": "ES",
            "execution_instrument": "MES",
            "claimed_canonical_instrument": "NQ",
        },
    ),
    "ACCOUNT_REQUIRED": Refusal(
        422,
        "GC is exclusive per account; say which account trades.",
        {"canonical_instrument": "GC"},
    ),
    "KILL_SWITCH_ACTIVE": Refusal(
        423,
        "The kill switch is engaged for all markets: news. No orders may be sent.",
        {"market": None},
    ),
    "NO_SUCH_ALERT": Refusal(404, "There is no alert 4711."),
    "NOT_OPEN": Refusal(409, "This alert is resolved already."),
    "END_NOT_AHEAD": Refusal(422, "The end of a snooze lies ahead."),
    "END_UNREADABLE": Refusal(
        422, "Give a time with its zone, as 2026-03-02T16:00:00-06:00 or 2026-03-02T22:00:00Z."
    ),
    "END_TOO_FAR": Refusal(422, "A snooze ends within 30 days."),
}
# The same code, where an address says it with another status.
ELSEWHERE = {("UNKNOWN_INSTRUMENT", "/api/watchdog"): 404}

ALWAYS = ("BAD_REQUEST", "METHOD_NOT_ALLOWED", "INTERNAL_ERROR")
KEYED = (
    "NOT_AUTHENTICATED", "INVALID_API_KEY", "FORBIDDEN", "TOO_MANY_REQUESTS",
    "DATABASE_UNAVAILABLE",
)  # fmt: skip
QUERIED = ("INVALID_QUERY", "NOT_FOUND")
POSTED = ("INVALID_BODY", "MALFORMED_BODY", "BODY_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE")
OF_LOCKS = ("LOCK_AUTHORITY_UNAVAILABLE",)

_HELD = {
    "kind": "canonical_market",
    "name": "ES",
    "scope": "",
    "run_id": "0f9c",
    "nonce": "00112233445566778899aabbccddeeff",
    "fencing_token": 42,
}
_TOKEN = {"kind": "canonical_market", "name": "ES", "scope": "", "fencing_token": 42}
_EVENT = {
    "ts_utc": "2026-03-02T15:00:00Z",
    "event": "ORDER_SUBMITTED",
    "run_id": "0f9c",
    "canonical_instrument": "ES",
    "execution_instrument": "MES",
    "stream_id": "ES1",
    "data": {"order": "buy 1"},
}

ADDRESSES: dict[tuple[str, str], Address] = {
    ("POST", "/api/locks/acquire"): Address(
        "locks",
        "Ask for a lease",
        (
            *POSTED,
            *OF_LOCKS,
            "MARKET_NOT_ALLOWED",
            "CANONICAL_MARKET_ALREADY_ACTIVE",
            "ALREADY_LOCKED",
            "LOCK_DELAY",
            "CANONICAL_MARKET_LOCK_LOST",
            "UNKNOWN_INSTRUMENT",
            "MAPPING_DRIFT",
            "ACCOUNT_REQUIRED",
            "KILL_SWITCH_ACTIVE",
        ),
        {
            "execution_instrument": "MES 03-26",
            "canonical_instrument": "ES",
            "run_id": "0f9c",
            "nonce": "00112233445566778899aabbccddeeff",
            "account": "Sim101",
            "host": "trader-1",
            "boot_id": "b2f1",
            "pid": 4711,
            "lock_file_path": "/robots/runtime_locks/canonical_ES.lock",
        },
        {
            "kind": "canonical_market",
            "name": "ES",
            "scope": "",
            "canonical_instrument": "ES",
            "execution_instrument": "MES",
            "run_id": "0f9c",
            "fencing_token": 42,
            "ttl": 15,
            "renew_every": 5,
            "stop_after": 10,
            "kill_after": 12,
            "takeover": False,
        },
    ),
    ("POST", "/api/locks/renew"): Address(
        "locks",
        "Prolong a lease",
        (*POSTED, *OF_LOCKS, "CANONICAL_MARKET_LOCK_LOST"),
        _HELD,
        {"ttl": 15, "fencing_token": 42, "renewals": 7, "kill_switch_active": False},
    ),
    ("POST", "/api/locks/release"): Address(
        "locks",
        "Give a lease back",
        (*POSTED, *OF_LOCKS, "CANONICAL_MARKET_LOCK_LOST"),
        {**_HELD, "reason": "clean"},
        {"released": True, "was_holder": True},
    ),
    ("POST", "/api/locks/verify"): Address(
        "locks",
        "Ask whether a fencing token is in force",
        (*POSTED, *OF_LOCKS, "STALE_FENCING_TOKEN", "KILL_SWITCH_ACTIVE"),
        _TOKEN,
        {"valid": True},
    ),
    ("POST", "/api/locks/revoke"): Address(
        "locks",
        "Take a lease away",
        (*POSTED, *OF_LOCKS, "STALE_FENCING_TOKEN"),
        {**_TOKEN, "reason": "wrong account"},
    ),
    ("GET", "/api/locks"): Address("locks", "List locks", (*QUERIED, *OF_LOCKS)),
    ("GET", "/api/locks/tenures"): Address("locks", "List tenures", (*QUERIED, *OF_LOCKS)),
    ("GET", "/api/locks/events"): Address("locks", "List lock events", (*QUERIED, *OF_LOCKS)),
    ("GET", "/api/kill-switch"): Address("kill switch", "Look at the switches", OF_LOCKS),
    ("POST", "/api/kill-switch"): Address(
        "kill switch",
        "Stop or allow orders",
        (*POSTED, *OF_LOCKS, "UNKNOWN_INSTRUMENT"),
        {"engaged": True, "market": "ES", "reason": "fat finger"},
        {
            "market": "ES",
            "engaged": True,
            "reason": "fat finger",
            "changed_by": "desk",
            "changed_at": "2026-03-02T09:00:00-06:00",
        },
    ),
    ("POST", "/api/events"): Address(
        "events",
        "Report events",
        ("MALFORMED_BODY", "BODY_TOO_LARGE", "TOO_MANY_EVENTS", "UNSUPPORTED_MEDIA_TYPE"),
        [_EVENT],
        {"accepted": 1, "duplicates": 0, "rejected": [], "warnings": []},
    ),
    ("GET", "/api/events"): Address("events", "List events", QUERIED),
    ("GET", "/api/identity/violations"): Address("identity", "List violations", QUERIED),
    ("GET", "/api/identity/resolve"): Address(
        "identity",
        "Say what a symbol means",
        ("INVALID_QUERY", "UNKNOWN_INSTRUMENT"),
        None,
        {
            "symbol": "MES 03-26",
            "execution_instrument": "MES",
            "canonical_instrument": "ES",
            "contract": "2026-03",
        },
    ),
    ("GET", "/api/watchdog/status"): Address(
        "status", "Tell how the markets stand", ("INVALID_QUERY", "UNKNOWN_INSTRUMENT")
    ),
    ("GET", "/api/watchdog/badge.svg"): Address(
        "status", "Show the badge", ("INVALID_QUERY", "UNKNOWN_INSTRUMENT")
    ),
    ("GET", "/api/alerts"): Address("alerts", "List alerts", QUERIED),
    ("POST", "/api/alerts/{id}/acknowledge"): Address(
        "alerts",
        "Acknowledge an alert",
        (*POSTED, "NOT_FOUND", "NO_SUCH_ALERT", "NOT_OPEN"),
        {"reason": "I see to it"},
    ),
    ("POST", "/api/alerts/{id}/snooze"): Address(
        "alerts",
        "Snooze an alert",
        (
            *POSTED,
            "NOT_FOUND",
            "NO_SUCH_ALERT",
            "NOT_OPEN",
            "END_UNREADABLE",
            "END_NOT_AHEAD",
            "END_TOO_FAR",
        ),
        {"until": "2026-03-02T22:00:00Z", "reason": "the exchange tests"},
    ),
    ("GET", "/metrics"): Address("service", "How things stand, for Prometheus"),
    ("GET", "/healthz"): Address("service", "Whether the process answers", keyed=False),
    ("GET", "/readyz"): Address("service", "Whether it can do its work", keyed=False),
}
