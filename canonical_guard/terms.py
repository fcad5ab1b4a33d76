"""The durations of a lease, on both sides of the wire, and what makes them coherent."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

from canonical_guard.errors import InvalidConfiguration

MIN_TTL = 15
MAX_TTL = 300


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """How long a lease lasts and when its holder acts; all in seconds.

    Counted from the moment the last successful renewal was *sent*: stop trading at `stop_after`,
    be dead at `kill_after`, while the authority grants nobody else before `ttl`.
    """

    ttl: float = 15.0
    renew_every: float = 5.0
    request_timeout: float = 2.0
    stop_after: float = 10.0
    kill_after: float = 12.0
    lock_delay: float = 15.0

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) for value in astuple(self)):
            raise InvalidConfiguration("Lease durations must be finite numbers.")
        if not self.request_timeout > 0 or not self.renew_every > 0:
            raise InvalidConfiguration("Lease durations must be greater than zero.")
        if self.renew_every + 2 * self.request_timeout > self.stop_after:
            raise InvalidConfiguration(
                f"renew_every ({self.renew_every:g} s) plus two requests of "
                f"{self.request_timeout:g} s must fit into stop_after ({self.stop_after:g} s)."
            )
        if not self.stop_after < self.kill_after < self.ttl:
            raise InvalidConfiguration(
                f"stop_after ({self.stop_after:g} s) < kill_after ({self.kill_after:g} s) < "
                f"ttl ({self.ttl:g} s) does not hold."
            )
        if self.lock_delay < 0:
            raise InvalidConfiguration("lock_delay must not be negative.")

    @classmethod
    def for_ttl(cls, ttl: float) -> LeaseTerms:
        """The default terms, scaled to `ttl` seconds (15 to 300; raises InvalidConfiguration)."""
        if not MIN_TTL <= ttl <= MAX_TTL:
            raise InvalidConfiguration(f"A TTL is {MIN_TTL} to {MAX_TTL} seconds, not {ttl:g}.")
        scale = ttl / 15.0
        return cls(
            ttl=ttl,
            renew_every=5.0 * scale,
            request_timeout=2.0,
            stop_after=10.0 * scale,
            kill_after=12.0 * scale,
            lock_delay=ttl,
        )
