"""The status badge in the header of every admin page: what a snapshot looks like to the eye."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.utils import timezone

logger = logging.getLogger(__name__)

SHOWN_MESSAGES = 8


@dataclass(frozen=True, slots=True)
class Look:
    """How one status is shown. The browser alone decides on UNREACHABLE."""

    key: str
    label: str
    sign: str
    meaning: str


LOOKS = {
    "VIOLATION": Look(
        "violation",
        "IDENTITY VIOLATION",
        "✖ VIOLATION",
        "A rule of identity is broken.",
    ),
    "STALE": Look(
        "stale",
        "IDENTITY STALE",
        "⚠ STALE",
        "The newest evidence or check is too old to rely on.",
    ),
    "UNKNOWN": Look(
        "unknown",
        "IDENTITY UNKNOWN",
        "? UNKNOWN",
        "There is nothing to judge from. This is not a pass.",
    ),
    "OK": Look("ok", "IDENTITY OK", "✔ OK", "Every watched market passed on fresh evidence."),
    "IDLE": Look(
        "idle",
        "IDENTITY IDLE",
        "– IDLE",
        "Every run has stopped cleanly and nothing is open. This is not a pass.",
    ),
    "UNREACHABLE": Look(
        "unreachable",
        "WATCHDOG UNREACHABLE",
        "⚠ UNREACHABLE",
        "This page cannot hear from the server. Do not rely on what it shows.",
    ),
}


@dataclass(frozen=True, slots=True)
class Badge:
    """What the header shows: a look, the open violations' messages, and as of when."""

    look: Look
    messages: tuple[str, ...]
    kill_switch_active: bool
    as_of: datetime
    snapshot: Mapping[str, Any]

    @property
    def shown_messages(self) -> tuple[str, ...]:
        return self.messages[:SHOWN_MESSAGES]

    @property
    def hidden_messages(self) -> int:
        return max(0, len(self.messages) - SHOWN_MESSAGES)


def badge_from(snapshot: Mapping[str, Any], now: datetime) -> Badge:
    """The badge of a status snapshot; a status it does not know is shown as unknown."""
    messages = snapshot.get("last_identity_violations") or ()
    return Badge(
        look=LOOKS.get(str(snapshot.get("status")), LOOKS["UNKNOWN"]),
        messages=tuple(str(message) for message in messages),
        kill_switch_active=bool(snapshot.get("kill_switch_active")),
        as_of=now,
        snapshot=snapshot,
    )


def badge_of(request: HttpRequest) -> Badge:
    """The badge as of this request, read once a request; never raises."""
    known = getattr(request, "_watchdog_badge", None)
    if known is None:
        known = badge_from(read_snapshot(), timezone.now())
        request._watchdog_badge = known  # type: ignore[attr-defined]
    return known


def read_snapshot() -> Mapping[str, Any]:
    """The status now, or an empty mapping, shown as unknown, where it cannot be read."""
    try:
        from watchdog_project.status import snapshot

        return snapshot()
    except Exception:
        logger.exception("The status for the badge could not be read; it is shown as unknown.")
        return {}


def favicon(request: HttpRequest) -> str:
    """Address of the icon that goes with the status, for the browser's tab."""
    return static(f"watchdog/status/{badge_of(request).look.key}.svg")


def title_prefix(request: HttpRequest) -> str:
    """What stands before a page's title, so that a tab shows the status too."""
    return f"{badge_of(request).look.sign} ·"
