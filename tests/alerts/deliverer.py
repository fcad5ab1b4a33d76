"""A worker that sends what is due and is killed between the sending and the note of it.

Usage: python -m tests.alerts.deliverer
"""

from __future__ import annotations

import os
import signal

import django

django.setup()

from django.utils import timezone  # noqa: E402

from watchdog_project.alerts import channels, outbox  # noqa: E402
from watchdog_project.alerts.models import Channel  # noqa: E402


def send_and_die(channel: Channel, title: str, body: str, key: str, severity: str) -> None:
    channels.send(channel, title, body, key, severity)
    os.kill(os.getpid(), signal.SIGKILL)


outbox.deliver_due(timezone.now, send_and_die)
