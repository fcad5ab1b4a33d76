"""All durations of the protocol made shorter together, in the processes of a chaos test only.

A TTL of 15 s and all that goes with it become `ttl` seconds: on the server what the registry says
is multiplied, on the robot's side the durations that do not come with the grant are.
"""

from __future__ import annotations

import importlib
from dataclasses import replace

from canonical_guard.terms import LeaseTerms

PRODUCT = LeaseTerms()
# Module, name: durations of the robot's side in seconds.
GUARD = [
    ("client", "REQUEST_TIMEOUT"),
    ("lease", "REQUEST_TIMEOUT"),
    ("keeper", "POLL_EVERY"),
    ("keeper", "_WHILE_ENDING"),
    ("keeper", "_GUARD_LETS_GO_WITHIN"),
    ("keeper", "_SILENT_GUARD_LETS_GO_WITHIN"),
    ("keeper_link", "DEFAULT_KILL_GRACE"),
    ("guard", "DEFAULT_KILL_GRACE"),
    ("wrapper", "DEFAULT_KILL_GRACE"),
    ("wrapper", "_KEEPER_IS_LATE_AFTER"),
    ("wrapper", "_POLL_WHILE_ENDING"),
    ("renewals", "INTACT_EVERY"),
]


def terms_for(ttl: float) -> LeaseTerms:
    """The product's terms, scaled to any TTL; as they are from 15 s on."""
    factor = ttl / PRODUCT.ttl
    return LeaseTerms(
        ttl=ttl,
        renew_every=PRODUCT.renew_every * factor,
        request_timeout=PRODUCT.request_timeout * min(1.0, factor),
        stop_after=PRODUCT.stop_after * factor,
        kill_after=PRODUCT.kill_after * factor,
        lock_delay=PRODUCT.lock_delay * factor,
    )


def scale_terms() -> None:
    """Let any TTL be scaled, not only 15 to 300 s."""
    LeaseTerms.for_ttl = staticmethod(terms_for)  # type: ignore[method-assign,assignment]


def scale_registry(ttl: float) -> None:
    """The server: a market's TTL in this database, divided by 15 and multiplied by `ttl`."""
    scale_terms()
    from watchdog_project import handover

    original = handover.resolve_market
    factor = ttl / PRODUCT.ttl

    def resolve_market(symbol: str) -> object:
        market = original(symbol)
        return replace(market, ttl=market.ttl * factor)

    handover.resolve_market = resolve_market  # type: ignore[assignment]


def scale_guard(ttl: float) -> None:
    """The robot's side, guard or keeper; a duration that is not there any more is an error."""
    scale_terms()
    factor = ttl / PRODUCT.ttl
    for name, duration in GUARD:
        module = importlib.import_module(f"canonical_guard.{name}")
        setattr(module, duration, getattr(module, duration) * factor)
    client = importlib.import_module("canonical_guard.client")
    timeout = (client.REQUEST_TIMEOUT,)
    for method in (client.Authority.post, client.Authority.get):
        assert method.__defaults__ is not None
        assert len(method.__defaults__) == 1
        method.__defaults__ = timeout
