"""Timelines as inline SVG, with words for who cannot see them. Pure.

Places are per cent of the width, so that a drawing fits any screen; colours come from the style
sheet, and height tells states apart where colour does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from locks.models import LockEvent, LockEventType, Tenure
from watchdog_project.timeline import Segment

STRIP_HEIGHT = 20
# Of the strip's height, by state: what is worse stands taller.
HEIGHTS = {"VIOLATION": 20, "STALE": 15, "OK": 11, "UNKNOWN": 7, "IDLE": 4, "CLOSED": 2}
# How a tenure looks, by the ends that look the same.
TENURES = {"running": "held", "released": "given back", "expired": "ended otherwise"}
LEAST_WIDTH = 0.35  # per cent, so that a minute of a month can be seen
TICKS = 6

MARKS = {
    LockEventType.ALREADY_ACTIVE: ("refused", "refused"),
    LockEventType.LOST: ("lost", "lease lost"),
    LockEventType.REVOKED: ("revoked", "revoked"),
    LockEventType.STALE: ("reaped", "expired"),
    LockEventType.FAILED: ("lost", "failed"),
}
SHAPES = {
    "refused": '<path d="M-5-5h10L0 5z"/>',
    "lost": '<path d="m-4-4 8 8m0-8-8 8"/>',
    "revoked": '<path d="M0-6 6 0 0 6-6 0z"/>',
    "reaped": '<path d="M-5-5H5V5H-5z"/>',
}


@dataclass(frozen=True, slots=True)
class Window:
    """The time that a drawing shows."""

    since: datetime
    until: datetime

    def place(self, at: datetime) -> float:
        """Where `at` stands, in per cent from the left."""
        whole = (self.until - self.since).total_seconds()
        return min(100.0, max(0.0, 100 * (at - self.since).total_seconds() / whole))

    @property
    def ticks(self) -> list[datetime]:
        step = (self.until - self.since) / TICKS
        return [self.since + step * number for number in range(TICKS + 1)]


def draw_strip(segments: Sequence[Segment], window: Window) -> SafeString:
    """How a market stood, as a strip: one bar for each segment."""
    bars = "".join(_bar(segment, window) for segment in segments)
    return _svg("wd-strip", STRIP_HEIGHT, strip_in_words(segments, window), bars)


def _bar(segment: Segment, window: Window) -> str:
    start, end = window.place(segment.start), window.place(segment.end)
    height = HEIGHTS.get(segment.status, HEIGHTS["UNKNOWN"])
    width = max(end - start, LEAST_WIDTH)
    look = escape(segment.status.lower())
    return (
        f'<rect data-look="{look}" x="{min(start, 100 - width):.2f}%" y="{STRIP_HEIGHT - height}"'
        f' width="{width:.2f}%" height="{height}"/>'
    )


def strip_in_words(segments: Sequence[Segment], window: Window) -> str:
    """The same in a sentence: each state's share of the time, the worst first."""
    if not segments:
        return "Nothing is known of this time."
    seconds: dict[str, float] = {}
    for segment in segments:
        seconds[segment.status] = seconds.get(segment.status, 0.0) + segment.seconds
    shares = [
        f"{status} {_share(seconds[status], sum(seconds.values()))}"
        for status in HEIGHTS
        if status in seconds
    ]
    since = max(window.since, segments[0].start)
    return f"Since {told(since, window)}: {', '.join(shares)}."


def _share(part: float, whole: float) -> str:
    share = 100 * part / whole
    if share >= 99.95 or share == 0:
        return f"{share:.0f} %"
    return "under 0.1 %" if share < 0.1 else f"{min(share, 99.9):.1f} %"


def told(at: datetime, window: Window) -> str:
    """A time as it is told beside a drawing: with its day where there are several."""
    local = timezone.localtime(at)
    within_a_day = window.until - window.since <= timedelta(days=1)
    return f"{local:%H:%M}" if within_a_day else f"{local:%b} {local.day}"


def draw_axis(window: Window) -> SafeString:
    """Times below a drawing."""
    marks = []
    for number, at in enumerate(window.ticks):
        anchor = {0: "start", TICKS: "end"}.get(number, "middle")
        text = "now" if number == TICKS else told(at, window)
        hidden = "" if number in (0, TICKS // 2, TICKS) else ' class="wd-wide"'
        marks.append(
            f'<text{hidden} x="{window.place(at):.2f}%" y="12" text-anchor="{anchor}">{text}</text>'
        )
    return mark_safe(  # noqa: S308 numbers and times of our own
        f'<svg class="wd-axis" width="100%" height="16" aria-hidden="true">{"".join(marks)}</svg>'
    )


def draw_locks(
    tenures: Sequence[Tenure], events: Sequence[LockEvent], window: Window
) -> SafeString:
    """Who held the market when, and what its lock told, from left to right."""
    bars = "".join(_tenure(tenure, window) for tenure in tenures)
    marks = "".join(_mark(event, window) for event in events if event.type in MARKS)
    stopped = "".join(
        _stopped(start, end, window) for start, end in kill_switch_times(events, window)
    )
    return _svg("wd-locks", 44, locks_in_words(tenures, events), stopped + bars + marks)


def lock_legend() -> list[tuple[SafeString, str]]:
    """Each look of `draw_locks` as a small picture, and what it means."""
    box = '<svg width="12" height="12">{}</svg>'
    bar = '<rect class="wd-tenure" data-end="{}" width="12" height="12" rx="2"/>'
    looks = [(box.format(bar.format(end)), words) for end, words in TENURES.items()]
    for look, words in dict(reversed(MARKS.values())).items():
        mark = f'<svg class="wd-mark" data-mark="{look}" x="6" y="6" overflow="visible">'
        looks.append((box.format(f"{mark}{SHAPES[look]}</svg>"), words))
    stopped = '<rect class="wd-stopped" width="12" height="12"/>'
    looks.append((box.format(stopped), "orders stopped"))
    return [(mark_safe(picture), words) for picture, words in looks]  # noqa: S308 our own shapes


def _tenure(tenure: Tenure, window: Window) -> str:
    start = window.place(tenure.acquired_at)
    end = window.place(tenure.ended_at or window.until)
    width = max(end - start, LEAST_WIDTH)
    kind = escape(tenure.end or "running")
    title = f"token {tenure.fencing_token}: {tenure.execution_instrument} on {tenure.host}"
    return (
        f'<rect class="wd-tenure" data-end="{kind}" x="{min(start, 100 - width):.2f}%" y="4"'
        f' width="{width:.2f}%" height="16" rx="2"><title>{escape(title)}</title></rect>'
    )


def _mark(event: LockEvent, window: Window) -> str:
    look, _ = MARKS[LockEventType(event.type)]
    return (
        f'<svg class="wd-mark" data-mark="{look}" x="{window.place(event.last_at):.2f}%" y="32"'
        f' overflow="visible">{SHAPES[look]}</svg>'
    )


def _stopped(start: datetime, end: datetime, window: Window) -> str:
    left = window.place(start)
    width = max(window.place(end) - left, LEAST_WIDTH)
    return (
        f'<rect class="wd-stopped" x="{left:.2f}%" y="0" width="{width:.2f}%" height="44">'
        "<title>orders stopped</title></rect>"
    )


def kill_switch_times(
    events: Iterable[LockEvent], window: Window
) -> list[tuple[datetime, datetime]]:
    """When orders were stopped, for this market or for all; as far as `events` tell."""
    engaged: dict[str, datetime] = {}
    times = []
    for event in sorted(events, key=lambda event: event.at):
        if event.type == LockEventType.KILL_SWITCH_ACTIVE:
            engaged.setdefault(event.name, event.at)
        elif event.type == LockEventType.KILL_SWITCH_RELEASED:
            times.append((engaged.pop(event.name, window.since), event.at))
    return times + [(start, window.until) for start in engaged.values()]


def locks_in_words(tenures: Sequence[Tenure], events: Sequence[LockEvent]) -> str:
    """The same in a sentence."""
    counted: Counter[str] = Counter()
    for event in events:
        if event.type in MARKS:
            counted[MARKS[LockEventType(event.type)][1]] += event.count
    told_of = [f"{len(tenures)} tenure{'' if len(tenures) == 1 else 's'}"]
    told_of += [f"{count}× {word}" for word, count in counted.most_common()]
    return f"{', '.join(told_of)}; the table tells each."


def _svg(kind: str, height: int, words: str, content: str) -> SafeString:
    return mark_safe(  # noqa: S308 what robots wrote is escaped where it is put in
        f'<svg class="{kind}" width="100%" height="{height}" role="img"'
        f' aria-label="{escape(words)}">{content}</svg>'
    )
