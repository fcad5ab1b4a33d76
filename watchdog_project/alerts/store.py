"""Alerts in the database: read as plain values, and changed where they still are as they were."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q

from identity.bulk import update_rows
from watchdog_project.alerts.kinds import DEFAULTS, Kind, Rule, Severity
from watchdog_project.alerts.lifecycle import Change, Known, State, Step, Window
from watchdog_project.alerts.models import Alert, AlertRule, AlertStep, MaintenanceWindow

# Alerts in one transaction: on SQLite nobody else writes meanwhile.
AT_ONCE = 100
_CHANGED = (
    "state",
    "severity",
    "summary",
    "who",
    "host",
    "fired_at",
    "resolved_at",
    "told_at",
    "held_back",
    "quiet_until",
    "snoozed_until",
    "version",
)
_KINDS = frozenset(kind.value for kind in Kind)


def open_alerts() -> list[Known]:
    """Every alert that is not resolved, oldest first; one query."""
    rows = Alert.objects.filter(resolved_at__isnull=True).order_by("pk")
    # A kind of an older release has no condition any more; an operator sees it in the admin.
    return [_known(row) for row in rows if row.kind in _KINDS]


def rules_in_force() -> dict[Kind, Rule]:
    """The defaults, as operators changed them; one query."""
    rules = dict(DEFAULTS)
    for row in AlertRule.objects.filter(kind__in=_KINDS):
        rules[Kind(row.kind)] = rule_of(row)
    return rules


def rule_of(row: AlertRule) -> Rule:
    """The default rule with what `row` says otherwise."""
    rule = replace(DEFAULTS[Kind(row.kind)], enabled=row.enabled)
    if row.severity:
        rule = replace(rule, severity=Severity(row.severity))
    if row.hold_seconds is not None:
        rule = replace(rule, hold=timedelta(seconds=row.hold_seconds))
    if row.renotify_seconds is not None:
        rule = replace(rule, renotify=timedelta(seconds=row.renotify_seconds))
    if row.market_hours_only is not None:
        rule = replace(rule, market_hours_only=row.market_hours_only)
    return rule


def windows_at(now: datetime) -> list[Window]:
    """The maintenance windows that run; one query."""
    rows = MaintenanceWindow.objects.filter(
        Q(ended_early_at__isnull=True) | Q(ended_early_at__gt=now),
        starts_at__lte=now,
        ends_at__gt=now,
    )
    return [
        Window(row.market, row.starts_at, row.ends_at, row.reason, row.emergencies_too)
        for row in rows
    ]


def write_changes(changes: Sequence[Change], now: datetime) -> int:
    """Make `changes`, a hundred at a time; returns how many were made.

    An alert that somebody else changed meanwhile is left as he made it, and one that somebody else
    opened is his: the next look sees both.
    """
    return sum(
        _write(changes[start : start + AT_ONCE], now) for start in range(0, len(changes), AT_ONCE)
    )


def _write(changes: Sequence[Change], now: datetime) -> int:
    with transaction.atomic():
        made = [*_update(changes, now), *_create(changes, now)]
        AlertStep.objects.bulk_create(
            AlertStep(
                alert_id=alert_id, step=told.step.value, at=now, reason=told.reason, owed=told.owed
            )
            for alert_id, change in made
            for told in change.steps
        )
    return len(made)


def _update(changes: Iterable[Change], now: datetime) -> list[tuple[int, Change]]:
    by_id = {
        change.before.id: change
        for change in changes
        if change.before is not None and change.before.id is not None
    }
    rows = list(Alert.objects.select_for_update().filter(pk__in=by_id).order_by("pk"))
    same = [row for row in rows if row.version == _version_seen(by_id[row.pk])]
    for row in same:
        _apply(row, by_id[row.pk], now)
    update_rows(same, _CHANGED)
    return [(row.pk, by_id[row.pk]) for row in same]


def _create(changes: Iterable[Change], now: datetime) -> list[tuple[int, Change]]:
    new = {change.after.key: change for change in changes if change.before is None}
    if not new:
        return []
    taken = set(
        Alert.objects.filter(
            resolved_at__isnull=True,
            kind__in={key[0] for key in new},
            market__in={key[1] for key in new},
            subject__in={key[3] for key in new},
        ).values_list("kind", "market", "scope", "subject")
    )
    rows = {key: _row(change, now) for key, change in new.items() if key not in taken}
    Alert.objects.bulk_create(rows.values())
    return [(row.pk, new[key]) for key, row in rows.items()]


def _row(change: Change, now: datetime) -> Alert:
    after = change.after
    row = Alert(
        kind=after.kind.value,
        market=after.market,
        scope=after.scope,
        subject=after.subject,
        since=after.since,
        opened_at=now,
    )
    _apply(row, change, now)
    return row


def _apply(row: Alert, change: Change, now: datetime) -> None:
    after, finding = change.after, change.finding
    if finding is not None:
        row.summary, row.who, row.host = finding.summary, finding.who[:1024], finding.host
    if any(told.step is Step.FIRED for told in change.steps):
        row.fired_at = row.fired_at or now
    if after.state is State.RESOLVED:
        row.resolved_at = now
    row.state, row.severity = after.state.value, after.severity.value
    row.told_at, row.held_back = after.told_at, after.held_back[:512]
    row.quiet_until, row.snoozed_until = after.quiet_until, after.snoozed_until
    row.version += 1


def _version_seen(change: Change) -> int:
    return change.before.version if change.before is not None else -1


def _known(row: Alert) -> Known:
    return Known(
        kind=Kind(row.kind),
        market=row.market,
        scope=row.scope,
        subject=row.subject,
        state=State(row.state),
        severity=Severity(row.severity),
        since=row.since,
        host=row.host,
        told_at=row.told_at,
        snoozed_until=row.snoozed_until,
        held_back=row.held_back,
        quiet_until=row.quiet_until,
        id=row.pk,
        version=row.version,
    )
