"""A worker that is killed after it sent and before it noted so: the message comes twice, marked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from tests.alerts.cast import breach, facts
from tests.alerts.receivers import Receiver
from watchdog_project.alerts.models import Channel, Delivery
from watchdog_project.alerts.outbox import CLAIM, deliver_due, write_messages
from watchdog_project.alerts.services import look

pytestmark = pytest.mark.django_db(transaction=True)


def database_url() -> str:
    """Where the tests' own database is, for another process."""
    known = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{known['NAME']}"
    return (
        f"postgres://{known['USER']}:{known['PASSWORD']}@{known['HOST'] or 'localhost'}"
        f":{known['PORT']}/{known['NAME']}"
    )


def test_a_message_comes_twice_only_after_a_kill_and_under_one_key(
    channel: Channel, receiver: Receiver
) -> None:
    now = timezone.now()
    look(facts(now, breaches=[breach(code="STALE_FENCING_TOKEN")]))
    assert write_messages(now) == 1

    killed = subprocess.run(
        [sys.executable, "-m", "tests.alerts.deliverer"],
        cwd=settings.BASE_DIR,
        env=os.environ
        | {
            "DJANGO_SETTINGS_MODULE": "watchdog_project.settings",
            "DATABASE_URL": database_url(),
        },
        check=False,
        timeout=60,
    )

    assert killed.returncode == -signal.SIGKILL
    assert len(receiver.got) == 1
    assert Delivery.objects.get().state == "sending"

    # Nobody sends it while the dead worker's claim lasts.
    assert deliver_due(timezone.now) == 0
    assert deliver_due(lambda: timezone.now() + CLAIM + timedelta(seconds=1)) == 1

    first, second = receiver.got
    assert first.key == second.key == str(Delivery.objects.get().key)
    assert first.message == second.message
    assert Delivery.objects.get().state == "sent"
