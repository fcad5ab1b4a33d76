"""Receivers, and channels that lead to them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.alerts.cast import NOW
from tests.alerts.receivers import Mailbox, Receiver, http_receiver, mail_server
from watchdog_project.alerts.channels import add_channel
from watchdog_project.alerts.models import Channel


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with http_receiver() as running:
        yield running


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with mail_server() as running:
        yield running


@pytest.fixture
def channel(db: None, receiver: Receiver) -> Channel:
    return add_channel("hook", receiver.url, NOW)
