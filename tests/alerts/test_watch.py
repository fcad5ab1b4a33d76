"""The periodic looks: from a wrong thing to somebody who sends the message."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.conf import settings
from django.utils import timezone

from locks.kill_switch import set_kill_switch
from locks.models import KillSwitch
from tests.alerts.cast import NOW, breach, facts, later
from tests.alerts.receivers import Receiver
from watchdog_project import tasks
from watchdog_project.alerts.models import Alert, Channel, Delivery
from watchdog_project.alerts.outbox import write_messages
from watchdog_project.alerts.retention import prune_alerts
from watchdog_project.alerts.services import look
from watchdog_project.alerts.watch import look_once, watch
from watchdog_project.heartbeat import DELIVER, WATCH
from watchdog_project.models import TaskHeartbeat

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _switch() -> None:
    KillSwitch.objects.get_or_create(market="")


class Clock:
    def __init__(self) -> None:
        self.now = timezone.now()
        self.waits = 0

    def __call__(self) -> datetime:
        return self.now

    def wait(self, seconds: float) -> None:
        self.waits += 1
        self.now += timedelta(seconds=seconds)


def nobody() -> None:
    raise AssertionError("nothing is to be sent")


def test_it_looks_once_a_second_until_the_next_beat() -> None:
    clock = Clock()

    watch(4.5, clock, clock.wait, nobody)

    # Looks at 0, 1, 2, 3 and 4 seconds; the next beat comes at 5.
    assert clock.waits == 4


def test_what_goes_wrong_between_two_looks_is_seen_by_the_second(channel: Channel) -> None:
    clock = Clock()
    asked: list[datetime] = []

    def wait(seconds: float) -> None:
        clock.wait(seconds)
        if clock.waits == 1:
            set_kill_switch("ES", engaged=True, reason="drill", by="chief")

    written = watch(5, clock, wait, lambda: asked.append(clock.now))

    assert (written, len(asked)) == (1, 1)
    assert Delivery.objects.get().title == "WARNING KILL_SWITCH_ENGAGED ES"


def test_a_sender_that_cannot_be_found_costs_no_message(channel: Channel) -> None:
    set_kill_switch("ES", engaged=True, reason="drill", by="chief")
    now = timezone.now()

    def gone() -> None:
        raise OSError("no thread")

    look_once(now, gone)
    assert look_once(now + timedelta(seconds=3), gone) == 1
    assert Delivery.objects.get().state == "waiting"


def test_the_tasks_look_and_deliver_and_leave_a_sign_of_life(
    channel: Channel, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "WATCH_FOR", 0.0)
    look(facts(timezone.now(), breaches=[breach(code="STALE_FENCING_TOKEN")]))
    write_messages(timezone.now())

    tasks.watch_alerts.apply().get()
    tasks.deliver_alerts.apply().get()

    assert [got.title for got in receiver.got] == [
        "EMERGENCY STALE_TOKEN_USED ES",
        "Recovered: STALE_TOKEN_USED ES",
    ]
    for task in (WATCH, DELIVER):
        heartbeat = TaskHeartbeat.objects.get(task=task)
        assert heartbeat.interval == 5
        assert heartbeat.finished_at is not None
        assert heartbeat.error == ""


def test_a_look_that_writes_messages_has_them_sent_at_once(
    channel: Channel, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "WATCH_FOR", 0.0)
    look(facts(timezone.now(), breaches=[breach(code="STALE_FENCING_TOKEN")]))

    tasks.watch_alerts.apply().get()

    assert len(receiver.got) == 1


def test_a_look_that_fails_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "watch", lambda *_: 1 / 0)

    tasks.watch_alerts.apply().get()

    assert "ZeroDivisionError" in TaskHeartbeat.objects.get(task=WATCH).error


def test_looks_and_deliveries_have_their_place_in_the_urgent_queue() -> None:
    for task in (WATCH, DELIVER):
        (entry,) = [one for one in settings.CELERY_BEAT_SCHEDULE.values() if one["task"] == task]
        assert entry["options"]["queue"] == "sweep"
        assert settings.CELERY_TASK_ROUTES[task] == {"queue": "sweep"}


def test_what_was_kept_long_enough_is_forgotten_and_nothing_that_is_open(
    channel: Channel, receiver: Receiver
) -> None:
    look(facts(breaches=[breach("ES", "STALE_FENCING_TOKEN"), breach("NQ", "UNKNOWN_INSTRUMENT")]))
    look(facts(later(5), breaches=[breach("NQ", "UNKNOWN_INSTRUMENT")]))
    write_messages(later(5))
    Delivery.objects.update(state="sent")

    prune_alerts(NOW)
    assert (Alert.objects.count(), Delivery.objects.count()) == (2, 2)

    prune_alerts(later(60))
    assert [one.market for one in Alert.objects.all()] == ["NQ"]
    assert Delivery.objects.count() == 0
