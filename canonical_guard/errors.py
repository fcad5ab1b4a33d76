"""What can go wrong for a robot that asks for a market, as it sees it."""

from __future__ import annotations

EX_USAGE = 64
EX_UNAVAILABLE = 69
EX_LEASE_LOST = 70
EX_ALREADY_ACTIVE = 75


class GuardError(Exception):
    """Something the guard refuses to go on with; its message is one sentence for an operator.

    `code` is stable and meant for programs; `exit_status` is what the wrapper exits with.
    """

    code = "GUARD_ERROR"
    exit_status = EX_UNAVAILABLE


class InvalidConfiguration(GuardError):
    """The guard was asked for something that makes no sense; nothing was started."""

    code = "INVALID_CONFIGURATION"
    exit_status = EX_USAGE


class UnknownInstrument(GuardError):
    """The symbol names no execution instrument of the registry; it is never guessed."""

    code = "UNKNOWN_INSTRUMENT"
    exit_status = EX_USAGE


class CanonicalMarketAlreadyActive(GuardError):
    """Another run executes this canonical market; this one must not start.

    `active` holds what is known of it: `run_id`, `host`, `execution_instrument`, `since`
    (ISO 8601), `fencing_token`; a value that is not known is None.
    """

    code = "CANONICAL_MARKET_ALREADY_ACTIVE"
    exit_status = EX_ALREADY_ACTIVE

    def __init__(
        self,
        message: str,
        active: dict[str, object] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.active = active or {}
        self.retry_after = retry_after


class LockAuthorityUnavailable(GuardError):
    """Nobody could say that this run may execute the market, so it may not."""

    code = "LOCK_AUTHORITY_UNAVAILABLE"
    exit_status = EX_UNAVAILABLE


class LeaseLost(GuardError):
    """This run no longer holds the market, or cannot prove in time that it does."""

    code = "CANONICAL_MARKET_LOCK_LOST"
    exit_status = EX_LEASE_LOST


class KillSwitchEngaged(GuardError):
    """An operator said: no orders. The market is not lost, but nothing may be sent."""

    code = "KILL_SWITCH_ACTIVE"
    exit_status = EX_UNAVAILABLE


class MappingDrift(GuardError):
    """The guard and the registry disagree about an instrument's canonical market."""

    code = "MAPPING_DRIFT"
    exit_status = EX_UNAVAILABLE


class Unanswered(Exception):
    """No usable answer came in time; whether the request was done is unknown.

    `sent` is False where it certainly never reached the authority.
    """

    def __init__(self, reason: str, *, sent: bool = True) -> None:
        super().__init__(reason)
        self.sent = sent
