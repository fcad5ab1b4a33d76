"""What is done with alerts: looked for, acknowledged, snoozed, and told of.

Every change compares the alert with what was seen, leaves a step in its history, and where somebody
has to hear of it, that step says so before anything is sent.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import F

from watchdog_project.alerts import store
from watchdog_project.alerts.conditions import findings_of, unjudged
from watchdog_project.alerts.errors import AlertRefused
from watchdog_project.alerts.facts import Facts
from watchdog_project.alerts.kinds import RANK, Severity
from watchdog_project.alerts.lifecycle import State, Step, plan
from watchdog_project.alerts.models import Alert, AlertStep

logger = logging.getLogger(__name__)

SHOWN_AT_MOST = 500
LONGEST_SNOOZE = timedelta(days=30)


def look(facts: Facts) -> int:
    """Open, fire and resolve what these facts demand; returns how many alerts changed.

    Three queries where nothing changes. May run twice at once: the second one changes nothing.
    """
    changes = plan(
        store.open_alerts(),
        findings_of(facts),
        facts,
        rules=store.rules_in_force(),
        windows=store.windows_at(facts.now),
        unjudged=unjudged(facts),
    )
    try:
        return store.write_changes(changes, facts.now)
    except IntegrityError:
        logger.warning("Another process opened the same alerts just now; the next look goes on.")
        return 0


def worst_open_alerts(market: str | None = None) -> list[Alert]:
    """What is wrong now, worst first, then oldest first; one query, 500 rows at most.

    `market` narrows to one canonical market, in all its scopes. What has not held for its minimum
    time yet is not among them.
    """
    rows = Alert.objects.filter(resolved_at__isnull=True).exclude(state=State.PENDING)
    if market is not None:
        rows = rows.filter(market=market)
    found = sorted(rows[: 4 * SHOWN_AT_MOST], key=_worst_first)
    return found[:SHOWN_AT_MOST]


def _worst_first(alert: Alert) -> tuple[int, datetime, int]:
    return RANK[Severity(alert.severity)], alert.since, alert.pk


def acknowledge_alert(alert_id: int, *, by: str, reason: str, now: datetime) -> Alert:
    """Somebody sees to it: no message repeats it, and its end is still told.

    Raises AlertRefused: NO_REASON (400), NO_SUCH_ALERT (404), NOT_OPEN (409).
    """
    return _handle(
        alert_id, Step.ACKNOWLEDGED, State.ACKNOWLEDGED, None, by=by, reason=reason, now=now
    )


def snooze_alert(alert_id: int, *, until: datetime, by: str, reason: str, now: datetime) -> Alert:
    """No message until `until`; where it still holds then, it is told again.

    Raises AlertRefused: NO_REASON (400), NO_SUCH_ALERT (404), NOT_OPEN (409),
    END_NOT_AHEAD, END_TOO_FAR (422).
    """
    if until <= now:
        raise AlertRefused("END_NOT_AHEAD", "The end of a snooze lies ahead.", 422)
    if until > now + LONGEST_SNOOZE:
        raise AlertRefused("END_TOO_FAR", f"A snooze ends within {LONGEST_SNOOZE.days} days.", 422)
    return _handle(alert_id, Step.SNOOZED, State.SNOOZED, until, by=by, reason=reason, now=now)


def _handle(
    alert_id: int,
    step: Step,
    state: State,
    until: datetime | None,
    *,
    by: str,
    reason: str,
    now: datetime,
) -> Alert:
    reason = reason.strip()
    if not reason:
        raise AlertRefused("NO_REASON", "Say why; whoever comes next will want to know.", 400)
    with transaction.atomic():
        # A look that planned before this finds another version, and leaves the alert alone.
        done = Alert.objects.filter(
            pk=alert_id, state__in=(State.FIRING, State.ACKNOWLEDGED, State.SNOOZED)
        ).update(
            state=state,
            snoozed_until=until,
            handled_by=by,
            handled_reason=reason,
            version=F("version") + 1,
        )
        if not done:
            raise _why_not(alert_id)
        AlertStep.objects.create(alert_id=alert_id, step=step.value, at=now, by=by, reason=reason)
    return Alert.objects.get(pk=alert_id)


def _why_not(alert_id: int) -> AlertRefused:
    found = Alert.objects.filter(pk=alert_id).first()
    if found is None:
        return AlertRefused("NO_SUCH_ALERT", f"There is no alert {alert_id}.", 404)
    if found.state == State.PENDING:
        return AlertRefused(
            "NOT_OPEN", "Its condition has not held for its minimum time: nobody was told of it."
        )
    return AlertRefused("NOT_OPEN", "This alert is resolved already.")
