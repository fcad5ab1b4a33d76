"""The life of an alert: what a look at the findings changes, and who has to hear of it. Pure.

pending -> firing -> (acknowledged | snoozed) -> resolved. An alert whose condition clears while it
is pending never was one. A step that is `owed` has to be told; who tells it is not decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from watchdog_project.alerts.conditions import Finding, Key, is_in_session
from watchdog_project.alerts.facts import Facts
from watchdog_project.alerts.kinds import DEFAULTS, Kind, Rule, Severity

# What was held back for a cause that is gone may just be slower to recover.
LINGER = timedelta(seconds=30)


class State(StrEnum):
    PENDING = "pending"
    FIRING = "firing"
    ACKNOWLEDGED = "acknowledged"
    SNOOZED = "snoozed"
    RESOLVED = "resolved"


class Step(StrEnum):
    """What happened to an alert; its history is made of these."""

    OPENED = "opened"
    FIRED = "fired"
    STILL_FIRING = "still firing"
    ACKNOWLEDGED = "acknowledged"
    SNOOZED = "snoozed"
    WOKE = "snooze over"
    HELD_BACK = "held back"
    LET_GO = "no longer held back"
    RESOLVED = "resolved"
    PASSED = "passed before it was an alert"


@dataclass(frozen=True, slots=True)
class Known:
    """An alert that is not resolved, as it was read.

    `told_at` is when a message of it was last owed; `held_back` why none is, else empty;
    `quiet_until` when the next may be. `version` grows with every change, whoever makes it.
    """

    kind: Kind
    market: str
    scope: str
    subject: str
    state: State
    severity: Severity
    since: datetime
    host: str = ""
    told_at: datetime | None = None
    snoozed_until: datetime | None = None
    held_back: str = ""
    quiet_until: datetime | None = None
    id: int | None = None
    version: int = 0

    @property
    def key(self) -> Key:
        return self.kind.value, self.market, self.scope, self.subject


@dataclass(frozen=True, slots=True)
class Told:
    """A step, and whether somebody has to hear of it."""

    step: Step
    owed: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one alert: `after` in place of `before` (None: it is new), and its steps."""

    before: Known | None
    after: Known
    steps: Sequence[Told]
    finding: Finding | None


@dataclass(frozen=True, slots=True)
class Window:
    """Maintenance: no messages of `market` (all of them where it is empty) but emergencies."""

    market: str
    starts_at: datetime
    ends_at: datetime
    reason: str
    emergencies_too: bool = False

    def covers(self, one: Known, now: datetime) -> bool:
        if not self.starts_at <= now < self.ends_at or self.market not in ("", one.market):
            return False
        return self.emergencies_too or one.severity is not Severity.EMERGENCY


Place = tuple[str, ...]
Causes = Mapping[tuple[Kind, Place], Known]


@dataclass(frozen=True, slots=True)
class Inhibition:
    """While `cause` is open, its `effects` send no messages of their own."""

    cause: Kind
    effects: frozenset[Kind]
    same: str

    def place_of(self, one: Known) -> Place | None:
        """What cause and effect must have in common; None where it is not known."""
        if self.same == "host":
            return (one.host,) if one.host else None
        return (one.market, one.scope) if self.same == "market" else ()


_OF_A_ROBOT = frozenset(
    {Kind.IDENTITY_STALE, Kind.ENGINE_STALLED, Kind.DATA_STALLED, Kind.CONNECTION_LOST}
)
INHIBITIONS = (
    Inhibition(Kind.HOST_SILENT, _OF_A_ROBOT | {Kind.ROBOT_SILENT, Kind.LOCK_STALE}, "host"),
    Inhibition(Kind.ROBOT_SILENT, _OF_A_ROBOT | {Kind.LOCK_STALE}, "market"),
    Inhibition(Kind.LEASE_LOST, frozenset({Kind.LOCK_STALE}), "market"),
    Inhibition(Kind.SWEEP_OVERDUE, frozenset({Kind.IDENTITY_STALE}), "everywhere"),
)


def plan(
    known: Sequence[Known],
    findings: Mapping[Key, Finding],
    facts: Facts,
    *,
    rules: Mapping[Kind, Rule] = DEFAULTS,
    windows: Sequence[Window] = (),
    unjudged: frozenset[Kind] = frozenset(),
) -> list[Change]:
    """What this look changes; an empty list where everything stays as it is.

    A kind in `unjudged` is left alone: what cannot be read neither opens nor closes anything.
    """
    now = facts.now
    before = {one.key: one for one in known}
    after: dict[Key, Known] = {}
    steps: dict[Key, list[Told]] = {}
    for key in [*before, *(key for key in findings if key not in before)]:
        one, finding = before.get(key), findings.get(key)
        kind = Kind(key[0])
        if kind in unjudged:
            if one is not None:
                after[key] = one
            continue
        moved, taken = _moved(one, finding, rules[kind], facts)
        if moved is not None:
            after[key], steps[key] = moved, taken
    causes = _causes(one for one in after.values() if one.state is not State.RESOLVED)
    for key, one in after.items():
        if key in steps and one.state is not State.RESOLVED:
            rule, in_hours = rules[one.kind], _may_speak(one, rules[one.kind], facts)
            held = _held_back(one, causes, windows, now)
            after[key] = _spoken_of(one, held, rule, steps[key], now, in_hours=in_hours)
    return [
        Change(before.get(key), one, steps.get(key, []), findings.get(key))
        for key, one in after.items()
        if one != before.get(key)
    ]


def _moved(
    one: Known | None, finding: Finding | None, rule: Rule, facts: Facts
) -> tuple[Known | None, list[Told]]:
    """The alert in its next state by the condition alone; None where there is none."""
    if one is None:
        if finding is None or not rule.enabled or not _is_news(finding, rule, facts):
            return None, []
        since = min(finding.since, facts.now)
        one = Known(
            finding.kind,
            finding.market,
            finding.scope,
            finding.subject,
            State.PENDING,
            rule.severity,
            since,
            finding.host,
        )
        moved, steps = _ripened(one, rule, facts.now)
        return moved, [Told(Step.OPENED), *steps]
    if finding is None or not rule.enabled:
        return _ended(one, "" if rule.enabled else "its rule was switched off")
    one = replace(one, severity=rule.severity)
    if one.state is State.PENDING:
        if not _is_news(finding, rule, facts):
            return one, []
        return _ripened(one, rule, facts.now)
    if one.state is State.SNOOZED and (one.snoozed_until is None or facts.now >= one.snoozed_until):
        woken = replace(one, state=State.FIRING, snoozed_until=None)
        return woken, [Told(Step.WOKE)]
    return one, []


def _ripened(one: Known, rule: Rule, now: datetime) -> tuple[Known, list[Told]]:
    if now < one.since + rule.hold:
        return one, []
    return replace(one, state=State.FIRING), [Told(Step.FIRED)]


def _ended(one: Known, reason: str) -> tuple[Known, list[Told]]:
    resolved = replace(one, state=State.RESOLVED, held_back="", quiet_until=None)
    if one.state is State.PENDING:
        return resolved, [Told(Step.PASSED, reason=reason)]
    return resolved, [Told(Step.RESOLVED, owed=one.told_at is not None, reason=reason)]


def _is_news(finding: Finding, rule: Rule, facts: Facts) -> bool:
    if not finding.news:
        return False
    if not rule.market_hours_only or finding.kind is Kind.HOST_SILENT:
        return True
    return is_in_session(facts, finding.market, finding.scope)


def _may_speak(one: Known, rule: Rule, facts: Facts) -> bool:
    return not rule.market_hours_only or is_in_session(facts, one.market, one.scope)


def _causes(standing: Iterable[Known]) -> Causes:
    """What explains others, by what they must have in common with it."""
    return {
        (one.kind, place): one
        for one in standing
        for inhibition in INHIBITIONS
        if inhibition.cause is one.kind and (place := inhibition.place_of(one)) is not None
    }


def _held_back(one: Known, causes: Causes, windows: Sequence[Window], now: datetime) -> str:
    for inhibition in INHIBITIONS:
        if one.kind not in inhibition.effects:
            continue
        place = inhibition.place_of(one)
        cause = causes.get((inhibition.cause, place)) if place is not None else None
        if cause is not None:
            return f"{cause.kind.value} {cause.subject or cause.market}".strip()
    for window in windows:
        if window.covers(one, now):
            return f"maintenance: {window.reason}"
    return ""


def _spoken_of(
    one: Known, held: str, rule: Rule, steps: list[Told], now: datetime, *, in_hours: bool
) -> Known:
    """The alert with its `steps` marked as owed, or given one more, where it is to be told."""
    if held != one.held_back:
        if one.state is not State.PENDING:
            steps.append(Told(Step.HELD_BACK, reason=held) if held else Told(Step.LET_GO))
        quiet_until = None if held or one.state is State.PENDING else now + LINGER
        one = replace(one, held_back=held, quiet_until=quiet_until)
    if one.state is not State.FIRING or held or one.severity is Severity.QUIET:
        return one
    if one.quiet_until is not None:
        if now < one.quiet_until:
            return one
        one = replace(one, quiet_until=None)
    for place, told in enumerate(steps):
        if told.step in (Step.FIRED, Step.WOKE):
            steps[place] = replace(told, owed=True)
            return replace(one, told_at=now)
    again = one.told_at is not None and bool(rule.renotify) and now >= one.told_at + rule.renotify
    if one.told_at is None or (again and in_hours):
        steps.append(Told(Step.STILL_FIRING, owed=True))
        return replace(one, told_at=now)
    return one
