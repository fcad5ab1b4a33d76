"""The audit trail of what is done with keys: one row per act, in the act's own transaction."""

from __future__ import annotations

import getpass
import platform
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from watchdog_project.models import AuditEntry, Via


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, and by which door."""

    name: str
    via: Via


THE_START = Actor("watchdog", Via.START)


def at_the_command_line() -> Actor:
    """Whoever runs this process, as far as its system says."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return Actor(f"{user}@{platform.node()}"[:150], Via.COMMAND)


def record_act(
    action: str,
    subject: str,
    actor: Actor,
    now: datetime,
    *,
    reason: str = "",
    data: dict[str, Any] | None = None,
) -> None:
    """Write the row; call it inside the transaction of the act that it tells of."""
    AuditEntry.objects.create(
        at=now,
        actor=actor.name,
        via=actor.via,
        action=action,
        subject=subject,
        reason=reason,
        data=data or {},
    )
