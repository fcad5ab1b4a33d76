"""What there is to be alerted of: every kind's defaults, in one table. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

# After the open, robots and data need a moment before their silence means anything.
SESSION_GRACE = timedelta(minutes=5)
# What asked, or was refused, longer ago than this is over; what was read later is history.
QUIET_AFTER = timedelta(minutes=10)


class Severity(StrEnum):
    """Worst first. A quiet alert is shown and kept, and sends no message."""

    EMERGENCY = "emergency"
    CRITICAL = "critical"
    WARNING = "warning"
    QUIET = "quiet"


RANK = {severity: rank for rank, severity in enumerate(Severity)}


class Kind(StrEnum):
    """Each is a condition, a default rule and a section of the runbook."""

    DUPLICATE_EXECUTOR_BLOCKED = "DUPLICATE_EXECUTOR_BLOCKED"
    DUPLICATE_EXECUTOR = "DUPLICATE_EXECUTOR"
    STALE_TOKEN_USED = "STALE_TOKEN_USED"  # noqa: S105 the name of an alert
    DUPLICATE_INSTANCE_DETECTED = "DUPLICATE_INSTANCE_DETECTED"
    RESTART_WAITING = "RESTART_WAITING"
    IDENTITY_VIOLATION = "IDENTITY_VIOLATION"
    IDENTITY_STALE = "IDENTITY_STALE"
    LOCK_STALE = "LOCK_STALE"
    LEASE_LOST = "LEASE_LOST"
    KILL_SWITCH_ENGAGED = "KILL_SWITCH_ENGAGED"
    HOST_SILENT = "HOST_SILENT"
    ROBOT_SILENT = "ROBOT_SILENT"
    ENGINE_STALLED = "ENGINE_STALLED"
    DATA_STALLED = "DATA_STALLED"
    CONNECTION_LOST = "CONNECTION_LOST"
    SWEEP_OVERDUE = "SWEEP_OVERDUE"
    INGEST_FAILING = "INGEST_FAILING"


@dataclass(frozen=True, slots=True)
class Rule:
    """When a condition becomes an alert, and how loud that is.

    `hold` is how long it must have held; `renotify` after how long a message says that it still
    does, zero for never. `market_hours_only`: opens nothing while the market is known to be closed.
    """

    severity: Severity
    hold: timedelta
    renotify: timedelta
    market_hours_only: bool = False
    enabled: bool = True


def _rule(
    severity: Severity, hold: float, renotify_minutes: float, *, market_hours_only: bool = False
) -> Rule:
    return Rule(
        severity, timedelta(seconds=hold), timedelta(minutes=renotify_minutes), market_hours_only
    )


DEFAULTS: dict[Kind, Rule] = {
    Kind.DUPLICATE_EXECUTOR_BLOCKED: _rule(Severity.EMERGENCY, 0, 5),
    Kind.DUPLICATE_EXECUTOR: _rule(Severity.EMERGENCY, 0, 5),
    Kind.STALE_TOKEN_USED: _rule(Severity.EMERGENCY, 0, 5),
    Kind.DUPLICATE_INSTANCE_DETECTED: _rule(Severity.CRITICAL, 0, 30),
    Kind.RESTART_WAITING: _rule(Severity.QUIET, 0, 0),
    Kind.IDENTITY_VIOLATION: _rule(Severity.CRITICAL, 0, 30),
    Kind.IDENTITY_STALE: _rule(Severity.WARNING, 60, 60, market_hours_only=True),
    # A robot that is started again gets its market back after TTL and lock delay: 30 s.
    Kind.LOCK_STALE: _rule(Severity.WARNING, 60, 60),
    Kind.LEASE_LOST: _rule(Severity.CRITICAL, 0, 30),
    Kind.KILL_SWITCH_ENGAGED: _rule(Severity.WARNING, 0, 240),
    # Shorter than a robot's own, so that the host is known before each of its robots speaks.
    Kind.HOST_SILENT: _rule(Severity.CRITICAL, 15, 30, market_hours_only=True),
    Kind.ROBOT_SILENT: _rule(Severity.CRITICAL, 30, 30, market_hours_only=True),
    Kind.ENGINE_STALLED: _rule(Severity.CRITICAL, 30, 30, market_hours_only=True),
    Kind.DATA_STALLED: _rule(Severity.CRITICAL, 30, 30, market_hours_only=True),
    Kind.CONNECTION_LOST: _rule(Severity.CRITICAL, 0, 30, market_hours_only=True),
    Kind.SWEEP_OVERDUE: _rule(Severity.CRITICAL, 0, 30),
    Kind.INGEST_FAILING: _rule(Severity.WARNING, 120, 60),
}

WHAT_TO_DO: dict[Kind, str] = {
    Kind.DUPLICATE_EXECUTOR_BLOCKED: "Find out which of the two belongs there and stop the other; "
    "the refused one has started nothing.",
    Kind.DUPLICATE_EXECUTOR: "Engage the market's kill switch, stop the run that does not belong "
    "there, and count the positions.",
    Kind.STALE_TOKEN_USED: "Stop that run now and reconcile its orders: somebody else may hold "
    "the market.",
    Kind.DUPLICATE_INSTANCE_DETECTED: "Find out which instance belongs there and stop the other, "
    "then put both under the guard, which lets no second one start.",
    Kind.RESTART_WAITING: "Nothing, unless it lasts: it gets the market when the old lease ends.",
    Kind.IDENTITY_VIOLATION: "manage.py explain MARKET shows the evidence and what mends it.",
    Kind.IDENTITY_STALE: "See whether the robot is alive, and whether its log is read.",
    Kind.LOCK_STALE: "See to open positions: the robot is gone or hangs, and nobody executes the "
    "market.",
    Kind.LEASE_LOST: "Its guard stopped the robot: see to open positions, then to the network "
    "between its host and this server.",
    Kind.KILL_SWITCH_ENGAGED: "Release it when orders may be sent again.",
    Kind.HOST_SILENT: "See whether the host and its network are up; its robots may hold positions.",
    Kind.ROBOT_SILENT: "See whether the robot is alive on its host; it may hold positions.",
    Kind.ENGINE_STALLED: "The robot lives but its engine does not tick: see to open positions, "
    "then restart it.",
    Kind.DATA_STALLED: "The robot gets no market data: see to the feed, and to open positions.",
    Kind.CONNECTION_LOST: "The robot has lost its broker: see to open positions by another way.",
    Kind.SWEEP_OVERDUE: "See whether worker and beat run; until then nothing is checked.",
    Kind.INGEST_FAILING: "See to the folder: until it can be read, its robots are not watched.",
}


def rule_objection(rule: Rule) -> str:
    """Why a rule cannot work, in a sentence; empty where it can."""
    if not timedelta(0) <= rule.hold <= timedelta(days=1):
        return "A condition has to hold for 0 to 86400 seconds before it is an alert."
    if rule.severity is Severity.EMERGENCY and rule.hold > timedelta(minutes=5):
        return "An emergency waits for 300 seconds at most; make the rule less severe, or faster."
    if rule.renotify and not timedelta(minutes=1) <= rule.renotify <= timedelta(days=7):
        return "Repeat a message after 60 to 604800 seconds, or never, which is 0."
    return ""
