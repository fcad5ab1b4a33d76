"""The status badge in the header of every admin page: what a snapshot looks like to the eye."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.utils import timezone
from django.utils.functional import lazy
from django.utils.html import format_html
from django.utils.safestring import SafeString

from watchdog_project.status import snapshot

logger = logging.getLogger(__name__)

SHOWN_MESSAGES = 8
KILL_SWITCH = {True: "ENGAGED", None: "UNREADABLE"}


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


# The drawing of each look, on a ground of 24 by 24; the same wherever a status is shown.
ICONS = {
    "ok": ("M12 2 4 5v6c0 5 3.4 9.3 8 11 4.6-1.7 8-6 8-11V5z", "m8 12 3 3 5.5-6"),
    "violation": ("M8 2h8l6 6v8l-6 6H8l-6-6V8z", "m8.5 8.5 7 7m0-7-7 7"),
    "stale": ("M12 2.5 1.5 21h21z", "M12 9.5v5m0 3v.1"),
    "unknown": (
        "M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20z",
        "M9.3 9.4a2.7 2.7 0 1 1 4 2.4c-.9.5-1.3 1-1.3 2m0 3v.1",
    ),
    "idle": ("M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20z", "M8 12h8"),
    "unreachable": (
        "M3 3h18v18H3z",
        "M6.5 10a8 8 0 0 1 11 0M9 13.2a4.4 4.4 0 0 1 6 0M12 17v.1M6 18 18 6",
    ),
}


def _drawn(look: str) -> SafeString:
    ground, glyph = ICONS[look]
    return format_html(
        '<svg class="wd-icon" data-look="{}" viewBox="0 0 24 24" aria-hidden="true"'
        ' focusable="false"><path class="wd-icon-ground" d="{}"/>'
        '<g class="wd-icon-glyph"><path d="{}"/></g></svg>',
        look,
        ground,
        glyph,
    )


ICON_OF = {look: _drawn(look) for look in ICONS}


@dataclass(frozen=True, slots=True)
class Badge:
    """What the header shows: a look, what is wrong in words, and as of when.

    `label` is empty, or says of which day the logs are where only old logs say what is wrong.
    `kill_switch` is "ENGAGED", "UNREADABLE" (which counts as engaged) or empty.
    """

    look: Look
    messages: tuple[str, ...]
    label: str
    kill_switch: str
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
    return Badge(
        look=LOOKS.get(str(snapshot.get("status")), LOOKS["UNKNOWN"]),
        messages=tuple(_messages(snapshot)),
        label=_label(snapshot),
        kill_switch=KILL_SWITCH.get(snapshot.get("kill_switch_active"), ""),
        as_of=now,
        snapshot=snapshot,
    )


def _messages(snapshot: Mapping[str, Any]) -> Iterator[str]:
    for row in snapshot.get("markets") or ():
        for violation in row["identity"]["violations"]:
            yield f"{row['market'] or 'No market'}: {violation['message']}"
    yield from (f"Could not be read: {part}" for part in snapshot.get("unreadable") or ())
    if (snapshot.get("sweep") or {}).get("overdue") and snapshot.get("markets"):
        yield "The identity sweep is overdue: are the worker and beat running?"
    for name in snapshot.get("overdue_tasks") or ():
        if name != "sweep identity":
            yield f"The periodic task {name} is overdue: Periodic work says since when."


def _label(snapshot: Mapping[str, Any]) -> str:
    broken = [
        row["identity"]
        for row in snapshot.get("markets") or ()
        if row["identity"]["status"] == "VIOLATION"
    ]
    if not all(identity.get("historical") for identity in broken):
        return ""
    return max((str(identity.get("label") or "") for identity in broken), default="")


def badge_of(request: HttpRequest) -> Badge:
    """The badge as of this request, read once a request; never raises."""
    known = getattr(request, "_watchdog_badge", None)
    if known is None:
        known = _read_badge(timezone.now())
        request._watchdog_badge = known  # type: ignore[attr-defined]
    return known


def _read_badge(now: datetime) -> Badge:
    try:
        return badge_from(snapshot(now, with_ingest=False), now)
    except Exception:
        logger.exception("The badge could not be made; the status is shown as unknown.")
        return badge_from({"unreadable": ["the status"]}, now)


def favicon(request: HttpRequest) -> str:
    """Address of the icon that goes with the status, for the browser's tab.

    Not read before the page is rendered: a view's transaction, if it has one, is over by then.
    """
    return _text_when_rendered(lambda: static(f"watchdog/status/{badge_of(request).look.key}.svg"))


def title_prefix(request: HttpRequest) -> str:
    """What stands before a page's title, so that a tab shows the status too."""
    return _text_when_rendered(lambda: f"{badge_of(request).look.sign} ·")


def _text_when_rendered(text: Callable[[], str]) -> str:
    return lazy(text, str)()
