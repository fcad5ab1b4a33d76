"""The one sentence an operator reads: is it safe, and if not, what, where, since when. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from watchdog_project.badge import Badge
    from watchdog_project.dashboard import MarketRow

NAMED = 4
SENTENCES = {
    "VIOLATION": ("breaks a rule of identity", "break a rule of identity"),
    "STALE": ("fell silent: what is known of it is too old", "fell silent"),
    "UNKNOWN": ("has nothing to judge from yet", "have nothing to judge from yet"),
}


@dataclass(frozen=True, slots=True)
class Headline:
    """`look` as the badge's; `rows` are the markets that it tells of, worst first."""

    look: str
    text: str
    advice: str = ""
    rows: Sequence[MarketRow] = ()


def headline_of(badge: Badge, rows: Sequence[MarketRow]) -> Headline:
    """What matters most of all that is known."""
    if badge.snapshot.get("unreadable"):
        return Headline(
            "unknown",
            "Parts of the status cannot be read",
            "Is the database up? What is shown here is incomplete.",
        )
    for status in ("VIOLATION", "STALE", "UNKNOWN"):
        if status == "UNKNOWN" and (badge.snapshot.get("sweep") or {}).get("overdue"):
            break
        told_of = [row for row in rows if row.status == status]
        if told_of:
            return _of_markets(status, told_of)
    if (badge.snapshot.get("sweep") or {}).get("overdue"):
        return Headline(
            "stale",
            "Nobody is checking: the identity sweep is overdue",
            "Are worker and beat running? python3 manage.py up starts both.",
        )
    working = [row for row in rows if row.status == "OK"]
    if not working:
        return Headline("idle", "Every robot has stopped cleanly", "Nothing is open.")
    text = f"{_number(len(working))} right, on fresh evidence"
    idle = len(rows) - len(working)
    return Headline("ok", text, f"{_number(idle)} idle." if idle else "")


def _of_markets(status: str, told_of: Sequence[MarketRow]) -> Headline:
    one, many = SENTENCES[status]
    if len(told_of) == 1:
        text = f"{told_of[0].full_name} {one}"
    else:
        names = ", ".join(row.full_name for row in told_of[:NAMED])
        more = len(told_of) - NAMED
        text = f"{names}{f' and {more} more' if more > 0 else ''} {many}"
    return Headline(told_of[0].look.key, text, rows=told_of[:NAMED])


def _number(count: int) -> str:
    return f"{count} market" if count == 1 else f"{count} markets"
