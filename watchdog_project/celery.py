"""The Celery application. Tasks carry no data and come again with the next beat."""

from __future__ import annotations

import os
import sys
from typing import Any

from celery import Celery
from celery.signals import beat_init, worker_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "watchdog_project.settings")

app = Celery("watchdog")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_init.connect
@beat_init.connect
def refuse_impossible_settings(**_: Any) -> None:
    """Celery runs Django's checks and goes on whatever they find; this ends here instead."""
    from django.core.checks import run_checks

    found = [check for check in run_checks() if check.is_serious() and not check.is_silenced()]
    if found:
        sys.exit("\n".join(str(check) for check in found))
