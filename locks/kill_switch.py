"""The kill switch: an operator says *no orders*, for one market or for all of them."""

from __future__ import annotations

from locks import execution
from locks.models import KillSwitch, LockEvent, LockEventType
from locks.refusals import failing_closed

SWITCH_SECONDS = 5


def set_kill_switch(market: str, *, engaged: bool, reason: str, by: str) -> KillSwitch:
    """Say *no orders*, or take it back; `market` is a canonical instrument, or empty for all.

    When this returns, no lease is granted any more that had not been granted before.
    """
    switch = KillSwitch(market=market, engaged=engaged, reason=reason, changed_by=by)
    type_ = LockEventType.KILL_SWITCH_ACTIVE if engaged else LockEventType.KILL_SWITCH_RELEASED
    with failing_closed(), execution.short_transaction(SWITCH_SECONDS):
        switch.changed_at = now = execution.database_now()
        KillSwitch.objects.bulk_create(
            [switch],
            update_conflicts=True,
            unique_fields=["market"],
            update_fields=["engaged", "reason", "changed_by", "changed_at"],
        )
        LockEvent.objects.create(
            type=type_, name=market, at=now, last_at=now, data={"reason": reason, "by": by}
        )
    return switch


def kill_switch_engaged(market: str = "") -> bool:
    """Whether orders are forbidden for `market` (empty: for all); a missing switch forbids them."""
    demanded = {"", market}
    released = KillSwitch.objects.filter(market__in=demanded, engaged=False).count()
    return released != len(demanded)
