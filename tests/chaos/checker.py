"""Judges a history: the executors' own record against the authority's tenures.

Nothing here knows how a lease works, only what must never be seen.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

# A database's times are read with a precision of a millisecond (SQLite).
PRECISION = 0.002

OVERLAP = "two held one market at the same time"
TOKEN_REPEATED = "a token repeated, went back or was never granted"
STALE_WRITE = "a write with an old token passed verify"
NOT_STOOD_DOWN = "a holder acted after the next grant"
ALIVE_WHEN_GRANTABLE = "a holder acted when its market could be granted again"
TENURES_OVERLAP = "a tenure began before the last one ended"
GRANTED_TOO_EARLY = "a market was granted before its lock delay was over"
TAKEOVER_UNTOLD = "a takeover was not told, or one that was none"
DEAD_LEASE_RENEWED = "a lease was renewed after its end"
STARVED = "a market that nobody held was not granted in time"


@dataclass(frozen=True, slots=True)
class Violation:
    kind: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.sentence}"


@dataclass(frozen=True, slots=True)
class TenureFact:
    """A tenure as the authority kept it, in seconds of the executors' clock."""

    lock: str
    token: int
    run: str
    acquired: float
    ended: float | None
    end: str
    takeover: bool
    delay: float

    @property
    def grantable(self) -> float:
        """When the next grant may come at the earliest, of a tenure that ended."""
        assert self.ended is not None
        return self.ended + (0.0 if self.end in ("released", "crashed") else self.delay)


@dataclass(slots=True)
class Span:
    """The time between the first and the last act of one executor with one token."""

    token: int | None
    who: str
    first: float
    last: float


@dataclass
class History:
    """A record, read once and kept as what the rules need of it."""

    spans: dict[tuple[str, int | None, str], Span] = field(default_factory=dict)
    grants: list[dict[str, Any]] = field(default_factory=list)
    verified: list[dict[str, Any]] = field(default_factory=list)
    renewed: list[dict[str, Any]] = field(default_factory=list)
    waited: list[dict[str, Any]] = field(default_factory=list)
    ended: list[dict[str, Any]] = field(default_factory=list)
    faults: list[dict[str, Any]] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    acts: int = 0

    @classmethod
    def read(cls, lines: Iterable[Mapping[str, Any]]) -> History:
        history = cls()
        kept = {
            "granted": history.grants,
            "verified": history.verified,
            "renewed": history.renewed,
            "waited": history.waited,
            "ended": history.ended,
            "fault": history.faults,
        }
        for line in lines:
            kind = line["kind"]
            if kind == "act":
                history._act(line["lock"], line["token"], line["who"], line["at"])
            elif kind == "refused":
                history.refusals[line["code"]] += 1
            else:
                kept[kind].append(dict(line))
        return history

    def _act(self, lock: str, token: int | None, who: str, at: float) -> None:
        self.acts += 1
        span = self.spans.setdefault((lock, token, who), Span(token, who, at, at))
        span.first, span.last = min(span.first, at), max(span.last, at)


def judge(
    history: History, tenures: Iterable[TenureFact], patience: float | None = None
) -> list[Violation]:
    """Every violation that the history shows; empty for one that is right.

    `patience`: seconds within which somebody who keeps asking for a market must get it.
    """
    by_lock: dict[str, list[TenureFact]] = defaultdict(list)
    for tenure in tenures:
        by_lock[tenure.lock].append(tenure)
    for kept in by_lock.values():
        kept.sort(key=lambda tenure: (tenure.acquired, tenure.token))
    found = [
        *_overlaps(history),
        *_tokens(history, by_lock),
        *_stale_writes(history, by_lock),
        *_late_acts(history, by_lock),
        *_renewals(history),
    ]
    for kept in by_lock.values():
        found += _succession(kept)
    if patience is not None:
        found += [
            Violation(STARVED, f"{line['lock']} for {line['until'] - line['since']:.3f} s")
            for line in history.waited
            if line["until"] - line["since"] > patience
        ]
    return found


def _overlaps(history: History) -> Iterable[Violation]:
    by_lock: dict[str, list[Span]] = defaultdict(list)
    for (lock, _, _), span in history.spans.items():
        by_lock[lock].append(span)
    for lock, spans in by_lock.items():
        spans.sort(key=lambda span: span.first)
        latest = spans[0]
        for span in spans[1:]:
            if span.first <= latest.last:
                yield Violation(
                    OVERLAP,
                    f"{lock}: {latest.who} (token {latest.token}) until {latest.last:.4f}, "
                    f"{span.who} (token {span.token}) from {span.first:.4f}",
                )
            if span.last > latest.last:
                latest = span


def _tokens(history: History, tenures: Mapping[str, list[TenureFact]]) -> Iterable[Violation]:
    for lock, kept in tenures.items():
        for earlier, later in pairwise(kept):
            if later.token <= earlier.token:
                yield Violation(
                    TOKEN_REPEATED, f"{lock}: {later.token} was granted after {earlier.token}"
                )
        for run, times in Counter(tenure.run for tenure in kept).items():
            if times > 1:
                yield Violation(TOKEN_REPEATED, f"{lock}: run {run} has {times} tenures")
    runs = {(lock, tenure.token): tenure.run for lock, kept in tenures.items() for tenure in kept}
    holders: dict[tuple[str, int], str] = {}
    for grant in history.grants:
        if grant["token"] is None:
            continue
        key = (grant["lock"], grant["token"])
        if runs.get(key) != grant["run"]:
            yield Violation(TOKEN_REPEATED, f"{key}: the authority has no such tenure")
        if holders.setdefault(key, grant["who"]) != grant["who"]:
            yield Violation(TOKEN_REPEATED, f"{key}: {holders[key]} and {grant['who']} have it")


def _stale_writes(history: History, tenures: Mapping[str, list[TenureFact]]) -> Iterable[Violation]:
    by_token = {(lock, tenure.token): tenure for lock, kept in tenures.items() for tenure in kept}
    for line in history.verified:
        if not line["ok"]:
            continue
        tenure = by_token.get((line["lock"], line["token"]))
        if tenure is None:
            yield Violation(STALE_WRITE, f"{line['lock']}: {line['token']} was never granted")
        elif tenure.ended is not None and line["asked"] > tenure.ended + PRECISION:
            yield Violation(
                STALE_WRITE,
                f"{line['lock']}: {line['token']} passed {line['asked'] - tenure.ended:.3f} s late",
            )


def _late_acts(history: History, tenures: Mapping[str, list[TenureFact]]) -> Iterable[Violation]:
    following: dict[tuple[str, int], tuple[TenureFact, TenureFact | None]] = {}
    for lock, kept in tenures.items():
        for position, tenure in enumerate(kept):
            after = kept[position + 1] if position + 1 < len(kept) else None
            following[lock, tenure.token] = (tenure, after)
    for (lock, token, who), span in history.spans.items():
        if token is None or (lock, token) not in following:
            continue
        tenure, after = following[lock, token]
        if after is not None and span.last > after.acquired + PRECISION:
            late = span.last - after.acquired
            yield Violation(NOT_STOOD_DOWN, f"{lock}: {who} (token {token}) by {late:.4f} s")
        if tenure.ended is not None and span.last > tenure.grantable + PRECISION:
            late = span.last - tenure.grantable
            yield Violation(ALIVE_WHEN_GRANTABLE, f"{lock}: {who} (token {token}) by {late:.4f} s")


def _succession(tenures: list[TenureFact]) -> Iterable[Violation]:
    for earlier, later in pairwise(tenures):
        which = f"{later.lock}: {later.token} after {earlier.token}"
        if earlier.ended is None or later.acquired < earlier.ended - PRECISION:
            yield Violation(TENURES_OVERLAP, which)
            continue
        if later.acquired < earlier.grantable - PRECISION:
            early = earlier.grantable - later.acquired
            yield Violation(GRANTED_TOO_EARLY, f"{which} by {early:.3f} s")
        if later.takeover != (earlier.end != "released"):
            yield Violation(TAKEOVER_UNTOLD, f"{which}, which was {earlier.end}")


def _renewals(history: History) -> Iterable[Violation]:
    """Nothing can have prolonged a lease between the last answer and the end of its TTL."""
    in_force: dict[tuple[str, int], float] = {}
    for grant in history.grants:
        if "ttl" in grant:
            in_force[grant["lock"], grant["token"]] = grant["at"] + grant["ttl"]
    for line in sorted(history.renewed, key=lambda line: float(line["answered"])):
        key = (line["lock"], line["token"])
        if line["sent"] > in_force.get(key, line["sent"]) + PRECISION:
            late = line["sent"] - in_force[key]
            yield Violation(DEAD_LEASE_RENEWED, f"{key} by {late:.3f} s")
        in_force[key] = line["answered"] + line["ttl"]
