"""Messages: what is owed is written, what is written arrives, and nothing is sent twice at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from tests.alerts.cast import NOW, breach, facts, later
from tests.alerts.receivers import Mailbox, Receiver
from watchdog_project.alerts import outbox
from watchdog_project.alerts.channels import SendFailed, add_channel
from watchdog_project.alerts.errors import AlertRefused
from watchdog_project.alerts.models import Alert, AlertStep, Channel, Delivery
from watchdog_project.alerts.outbox import (
    claim_next,
    deliver_due,
    pause_after,
    retry_delivery,
    serve_channel,
    write_messages,
)
from watchdog_project.alerts.services import look

pytestmark = pytest.mark.django_db(transaction=True)


def at(seconds: float) -> Callable[[], datetime]:
    return lambda: later(seconds)


def something_is_wrong(market: str = "ES", code: str = "STALE_FENCING_TOKEN", **more: Any) -> None:
    """An emergency, unless another code is given: told at once."""
    look(facts(breaches=[breach(market, code)], **more))


def deliver_apart() -> None:
    try:
        deliver_due(at(0))
    finally:
        connection.close()


def delivery() -> Delivery:
    return Delivery.objects.get()


def test_an_emergency_arrives_with_its_key_in_header_and_text(
    channel: Channel, receiver: Receiver
) -> None:
    something_is_wrong()

    assert write_messages(NOW) == 1
    assert deliver_due(at(1)) == 1

    (got,) = receiver.got
    assert got.title == "EMERGENCY STALE_TOKEN_USED ES"
    assert got.key == str(delivery().key)
    assert f"Message {got.key}" in got.message
    assert (delivery().state, delivery().sent_at, delivery().attempts) == ("sent", later(1), 1)
    assert list(delivery().alerts.all()) == [Alert.objects.get()]
    assert [write_messages(later(2)), deliver_due(at(2))] == [0, 0]


def test_every_channel_hears_of_what_is_as_bad_as_it_asked_for(
    channel: Channel, receiver: Receiver, mailbox: Mailbox
) -> None:
    add_channel("mail", mailbox.url, NOW, "emergency")
    add_channel("off", receiver.url, NOW)
    Channel.objects.filter(name="off").update(enabled=False)

    look(facts(breaches=[breach("ES", "STALE_FENCING_TOKEN"), breach("NQ", "UNKNOWN_INSTRUMENT")]))
    write_messages(later(3))
    deliver_due(at(3))

    assert [mail["Subject"] for mail in mailbox.got] == ["EMERGENCY STALE_TOKEN_USED ES"]
    assert sorted(got.title for got in receiver.got) == [
        "CRITICAL IDENTITY_VIOLATION NQ",
        "EMERGENCY STALE_TOKEN_USED ES",
    ]


def test_without_a_channel_nothing_piles_up() -> None:
    something_is_wrong()

    assert write_messages(NOW) == 0
    assert not AlertStep.objects.filter(owed=True, told_at__isnull=True).exists()


def test_five_hundred_markets_that_fail_at_once_are_one_message(
    channel: Channel, receiver: Receiver
) -> None:
    many = [breach(f"M{n}", "INSTRUMENT_MISMATCH") for n in range(500)]
    look(facts(breaches=many[:300]))
    write_messages(NOW)
    look(facts(later(1), breaches=many))
    write_messages(later(1))
    write_messages(later(2))

    deliver_due(at(2))

    (got,) = receiver.got
    assert got.title.startswith("CRITICAL 500 alerts")
    assert delivery().alerts.count() == 500


def test_what_is_no_emergency_waits_for_its_group_and_for_the_last_message(
    channel: Channel, receiver: Receiver
) -> None:
    wrong = [breach("ES", "INSTRUMENT_MISMATCH")]
    look(facts(breaches=wrong))
    assert [write_messages(later(1.9)), write_messages(later(2))] == [0, 1]

    wrong.append(breach("NQ", "INSTRUMENT_MISMATCH"))
    look(facts(later(5), breaches=wrong))
    assert [write_messages(later(31)), write_messages(later(32))] == [0, 1]


def test_no_limit_holds_an_emergency_up(channel: Channel) -> None:
    wrong = [breach("ES", "INSTRUMENT_MISMATCH")]
    look(facts(breaches=wrong))
    write_messages(later(2))

    for n in range(5):
        wrong.append(breach(f"M{n}", "STALE_FENCING_TOKEN"))
        look(facts(later(3 + n), breaches=wrong))
        assert write_messages(later(3 + n)) == 1


def test_what_came_and_went_before_it_was_told_is_told_as_over(
    channel: Channel, receiver: Receiver
) -> None:
    something_is_wrong(code="INSTRUMENT_MISMATCH")
    look(facts(later(1)))
    write_messages(later(3))

    deliver_due(at(3))

    assert [got.title for got in receiver.got] == ["Recovered: IDENTITY_VIOLATION ES"]


def test_a_channel_that_answers_500_for_an_hour_gets_its_message_when_it_works_again(
    channel: Channel, receiver: Receiver
) -> None:
    something_is_wrong(code="INSTRUMENT_MISMATCH")
    write_messages(later(2))
    receiver.status = 500

    for second in range(2, 3600, 5):
        assert deliver_due(at(second)) == 0

    assert delivery().state == "waiting"
    assert "500" in delivery().last_error
    assert "500" in Channel.objects.get().last_error
    assert receiver.attempts == delivery().attempts
    # Once in five seconds would be 720.
    assert 10 <= receiver.attempts <= 20

    receiver.status = 200
    # The longest pause is ten minutes.
    sent = sum(deliver_due(at(second)) for second in range(3600, 4205, 5))

    assert sent == 1
    assert [got.key for got in receiver.got] == [str(delivery().key)]
    assert delivery().state == "sent"


def test_an_emergency_is_tried_every_minute_at_least(channel: Channel, receiver: Receiver) -> None:
    something_is_wrong()
    write_messages(NOW)
    receiver.status = 503

    for second in range(0, 3600, 5):
        deliver_due(at(second))

    assert receiver.attempts >= 60


def test_a_channel_that_fails_delays_no_other(
    channel: Channel, receiver: Receiver, mailbox: Mailbox
) -> None:
    add_channel("mail", mailbox.url, NOW)
    receiver.status = 500
    something_is_wrong()
    write_messages(NOW)

    assert deliver_due(at(0)) == 1

    assert len(mailbox.got) == 1


def test_a_channel_that_hangs_delays_no_other(
    channel: Channel, receiver: Receiver, mailbox: Mailbox
) -> None:
    add_channel("mail", mailbox.url, NOW)
    receiver.gate = threading.Event()
    something_is_wrong()
    write_messages(NOW)
    sending = threading.Thread(target=deliver_apart)
    sending.start()
    try:
        for _ in range(200):
            if mailbox.got:
                break
            sending.join(0.02)
        assert len(mailbox.got) == 1
        assert receiver.got == []
    finally:
        receiver.gate.set()
        sending.join()
    assert len(receiver.got) == 1


def test_while_one_worker_sends_no_other_does(channel: Channel, receiver: Receiver) -> None:
    receiver.gate = threading.Event()
    something_is_wrong()
    write_messages(NOW)
    sending = threading.Thread(target=deliver_apart)
    sending.start()
    try:
        for _ in range(200):
            if delivery().state == "sending":
                break
            sending.join(0.02)
        assert [deliver_due(at(1)) for _ in range(3)] == [0, 0, 0]
    finally:
        receiver.gate.set()
        sending.join()

    assert (len(receiver.got), delivery().state, delivery().attempts) == (1, "sent", 1)


def test_workers_that_start_together_send_each_message_once(
    channel: Channel, receiver: Receiver
) -> None:
    for n in range(12):
        look(facts(breaches=[breach(f"M{n}", "STALE_FENCING_TOKEN")]))
        write_messages(NOW)
    count = Delivery.objects.count()
    together = threading.Barrier(4)

    def work() -> None:
        together.wait()
        try:
            for _ in range(12):
                deliver_due(at(0))
        finally:
            connection.close()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    keys = [got.key for got in receiver.got]
    assert len(keys) == len(set(keys)) == count


def test_who_claims_the_same_message_second_gets_nothing(channel: Channel) -> None:
    something_is_wrong()
    write_messages(NOW)

    first, second = claim_next(channel.pk, NOW), claim_next(channel.pk, later(19))

    assert first is not None
    assert second is None


def test_a_claim_that_nobody_renews_runs_out(channel: Channel, receiver: Receiver) -> None:
    something_is_wrong()
    write_messages(NOW)
    claim_next(channel.pk, NOW)

    assert [deliver_due(at(19)), deliver_due(at(20))] == [0, 1]
    assert delivery().attempts == 2


def test_a_claim_is_renewed_for_as_long_as_the_sending_takes(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The renewals come by a real clock: every five seconds, here every hundredth of one."""
    monkeypatch.setattr(outbox, "CLAIM_RENEWED_EVERY", 0.01)
    something_is_wrong()
    write_messages(NOW)
    clock = iter(later(n) for n in range(100_000))
    reached = later(60)

    def slow(*_: object) -> None:
        for _ in range(2000):
            until = delivery().claimed_until
            if until is not None and until > reached:
                return
            threading.Event().wait(0.005)
        raise AssertionError("the claim was not renewed")

    assert serve_channel(channel.pk, lambda: next(clock), slow) == 1


def test_one_bad_message_does_not_block_the_ones_behind_it(
    channel: Channel, receiver: Receiver
) -> None:
    something_is_wrong("ES")
    write_messages(NOW)
    look(facts(later(1), breaches=[breach("NQ", "STALE_FENCING_TOKEN")]))
    write_messages(later(1))

    def picky(where: Channel, title: str, body: str, key: str, severity: str) -> None:
        if title.startswith("EMERGENCY STALE_TOKEN_USED ES"):
            raise SendFailed("413")
        sent.append(title)

    sent: list[str] = []
    for second in range(2, 12):
        deliver_due(at(second), picky)

    assert len(sent) == 1


def test_a_message_that_is_given_up_is_kept_and_can_be_tried_again(
    channel: Channel, receiver: Receiver
) -> None:
    something_is_wrong()
    write_messages(NOW)
    Delivery.objects.update(attempts=outbox.ATTEMPTS_OF_EMERGENCIES - 1)
    receiver.status = 500

    deliver_due(at(0))
    assert (delivery().state, "500" in delivery().last_error) == ("dead", True)
    assert deliver_due(at(86_400)) == 0

    receiver.status = 200
    retry_delivery(delivery().pk, later(90_000))
    assert deliver_due(at(90_000)) == 1
    with pytest.raises(AlertRefused, match="sent"):
        retry_delivery(delivery().pk, later(90_001))


@pytest.mark.parametrize(
    ("attempts", "urgent", "pause"),
    [(1, False, 5), (2, False, 10), (5, False, 80), (30, False, 600), (30, True, 60)],
)
def test_the_pauses_grow_up_to_a_limit(attempts: int, urgent: bool, pause: float) -> None:
    assert pause_after(attempts, urgent=urgent) == timedelta(seconds=pause)


def test_a_crash_between_the_alert_and_its_message_loses_nothing(
    channel: Channel, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    something_is_wrong()
    with monkeypatch.context() as broken:
        broken.setattr(outbox, "write_message", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_messages(NOW)
    assert not Delivery.objects.exists()

    write_messages(later(5))
    assert deliver_due(at(5)) == 1
