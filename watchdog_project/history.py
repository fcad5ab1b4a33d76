"""How each market stood, remembered: a row for as long as its status stays the same."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from identity.status import IdentityStatus, MarketIdentity
from identity.sweep import sweep
from watchdog_project.handover import tenure_facts
from watchdog_project.models import StatusSpan
from watchdog_project.sessions import sessions_of

# Two sweeps further apart than this have a time between them that nobody looked at.
UNBROKEN = timedelta(seconds=150)
ROWS_A_STATEMENT = 200
CLOSED = "CLOSED"
SILENT = (IdentityStatus.STALE, IdentityStatus.UNKNOWN, IdentityStatus.IDLE)


def sweep_markets(now: datetime) -> list[MarketIdentity]:
    """Judge every watched market, and remember how each stands; worst first."""
    identities = sweep(now, tenure_facts)
    record_statuses(identities, now)
    return identities


def record_statuses(identities: Sequence[MarketIdentity], now: datetime) -> None:
    """Note how each market stands as of a sweep at `now`; sweeps come one after the other.

    Silence while the market is known to be closed is written down as CLOSED.
    """
    sessions = sessions_of({one.market for one in identities}, now)
    latest = {
        (span.market, span.scope): span
        for span in StatusSpan.objects.filter(seen_at__gte=now - UNBROKEN).order_by("seen_at", "pk")
    }
    lasting, new = [], []
    for one in identities:
        shut = one.status in SILENT and sessions[one.market].open is False
        status = CLOSED if shut else one.status.value
        span = latest.get((one.market, one.scope))
        if span is not None and span.status == status:
            lasting.append(span.pk)
        else:
            new.append(
                StatusSpan(
                    market=one.market,
                    scope=one.scope,
                    status=status,
                    began_at=now,
                    seen_at=now,
                )
            )
    for start in range(0, len(lasting), ROWS_A_STATEMENT):
        part = lasting[start : start + ROWS_A_STATEMENT]
        StatusSpan.objects.filter(pk__in=part, seen_at__lt=now).update(seen_at=now)
    StatusSpan.objects.bulk_create(new, batch_size=ROWS_A_STATEMENT)


def prune_statuses(before: datetime) -> int:
    """Forget how markets stood before then; returns how many rows that were."""
    count = 0
    while True:
        keys = StatusSpan.objects.filter(seen_at__lt=before).values_list("pk", flat=True)
        gone, _ = StatusSpan.objects.filter(pk__in=list(keys[:ROWS_A_STATEMENT])).delete()
        count += gone
        if gone < ROWS_A_STATEMENT:
            return count
