"""The badge as a picture for wikis and dashboards that cannot run the console's."""

from __future__ import annotations

from datetime import datetime
from xml.sax.saxutils import escape

from watchdog_project.badge import LOOKS
from watchdog_project.status import CHICAGO

# Each carries white text with a contrast of 4.5 at least.
COLOURS = {
    "VIOLATION": "#c81e2c",
    "STALE": "#b45309",
    "UNKNOWN": "#64748b",
    "OK": "#15803d",
    "IDLE": "#64748b",
}
GROUND = "#1f2937"
HEIGHT = 20
CHARACTER = 7.2
PADDING = 8


def badge_svg(status: str, violations: int, now: datetime, market: str | None = None) -> str:
    """An SVG of what the market (or, with None, every market) stands at, and as of which minute.

    The minute is in the picture, because a copy that nobody renews must be seen to be old.
    """
    look = LOOKS[status]
    subject = "IDENTITY" if market is None else f"{market or '(no market)'} IDENTITY"
    minute = f"{now.astimezone(CHICAGO):%Y-%m-%d %H:%M %Z}"
    count = f", {violations} open violation{'s' * (violations != 1)}" if violations else ""
    title = f"{subject} {status}{count}, as of {minute}. {look.meaning}"
    fields = [(subject, GROUND), (look.sign, COLOURS[status]), (minute[-9:], GROUND)]
    return _picture(fields, title)


def _picture(fields: list[tuple[str, str]], title: str) -> str:
    parts, left = [], 0.0
    for text, colour in fields:
        inner = len(text) * CHARACTER
        width = inner + 2 * PADDING
        parts.append(
            f'<rect x="{left:g}" width="{width:g}" height="{HEIGHT}" fill="{colour}"/>'
            f'<text x="{left + PADDING:g}" y="14" textLength="{inner:g}"'
            f' lengthAdjust="spacingAndGlyphs">{escape(text)}</text>'
        )
        left += width
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left:g}" height="{HEIGHT}" role="img"'
        f' viewBox="0 0 {left:g} {HEIGHT}" aria-labelledby="title">'
        f'<title id="title">{escape(title)}</title>'
        '<g fill="#fff" font-family="Verdana,DejaVu Sans,Geneva,sans-serif" font-size="11"'
        f' font-weight="bold">{"".join(parts)}</g></svg>'
    )
