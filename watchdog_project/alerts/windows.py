"""Maintenance windows: entered by the clock on somebody's wall, and refused where that lies."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from watchdog_project.alerts.errors import AlertRefused
from watchdog_project.alerts.models import MaintenanceWindow

LONGEST_WINDOW = timedelta(days=30)


def moment_in(wall: datetime, zone_name: str) -> datetime:
    """The moment of a wall clock's time, which comes without a zone.

    Raises AlertRefused: UNKNOWN_TIMEZONE, or NO_SUCH_TIME for one that clocks leave out in spring.
    Of an hour that comes twice in autumn, the first is meant.
    """
    try:
        zone = ZoneInfo(zone_name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise AlertRefused(
            "UNKNOWN_TIMEZONE",
            f"There is no time zone {zone_name!r}; America/Chicago and UTC are two.",
            400,
        ) from None
    moment = wall.replace(tzinfo=zone).astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) != wall:
        raise AlertRefused(
            "NO_SUCH_TIME",
            f"{wall:%Y-%m-%d %H:%M} does not exist in {zone_name}: clocks are set forward then.",
            400,
        )
    return moment


def window_objection(starts_at: datetime, ends_at: datetime, now: datetime) -> str:
    """Why a window from `starts_at` to `ends_at` cannot be, in a sentence; empty where it can."""
    if ends_at <= starts_at:
        return "A window ends after it starts."
    if ends_at <= now:
        return "This window would be over already."
    if ends_at - starts_at > LONGEST_WINDOW:
        return (
            f"A window lasts {LONGEST_WINDOW.days} days at most; what is quiet for longer is off."
        )
    return ""


def end_window(window_id: int, now: datetime) -> MaintenanceWindow:
    """End a window now; raises AlertRefused where it is over or was never there."""
    done = MaintenanceWindow.objects.filter(
        pk=window_id, ends_at__gt=now, ended_early_at__isnull=True
    ).update(ended_early_at=now)
    if not done:
        raise AlertRefused("NOT_RUNNING", "This window is over already.")
    return MaintenanceWindow.objects.get(pk=window_id)
