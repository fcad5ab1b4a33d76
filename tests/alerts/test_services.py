"""Alerts in the database: opened once, changed only as they were seen, with their history."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from tests.alerts.cast import NOW, ago, breach, facts, later, lease, refusal
from watchdog_project.alerts import store
from watchdog_project.alerts.conditions import findings_of
from watchdog_project.alerts.errors import AlertRefused
from watchdog_project.alerts.lifecycle import plan
from watchdog_project.alerts.models import Alert, AlertRule, AlertStep, MaintenanceWindow
from watchdog_project.alerts.services import (
    acknowledge_alert,
    look,
    snooze_alert,
    worst_open_alerts,
)

pytestmark = pytest.mark.django_db

WHO: dict[str, Any] = {"by": "chief", "reason": "I see to it"}


def only() -> Alert:
    return Alert.objects.get()


def history() -> list[str]:
    return list(AlertStep.objects.order_by("pk").values_list("step", flat=True))


def test_an_alert_is_opened_once_and_resolved_by_what_is_seen() -> None:
    wrong = facts(breaches=[breach()])

    assert [look(wrong), look(wrong), look(facts(later(9)))] == [1, 0, 1]

    alert = only()
    assert (alert.kind, alert.market, alert.state) == ("IDENTITY_VIOLATION", "ES", "resolved")
    assert (alert.since, alert.fired_at, alert.resolved_at) == (ago(20), NOW, later(9))
    assert "INSTRUMENT_MISMATCH" in alert.summary
    assert history() == ["opened", "fired", "resolved"]


def test_what_comes_back_is_a_new_alert() -> None:
    for now, breaches in ((NOW, [breach()]), (later(5), []), (later(9), [breach()])):
        look(facts(now, breaches=breaches))

    assert Alert.objects.count() == 2
    assert [one.state for one in worst_open_alerts()] == ["firing"]


def test_there_cannot_be_two_open_alerts_of_one_key() -> None:
    look(facts(breaches=[breach()]))
    twin = Alert(kind="IDENTITY_VIOLATION", market="ES", subject="INSTRUMENT_MISMATCH")
    twin.summary, twin.severity, twin.since, twin.opened_at = "again", "critical", NOW, NOW

    with pytest.raises(IntegrityError), transaction.atomic():
        twin.save()


def test_two_looks_at_once_open_one_alert() -> None:
    seen = facts(breaches=[breach()])
    changes = plan([], findings_of(seen), seen)

    assert store.write_changes(changes, NOW) == 1
    assert store.write_changes(changes, NOW) == 0
    assert history() == ["opened", "fired"]


def test_a_look_that_was_overtaken_by_an_operator_leaves_the_alert_as_he_made_it() -> None:
    look(facts(breaches=[breach()]))
    seen = facts(later(1800), breaches=[breach()])
    planned = plan(store.open_alerts(), findings_of(seen), seen)
    assert len(planned) == 1
    acknowledge_alert(only().pk, now=later(1799), **WHO)

    assert store.write_changes(planned, seen.now) == 0

    assert only().state == "acknowledged"
    assert history() == ["opened", "fired", "acknowledged"]


def test_three_queries_tell_that_nothing_has_changed() -> None:
    many = [breach(f"M{n}") for n in range(50)]
    look(facts(breaches=many))

    with CaptureQueriesContext(connection) as asked:
        assert look(facts(later(5), breaches=many)) == 0

    assert len(asked) == 3


def test_acknowledging_takes_a_reason_and_is_kept() -> None:
    look(facts(breaches=[breach()]))

    acknowledge_alert(only().pk, now=later(3), **WHO)

    alert = only()
    assert (alert.state, alert.handled_by, alert.handled_reason) == (
        "acknowledged",
        "chief",
        "I see to it",
    )
    step = AlertStep.objects.get(step="acknowledged")
    assert (step.by, step.reason, step.at) == ("chief", "I see to it", later(3))


def test_a_snooze_ends_by_itself() -> None:
    look(facts(breaches=[breach()]))
    snooze_alert(only().pk, until=later(600), now=NOW, **WHO)
    assert only().state == "snoozed"

    look(facts(later(600), breaches=[breach()]))

    assert (only().state, only().snoozed_until) == ("firing", None)


@pytest.mark.parametrize(
    ("reason", "until", "code"),
    [(" ", later(600), "NO_REASON"), ("x", NOW, "END_NOT_AHEAD"), ("x", ago(5), "END_NOT_AHEAD")],
)
def test_a_snooze_without_a_reason_or_an_end_ahead_is_refused(
    reason: str, until: datetime, code: str
) -> None:
    look(facts(breaches=[breach()]))

    with pytest.raises(AlertRefused) as refused:
        snooze_alert(only().pk, until=until, by="chief", reason=reason, now=NOW)

    assert (refused.value.code, only().state) == (code, "firing")


def test_what_is_resolved_or_pending_or_nowhere_cannot_be_acknowledged() -> None:
    look(facts(breaches=[breach()]))
    look(facts(later(5)))
    with pytest.raises(AlertRefused, match="resolved already"):
        acknowledge_alert(only().pk, now=later(6), **WHO)

    Alert.objects.update(state="pending", resolved_at=None)
    with pytest.raises(AlertRefused, match="minimum time"):
        acknowledge_alert(only().pk, now=later(6), **WHO)

    with pytest.raises(AlertRefused) as nowhere:
        acknowledge_alert(4711, now=later(6), **WHO)
    assert (nowhere.value.code, nowhere.value.status) == ("NO_SUCH_ALERT", 404)


def test_the_worst_open_alerts_come_first_and_pending_ones_not_at_all() -> None:
    look(
        facts(
            breaches=[breach("NQ"), breach("ES", "STALE_FENCING_TOKEN")],
            leases=[
                lease("CL", refusals=[refusal(at=3)], renewed_at=ago(9)),
                lease("GC", state="EXPIRED", expires_at=ago(5), expiry_seen_at=ago(5)),
            ],
        )
    )

    with CaptureQueriesContext(connection) as asked:
        listed = [(one.kind, one.market) for one in worst_open_alerts()]

    assert listed == [
        ("STALE_TOKEN_USED", "ES"),
        ("IDENTITY_VIOLATION", "NQ"),
        ("RESTART_WAITING", "CL"),
    ]
    assert len(asked) == 1
    assert [one.market for one in worst_open_alerts("NQ")] == ["NQ"]


def test_a_rule_in_the_database_overrides_what_it_names_and_nothing_else() -> None:
    AlertRule.objects.update_or_create(
        kind="IDENTITY_VIOLATION", defaults={"severity": "emergency", "hold_seconds": 60}
    )

    look(facts(breaches=[breach()]))
    assert (only().state, only().severity) == ("pending", "emergency")
    look(facts(later(40), breaches=[breach()]))
    assert only().state == "firing"


def test_a_window_in_the_database_holds_messages_back_while_it_runs() -> None:
    window = MaintenanceWindow.objects.create(
        market="ES", starts_at=ago(60), ends_at=later(600), reason="exchange tests"
    )

    look(facts(breaches=[breach()]))
    assert only().held_back == "maintenance: exchange tests"
    assert not AlertStep.objects.filter(owed=True).exists()

    window.ended_early_at = later(5)
    window.save()
    look(facts(later(6), breaches=[breach()]))
    look(facts(later(40), breaches=[breach()]))
    assert AlertStep.objects.filter(owed=True).count() == 1


def test_five_hundred_markets_are_opened_and_resolved_in_short_transactions() -> None:
    many = [breach(f"M{n}") for n in range(500)]

    assert look(facts(breaches=many)) == 500
    with CaptureQueriesContext(connection) as asked:
        assert look(facts(later(5))) == 500

    assert len(asked) < 60
    assert Alert.objects.filter(resolved_at=later(5)).count() == 500
