"""The Celery application. Tasks carry no data and come again with the next beat."""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "watchdog_project.settings")

app = Celery("watchdog")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
