"""The real web application with all durations scaled to a TTL of WATCHDOG_CHAOS_TTL seconds."""

from __future__ import annotations

import os

import django

from tests.chaos.scale import scale_registry

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "watchdog_project.settings")
django.setup()
scale_registry(float(os.environ["WATCHDOG_CHAOS_TTL"]))

from watchdog_project.wsgi import application  # noqa: E402 the addresses are made with the scaled registry

__all__ = ["application"]
