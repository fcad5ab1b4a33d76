"""What a message says: which market, who, since when, and what to do. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from watchdog_project.alerts.kinds import RANK, WHAT_TO_DO, Kind, Severity
from watchdog_project.alerts.lifecycle import Step

CHICAGO = ZoneInfo("America/Chicago")
# A message that nobody reads to its end says too much.
IN_FULL = 3
LISTED = 20
MARKETS_NAMED = 12
LONGEST_TITLE = 200
LONGEST_SENTENCE = 600

HEADINGS = {
    Step.FIRED: "",
    Step.STILL_FIRING: "still firing: ",
    Step.WOKE: "still firing, snooze over: ",
    Step.RESOLVED: "recovered: ",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One alert in a message, and the step that it is told for."""

    alert_id: int
    step: Step
    kind: Kind
    severity: Severity
    market: str
    scope: str
    summary: str
    who: str
    since: datetime
    at: datetime
    reason: str = ""

    @property
    def place(self) -> str:
        if not self.market:
            return "all markets" if self.kind is Kind.KILL_SWITCH_ENGAGED else ""
        return f"{self.market}@{self.scope}" if self.scope else self.market

    @property
    def is_over(self) -> bool:
        return self.step is Step.RESOLVED


def worst_of(lines: Sequence[Line]) -> Severity:
    return min((line.severity for line in lines), key=RANK.__getitem__)


def write_message(lines: Sequence[Line], key: str, site: str) -> tuple[str, str]:
    """The title and the body of one message that tells of all `lines`, the worst first.

    `site` is this installation's address, `""` where that is not known; `key` marks the message, so
    that a second copy of it can be told from a second message.
    """
    ordered = sorted(lines, key=lambda line: (line.is_over, RANK[line.severity], line.since))
    blocks = [_in_full(line, site) for line in ordered[:IN_FULL]]
    rest = ordered[IN_FULL:]
    if rest:
        blocks.append("\n".join(_in_short(line) for line in rest[:LISTED]))
    if len(rest) > LISTED:
        more = rest[LISTED:]
        blocks.append(f"And {len(more)} more: {_named(more)}.")
    if len(ordered) > 1:
        blocks.append(f"All of them: {_page('watchdog/alert/?state=open', site)}")
    blocks.append(f"Message {key}: if it comes twice, it is one.")
    return _title(ordered), "\n\n".join(blocks)


def _title(lines: Sequence[Line]) -> str:
    first = lines[0]
    if len(lines) == 1:
        loud = "" if first.is_over else f"{first.severity.upper()} "
        text = f"{HEADINGS.get(first.step, '')}{loud}{first.kind} {first.place}".strip()
        return _capital(text)[:LONGEST_TITLE]
    over = sum(line.is_over for line in lines)
    wrong = len(lines) - over
    parts = []
    if wrong:
        firing = [line for line in lines if not line.is_over]
        noun = "alert" if wrong == 1 else "alerts"
        parts.append(f"{worst_of(firing).upper()} {wrong} {noun}")
    if over:
        parts.append(f"{over} recovered")
    return f"{', '.join(parts)}: {_named(lines)}"[:LONGEST_TITLE]


def _in_full(line: Line, site: str) -> str:
    ended = f" ({line.reason})" if line.is_over and line.reason else ""
    said = [
        _capital(f"{HEADINGS.get(line.step, '')}{line.kind}{ended}"),
        _cut(line.summary),
        f"Market: {line.place or 'none in particular'}",
    ]
    if line.who:
        said.append(f"Who: {_cut(line.who)}")
    said.append(f"Since: {_time(line.since)}")
    if line.is_over:
        said.append(f"Over: {_time(line.at)}")
    else:
        said.append(f"Do: {WHAT_TO_DO[line.kind]}")
    said += [
        f"Page: {_page(f'watchdog/alert/{line.alert_id}/change/', site)}",
        f"Runbook: {_page(f'runbook/#{line.kind.lower()}', site)}",
    ]
    return "\n".join(said)


def _in_short(line: Line) -> str:
    head = _capital(f"{HEADINGS.get(line.step, '')}{line.kind} {line.place}".strip())
    return f"{head}, since {_time(line.since)}"


def _named(lines: Sequence[Line]) -> str:
    places = list(dict.fromkeys(line.place or line.kind.value for line in lines))
    more = len(places) - MARKETS_NAMED
    named = ", ".join(places[:MARKETS_NAMED])
    return f"{named} and {more} more" if more > 0 else named


def _page(path: str, site: str) -> str:
    return f"{site.rstrip('/')}/admin/{path}"


def _time(at: datetime) -> str:
    return f"{at.astimezone(CHICAGO):%Y-%m-%d %H:%M:%S %Z} ({at.astimezone(UTC):%H:%M:%S} UTC)"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_SENTENCE else text[: LONGEST_SENTENCE - 1] + "…"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
