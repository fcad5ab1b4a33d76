"""Who is who, in the admin: evidence to look at, and what operators edit."""

from identity.admin import evidence, findings, settings

__all__ = ["evidence", "findings", "settings"]
