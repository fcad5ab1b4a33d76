"""An alert as others are told of it, wherever they ask."""

from __future__ import annotations

from typing import Any

from identity.runbook import section_of
from watchdog_project.alerts.kinds import WHAT_TO_DO, Kind
from watchdog_project.alerts.models import Alert

_KINDS = frozenset(kind.value for kind in Kind)


def alert_answer(alert: Alert) -> dict[str, Any]:
    """One alert as the API and the status tell of it: times as datetimes."""
    known = alert.kind in _KINDS
    return {
        "id": alert.pk,
        "kind": alert.kind,
        "market": alert.market,
        "scope": alert.scope,
        "subject": alert.subject,
        "severity": alert.severity,
        "state": alert.state,
        "summary": alert.summary,
        "who": alert.who,
        "since": alert.since,
        "fired_at": alert.fired_at,
        "resolved_at": alert.resolved_at,
        "told_at": alert.told_at,
        "held_back": alert.held_back,
        "snoozed_until": alert.snoozed_until,
        "handled_by": alert.handled_by,
        "handled_reason": alert.handled_reason,
        "what_to_do": WHAT_TO_DO[Kind(alert.kind)] if known else "",
        "runbook": section_of(alert.kind),
    }
