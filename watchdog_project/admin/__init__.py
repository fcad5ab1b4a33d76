"""The admin of what looks at both apps, and of other people's models in the same theme."""

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
