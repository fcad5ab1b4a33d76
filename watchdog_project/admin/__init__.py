"""The admin of what looks at both apps, and of other people's models in the same theme."""

from django.contrib.admin import FieldListFilter
from django.db.models import ForeignKey

from watchdog_project.admin import (
    alerting,
    alerts,
    api_keys,
    audit,
    findings,
    health,
    operations,
    people,
    registry,
    schedule,
    sessions,
)
from watchdog_project.narrowing import RecentRelated, RecentValues, is_free_text

FieldListFilter.register(is_free_text, RecentValues, take_priority=True)
FieldListFilter.register(
    lambda field: isinstance(field, ForeignKey), RecentRelated, take_priority=True
)

__all__ = [
    "alerting",
    "alerts",
    "api_keys",
    "audit",
    "findings",
    "health",
    "operations",
    "people",
    "registry",
    "schedule",
    "sessions",
]
