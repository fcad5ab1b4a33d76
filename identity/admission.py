"""What one line means for identity: its market, its time, what the invariants find in it. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from identity.facts import TenureFact
from identity.invariants import Evidence, Finding, bears_identity, judge, market_of
from identity.lexicon import Lexicon
from identity.liveness import CLOCK_TOLERANCE, HISTORY_AFTER, is_historical
from identity.reports import Report, SelfTest, read_report, read_self_test
from identity.robotlog import MAX_NAME, NormalisedEvent, bounded
from identity.vocabulary import INVARIANTS_STATUS, SELF_TEST, claims_market

MAX_SCOPE = 128


@dataclass(frozen=True, slots=True)
class Place:
    """Where lines come from: the folder or sender they are written by, its host and scope."""

    log: str
    host: str = ""
    scope: str = ""
    folder_id: int | None = None


@dataclass(frozen=True, slots=True)
class Markets:
    """The registry as identity needs it; `per_account` are the markets exclusive per account."""

    lexicon: Lexicon
    per_account: frozenset[str]

    def scope_of(self, market: str, place_scope: str, account: str) -> str:
        """What the market is exclusive within; the registry decides, never the robot alone."""
        if market and market not in self.per_account:
            return ""
        # Two accounts can look the same once they are masked.
        return bounded(place_scope or ("" if "*" in account else account), MAX_SCOPE)


@dataclass(slots=True)
class Admitted:
    """A line that was read, with everything known of it before the database is asked."""

    key: str
    offset: int | None
    event: NormalisedEvent
    at: datetime
    time_is_certain: bool
    historical: bool
    market: str
    scope: str
    run_id: str
    findings: list[Finding] = field(default_factory=list)
    report: Report | None = None
    self_test: SelfTest | None = None
    problems: tuple[str, ...] = ()
    is_evidence: bool = False

    @property
    def claims(self) -> bool:
        return bool(self.market and self.event.run_id) and claims_market(self.event.event_type)


def admit(
    event: NormalisedEvent,
    key: str,
    offset: int | None,
    place: Place,
    markets: Markets,
    now: datetime,
    tenures: Sequence[TenureFact] | None = None,
) -> Admitted:
    """Judge one event as read at `now`."""
    at, time_is_certain = _known_time(event, now)
    self_test = read_self_test(event) if event.event_type == SELF_TEST else None
    report = read_report(event) if event.event_type == INVARIANTS_STATUS else None
    market = market_of(event, markets.lexicon)
    scope = markets.scope_of(market, place.scope, event.account)
    is_identitys = bears_identity(event)
    findings: list[Finding] = []
    # No rule has a word to say about the rest, which is most lines of a log.
    if is_identitys or self_test or event.fencing_token is not None:
        findings = judge(Evidence(markets.lexicon, event, self_test, tenures, scope))
    said = report or self_test
    return Admitted(
        key=key,
        offset=offset,
        event=event,
        at=at,
        time_is_certain=time_is_certain,
        historical=is_historical(at, now),
        market=market,
        scope=scope,
        run_id=run_name(event, place),
        findings=findings,
        report=report,
        self_test=self_test,
        problems=said.problems if said else (),
        is_evidence=bool(findings) or is_identitys,
    )


def run_name(event: NormalisedEvent, place: Place) -> str:
    """The run an event belongs to; lines that name none are kept apart by the log they stand in."""
    return event.run_id or bounded(f"unnamed@{place.log}", MAX_NAME)


def file_key(fingerprint: str, offset: int, content: bytes) -> str:
    """The identity of a file's line: the file, where in it, and what it says.

    In the order of the file, so that a database finds room for the next beside the one before.
    """
    return f"{fingerprint[:16]}:{offset:012x}:{hashlib.sha256(content).hexdigest()[:34]}"


def posted_key(event: NormalisedEvent, place: Place) -> str:
    """The identity of a line sent over HTTP: the `event_id` its run gave it, else its content."""
    if event.event_id:
        return _hash(["event_id", event.run_id or place.log, event.event_id])
    # In the order of time, for the same reason.
    at = int(event.occurred_at.timestamp()) if event.occurred_at else 0
    return f"{at:012x}:{_hash(['content', event.record])[:50]}"


def _hash(value: list[str | Mapping[str, object]]) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=dict)
    return hashlib.sha256(text.encode()).hexdigest()


def just_history(now: datetime) -> datetime:
    """The newest time that is no news: for what says nothing reliable of its own time."""
    return now - HISTORY_AFTER - timedelta(seconds=1)


def _known_time(event: NormalisedEvent, now: datetime) -> tuple[datetime, bool]:
    """When the event happened, as far as `now` can be trusted, and whether that is certain."""
    at = event.occurred_at
    if at is None or at > now + CLOCK_TOLERANCE:
        return just_history(now), False
    return min(at, now), event.time_is_exact
