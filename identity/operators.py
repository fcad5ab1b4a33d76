"""What an operator may do with identity's findings; each says who, and why.

Every change locks the market first, takes effect once, and is a result at once where it changes
what the market comes to.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.db.models import QuerySet

from identity.errors import IdentityRefused
from identity.invariants import EVENT_IDENTITY_INCOMPLETE
from identity.models import Violation, ViolationEnd, WatchedMarket
from identity.registry import load_markets
from identity.results import publish
from identity.watching import Pair, lock_markets


def acknowledge_violation(violation_id: int, *, by: str, reason: str, now: datetime) -> None:
    """Note that somebody knows of an open violation; it stays open and red.

    Raises IdentityRefused: NO_REASON, or NOT_OPEN where it ended meanwhile.
    """
    _demand_reason(reason)
    done = _open_one(violation_id).update(
        acknowledged_at=now, acknowledged_by=by, acknowledged_reason=reason
    )
    if not done:
        raise _not_open()


def mend_violation(violation_id: int, *, by: str, reason: str, now: datetime) -> None:
    """End an open violation on an operator's word; the next breach opens another.

    Raises IdentityRefused: NO_REASON, or NOT_OPEN where it ended meanwhile.
    """
    _demand_reason(reason)
    with transaction.atomic():
        pair = _locked_market_of(violation_id)
        done = _open_one(violation_id).update(
            ended_at=now, end=ViolationEnd.OPERATOR, ended_by=by, end_reason=reason
        )
        if not done:
            raise _not_open()
        publish({pair}, load_markets(), now, only_changes=True)


def accept_violation(
    violation_id: int, *, by: str, reason: str, until: datetime, now: datetime
) -> None:
    """Accept a logger whose schema cannot change today: listed and counted, not red until `until`.

    Raises IdentityRefused: NO_REASON, NOT_OPEN, NOT_ACCEPTABLE for every code but
    EVENT_IDENTITY_INCOMPLETE, or END_NOT_AHEAD.
    """
    _demand_reason(reason)
    if until <= now:
        raise IdentityRefused("END_NOT_AHEAD", "The end of an acceptance lies ahead.")
    with transaction.atomic():
        pair = _locked_market_of(violation_id)
        done = (
            _open_one(violation_id)
            .filter(code=EVENT_IDENTITY_INCOMPLETE)
            .update(accepted_until=until, accepted_by=by, accepted_reason=reason)
        )
        if not done:
            if _open_one(violation_id).exists():
                raise IdentityRefused(
                    "NOT_ACCEPTABLE", f"Only {EVENT_IDENTITY_INCOMPLETE} can be accepted."
                )
            raise _not_open()
        publish({pair}, load_markets(), now, only_changes=True)


def forget_market(watched_id: int, *, by: str, reason: str, now: datetime) -> None:
    """Watch a market no more, until there is newer evidence of it; its open violations stay rows.

    Raises IdentityRefused: NO_REASON, or NOT_WATCHED.
    """
    _demand_reason(reason)
    done = WatchedMarket.objects.filter(pk=watched_id, forgotten_at__isnull=True).update(
        forgotten_at=now, forgotten_by=by, forgotten_reason=reason
    )
    if not done:
        raise IdentityRefused("NOT_WATCHED", "This market is not watched.")


def _open_one(violation_id: int) -> QuerySet[Violation]:
    return Violation.objects.filter(pk=violation_id, ended_at__isnull=True)


def _locked_market_of(violation_id: int) -> Pair:
    row = Violation.objects.filter(pk=violation_id).values_list("market", "scope").first()
    if row is None:
        raise _not_open()
    lock_markets({row})
    return row


def _demand_reason(reason: str) -> None:
    if not reason.strip():
        raise IdentityRefused("NO_REASON", "Say why; whoever comes next will want to know.")


def _not_open() -> IdentityRefused:
    return IdentityRefused("NOT_OPEN", "This violation is not open any more.")
