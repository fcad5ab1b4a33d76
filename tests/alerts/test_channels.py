"""Where messages go: addresses that work are kept, sealed; others are refused with the reason."""

from __future__ import annotations

import pytest
from pytest_django import Settings

from tests.alerts.cast import NOW
from tests.alerts.receivers import Mailbox, Receiver
from watchdog_project.alerts.channels import (
    SendFailed,
    add_channel,
    seal_url,
    send,
    send_test,
)
from watchdog_project.alerts.errors import AlertRefused
from watchdog_project.alerts.models import Channel

pytestmark = pytest.mark.django_db

SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general"


def test_a_test_message_arrives_at_a_real_http_receiver(
    channel: Channel, receiver: Receiver
) -> None:
    send_test(channel, NOW)

    (got,) = receiver.got
    assert got.title == "Watchdog: test message"
    assert "'hook'" in got.message
    assert Channel.objects.get().last_sent_at == NOW


def test_a_message_arrives_at_a_real_mail_server(mailbox: Mailbox) -> None:
    channel = add_channel("mail", mailbox.url, NOW)

    send(channel, "EMERGENCY ES", "Two executors.\nDo: stop one.", "key-1", "emergency")

    (mail,) = mailbox.got
    assert mail["Subject"] == "EMERGENCY ES"
    assert mail["To"] == "ops@example.com"
    assert mail["Idempotency-Key"] == "key-1"
    body = mail.get_body(("plain", "html"))
    assert body is not None
    assert "Two executors." in body.get_content()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "this is none"),
        ("not a url", "this is none"),
        ("bogus://host", "No service is known by 'bogus'"),
        ("json://", "cannot be used"),
        ("slack://x", "cannot be used"),
        ("mailto://", "cannot be used"),
        ("json://host/\x00", "this is none"),
        ("json://" + "x" * 2000, "this is none"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused_with_the_reason(url: str, why: str) -> None:
    with pytest.raises(AlertRefused, match=why) as refused:
        add_channel("hook", url, NOW)

    assert refused.value.code == "CHANNEL_URL"
    assert not Channel.objects.exists()


def test_the_reason_of_a_refusal_holds_no_secret() -> None:
    with pytest.raises(AlertRefused) as refused:
        add_channel("hook", "slack://verysecret/alsosecret/??=", NOW)

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 65])
def test_a_channel_needs_a_name(name: str) -> None:
    with pytest.raises(AlertRefused, match="name"):
        add_channel(name, SLACK, NOW)


def test_a_name_is_taken_once(channel: Channel) -> None:
    with pytest.raises(AlertRefused, match="already"):
        add_channel("hook", SLACK, NOW)


def test_nothing_of_an_address_is_kept_in_the_clear(channel: Channel, receiver: Receiver) -> None:
    slack = add_channel("slack", SLACK, NOW)

    kept = str(list(Channel.objects.values()))

    for secret in ("t0p-s3cret", "T1JJ3T3L2", "A1BRTD4JD", "TIiajkdnlaz"):
        assert secret not in kept
    assert channel.service == "JSON at 127.0.0.1"
    assert slack.service == "Slack"


def test_an_error_says_why_and_gives_nothing_secret_away(
    channel: Channel, receiver: Receiver
) -> None:
    receiver.status = 500

    with pytest.raises(SendFailed, match="500") as failed:
        send_test(channel, NOW)

    assert "s3cret" not in str(failed.value)
    channel.refresh_from_db()
    assert "500" in channel.last_error
    assert channel.last_error_at == NOW


def test_a_receiver_that_is_not_there_is_named() -> None:
    channel = add_channel("hook", "json://127.0.0.1:1/s3cret-path", NOW)

    with pytest.raises(SendFailed, match=r"(?i)connection"):
        send_test(channel, NOW)


def test_another_secret_key_opens_nothing_and_an_old_one_still_does(
    channel: Channel, receiver: Receiver, settings: Settings
) -> None:
    old = settings.SECRET_KEY
    settings.SECRET_KEY = "another"

    with pytest.raises(SendFailed, match="Enter the address again"):
        send_test(channel, NOW)

    settings.SECRET_KEY_FALLBACKS = [old]
    send_test(channel, NOW)
    assert len(receiver.got) == 1


def test_a_new_address_replaces_the_old_one(channel: Channel, receiver: Receiver) -> None:
    seal_url(channel, SLACK)

    assert channel.service == "Slack"
