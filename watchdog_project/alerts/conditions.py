"""The conditions: what is wrong now, told from facts. Pure, one small function per kind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from watchdog_project.alerts.facts import Facts, Lease, Liveness, Refusal, Session
from watchdog_project.alerts.kinds import QUIET_AFTER, SESSION_GRACE, Kind

HELD, EXPIRED = "HELD", "EXPIRED"
STALE = "STALE"
STALE_AFTER = timedelta(seconds=150)
# A renewal may have been on its way when its sender died: a request lasts 2 s at the most.
ON_ITS_WAY = timedelta(seconds=2)
# Who waits for a lease asks again at least that often.
STILL_ASKING = timedelta(minutes=1)

DUPLICATE_EXECUTOR, STALE_FENCING_TOKEN = "DUPLICATE_EXECUTOR", "STALE_FENCING_TOKEN"

Key = tuple[str, str, str, str]
"""Kind, market, scope, subject: at most one open alert each."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One condition that holds.

    `since` is when it began, `host` where (for what a silent host explains), `who` in words.
    `news` False: it keeps an alert open, and opens none.
    """

    kind: Kind
    market: str
    scope: str
    subject: str
    since: datetime
    summary: str
    who: str = ""
    host: str = ""
    news: bool = True

    @property
    def key(self) -> Key:
        return self.kind.value, self.market, self.scope, self.subject


Condition = Callable[[Facts], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class Pair:
    """A holder and those who were refused because of him, one after the other from one place.

    A duplicate that is started again and again is one: each start has a run of its own, but it
    comes from the same host after the one before has asked its last.
    """

    refusals: Sequence[Refusal]

    @property
    def subject(self) -> str:
        return self.refusals[0].run_id

    @property
    def last_at(self) -> datetime:
        return max(refusal.last_at for refusal in self.refusals)


def pairs_of(lease: Lease) -> list[Pair]:
    """Everybody whom this tenure's holder was in the way of."""
    chains: list[list[Refusal]] = []
    for refusal in sorted(lease.refusals, key=lambda one: (one.first_at, one.run_id)):
        for chain in chains:
            before = chain[-1]
            if refusal.host and refusal.host == before.host and refusal.first_at > before.last_at:
                chain.append(refusal)
                break
        else:
            chains.append([refusal])
    return [Pair(chain) for chain in chains]


def both_alive_since(lease: Lease, pair: Pair) -> datetime | None:
    """When the first refusal was that the holder has outlived, or None.

    Until he renews after it, the newcomer may be his own successor that waits out a dead lease.
    On one host that takes a renewal that was sent after the refusal for certain.
    """
    if lease.state != HELD or lease.renewed_at is None:
        return None
    for refusal in pair.refusals:
        same_host = bool(refusal.host) and refusal.host.casefold() == lease.host.casefold()
        if lease.renewed_at > refusal.first_at + (ON_ITS_WAY if same_host else timedelta(0)):
            return refusal.first_at
    return None


def duplicate_executor_blocked(facts: Facts) -> Iterator[Finding]:
    for lease in facts.leases:
        for pair in pairs_of(lease):
            since = both_alive_since(lease, pair)
            if since is None or facts.now - pair.last_at > QUIET_AFTER:
                continue
            newest = pair.refusals[-1]
            times = sum(refusal.count for refusal in pair.refusals)
            yield Finding(
                Kind.DUPLICATE_EXECUTOR_BLOCKED,
                lease.market,
                lease.scope,
                f"{lease.fencing_token}:{pair.subject}",
                since,
                f"A second executor of {lease.market} was refused while the first is alive: "
                f"{_executor(newest.execution_instrument, newest.run_id, newest.host)} "
                f"asked {_times(times)}.",
                f"holds it: {_executor(lease.execution_instrument, lease.run_id, lease.host)}; "
                f"refused: {_executor(newest.execution_instrument, newest.run_id, newest.host)}",
                lease.host,
            )


def duplicate_instance_detected(facts: Facts) -> Iterator[Finding]:
    for one in facts.duplicates:
        yield Finding(
            Kind.DUPLICATE_INSTANCE_DETECTED,
            one.market,
            one.scope,
            "",
            one.first_at,
            f"A robot of {one.market or 'an unnamed market'} found another instance of itself "
            f"running, and said so {_times(one.count)}.",
            f"said by {_executor('', one.run_id, '')}",
        )


def restart_waiting(facts: Facts) -> Iterator[Finding]:
    for lease in facts.leases:
        if lease.state == "FREE":
            continue
        for pair in pairs_of(lease):
            asking = facts.now - pair.last_at <= STILL_ASKING
            if not asking or both_alive_since(lease, pair) is not None:
                continue
            newest = pair.refusals[-1]
            who = _executor(newest.execution_instrument, newest.run_id, newest.host)
            yield Finding(
                Kind.RESTART_WAITING,
                lease.market,
                lease.scope,
                f"{lease.fencing_token}:{pair.subject}",
                pair.refusals[0].first_at,
                f"{who} waits for the lease of {lease.market}, whose holder was not heard since.",
                who,
                newest.host,
            )


def identity_findings(facts: Facts) -> Iterator[Finding]:
    """One finding per code, so that another breach is another alert, and not a known one's."""
    kinds = {
        DUPLICATE_EXECUTOR: Kind.DUPLICATE_EXECUTOR,
        STALE_FENCING_TOKEN: Kind.STALE_TOKEN_USED,
    }
    by_code = defaultdict(list)
    for breach in facts.breaches:
        by_code[breach.market, breach.scope, breach.code].append(breach)
    for (market, scope, code), breaches in sorted(by_code.items()):
        newest = max(breaches, key=lambda one: one.last_seen_at)
        kind = kinds.get(code, Kind.IDENTITY_VIOLATION)
        more = f" ({len(breaches) - 1} more of this code)" if len(breaches) > 1 else ""
        yield Finding(
            kind,
            market,
            scope,
            code if kind is Kind.IDENTITY_VIOLATION else "",
            min(breach.opened_at for breach in breaches),
            f"{code}: {newest.message}{more}",
            _executor("", newest.run_id, newest.host),
            newest.host,
        )


def identity_stale(facts: Facts) -> Iterator[Finding]:
    hosts = {(one.market, one.scope): one.host for one in facts.leases}
    hosts |= {(one.market, one.scope): one.host for one in facts.liveness}
    for one in facts.standings:
        if one.status != STALE or one.historical:
            continue
        oldest = min(one.evidence_at, one.checked_at or one.evidence_at)
        host = hosts.get((one.market, one.scope), "")
        yield Finding(
            Kind.IDENTITY_STALE,
            one.market,
            one.scope,
            "",
            oldest + STALE_AFTER,
            f"Nothing that is known says how {one.market or 'it'} stands now: the newest evidence, "
            "or the last check of it, is older than 150 seconds.",
            _executor("", one.run_id, host),
            host,
        )


def lock_stale(facts: Facts) -> Iterator[Finding]:
    for lease in facts.leases:
        if lease.state != EXPIRED or lease.expires_at is None:
            continue
        yield Finding(
            Kind.LOCK_STALE,
            lease.market,
            lease.scope,
            "",
            lease.expires_at,
            f"The lease of {lease.market} ran out without a release; nobody has taken it since.",
            _executor(lease.execution_instrument, lease.run_id, lease.host),
            lease.host,
            news=_expired_before_our_eyes(lease, facts.now),
        )


def _expired_before_our_eyes(lease: Lease, now: datetime) -> bool:
    """Whether its end was noticed soon; what is found expired after a long outage is history."""
    if lease.expires_at is None:
        return False
    return (lease.expiry_seen_at or now) - lease.expires_at <= QUIET_AFTER


def lease_lost(facts: Facts) -> Iterator[Finding]:
    for lease in facts.leases:
        if lease.lost_at is None:
            continue
        taken_since = lease.acquired_at is not None and lease.acquired_at > lease.lost_at
        recent = facts.now - lease.lost_at <= QUIET_AFTER
        # Whoever holds the market now, the run that lost it is told of for a while.
        if taken_since or (lease.state in (HELD, "FREE") and not recent):
            continue
        yield Finding(
            Kind.LEASE_LOST,
            lease.market,
            lease.scope,
            "",
            lease.lost_at,
            f"A live run was refused the renewal of its lease of {lease.market}; it stops trading.",
            _executor("", lease.lost_run_id, lease.lost_host),
            lease.lost_host,
            news=recent,
        )


def kill_switch_engaged(facts: Facts) -> Iterator[Finding]:
    for switch in facts.switches:
        what = switch.market or "all markets"
        why = f": {switch.reason}" if switch.reason else ""
        yield Finding(
            Kind.KILL_SWITCH_ENGAGED,
            switch.market,
            "",
            "",
            switch.since or facts.now,
            f"The kill switch is engaged for {what}{why}. No orders may be sent.",
            switch.by,
        )


def host_silent(facts: Facts) -> Iterator[Finding]:
    """All robots of a host, two at least, are silent, by what they said and by their leases."""
    by_host: dict[str, dict[tuple[str, str], datetime | None]] = defaultdict(dict)
    for host, pair, since in _robots(facts):
        by_host[host][pair] = since
    for host, robots in sorted(by_host.items()):
        since_all = [since for since in robots.values() if since is not None]
        if len(robots) < 2 or len(since_all) < len(robots):
            continue
        markets = ", ".join(sorted({market for market, _ in robots}))
        yield Finding(
            Kind.HOST_SILENT,
            "",
            "",
            host,
            max(since_all),
            f"Nothing is heard of any robot on {host}, which executes {markets}.",
            host,
            host,
            news=any(is_in_session(facts, *pair) for pair in robots),
        )


def _robots(facts: Facts) -> Iterator[tuple[str, tuple[str, str], datetime | None]]:
    """Host, market and scope of every robot, and since when nothing is heard of it."""
    heard = {(one.host, one.market, one.scope): one for one in facts.liveness if one.host}
    for lease in facts.leases:
        place = (lease.host, lease.market, lease.scope)
        if not lease.host or place in heard:
            continue
        if lease.state == HELD:
            yield lease.host, (lease.market, lease.scope), None
        elif lease.state == EXPIRED and _expired_before_our_eyes(lease, facts.now):
            yield lease.host, (lease.market, lease.scope), lease.expires_at
    for (host, market, scope), one in heard.items():
        yield host, (market, scope), one.silent_since


def _about_a_robot(
    kind: Kind, since_of: Callable[[Liveness], datetime | None], says: str
) -> Condition:
    def condition(facts: Facts) -> Iterator[Finding]:
        for one in facts.liveness:
            since = since_of(one)
            if since is not None:
                yield Finding(
                    kind,
                    one.market,
                    one.scope,
                    "",
                    since,
                    says.format(market=one.market, heard_at=f"{one.heard_at:%H:%M:%S} UTC"),
                    _executor("", one.run_id, one.host),
                    one.host,
                )

    return condition


def sweep_overdue(facts: Facts) -> Iterator[Finding]:
    for job in facts.jobs:
        error = f" Its last error: {job.error}" if job.error else ""
        yield Finding(
            Kind.SWEEP_OVERDUE,
            "",
            "",
            job.task,
            job.overdue_since,
            f"The periodic task {job.task} did not finish in time.{error}",
        )


def ingest_failing(facts: Facts) -> Iterator[Finding]:
    for intake in facts.intakes:
        yield Finding(
            Kind.INGEST_FAILING,
            "",
            "",
            intake.name,
            intake.failing_since,
            f"{intake.name} cannot be read: {intake.error}",
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """A condition, the kinds that it finds, and the part of the facts that it rests on."""

    condition: Condition
    kinds: frozenset[Kind]
    part: str


def _reading(condition: Condition, part: str, *kinds: Kind) -> Reading:
    return Reading(condition, frozenset(kinds), part)


CONDITIONS: tuple[Reading, ...] = (
    _reading(duplicate_executor_blocked, "leases", Kind.DUPLICATE_EXECUTOR_BLOCKED),
    _reading(duplicate_instance_detected, "duplicates", Kind.DUPLICATE_INSTANCE_DETECTED),
    _reading(restart_waiting, "leases", Kind.RESTART_WAITING),
    _reading(lock_stale, "leases", Kind.LOCK_STALE),
    _reading(lease_lost, "leases", Kind.LEASE_LOST),
    _reading(
        identity_findings,
        "breaches",
        Kind.IDENTITY_VIOLATION,
        Kind.DUPLICATE_EXECUTOR,
        Kind.STALE_TOKEN_USED,
    ),
    _reading(identity_stale, "standings", Kind.IDENTITY_STALE),
    _reading(kill_switch_engaged, "switches", Kind.KILL_SWITCH_ENGAGED),
    _reading(host_silent, "liveness", Kind.HOST_SILENT),
    _reading(
        _about_a_robot(
            Kind.ROBOT_SILENT,
            lambda one: one.silent_since,
            "Nothing is heard of the robot that executes {market} since {heard_at}.",
        ),
        "liveness",
        Kind.ROBOT_SILENT,
    ),
    _reading(
        _about_a_robot(
            Kind.ENGINE_STALLED,
            lambda one: one.engine_stalled_since,
            "The engine of the robot that executes {market} does not tick any more.",
        ),
        "liveness",
        Kind.ENGINE_STALLED,
    ),
    _reading(
        _about_a_robot(
            Kind.DATA_STALLED,
            lambda one: one.data_stalled_since,
            "The robot that executes {market} gets no market data.",
        ),
        "liveness",
        Kind.DATA_STALLED,
    ),
    _reading(
        _about_a_robot(
            Kind.CONNECTION_LOST,
            lambda one: one.connection_lost_since,
            "The robot that executes {market} has lost its broker, and not found it again.",
        ),
        "liveness",
        Kind.CONNECTION_LOST,
    ),
    _reading(sweep_overdue, "jobs", Kind.SWEEP_OVERDUE),
    _reading(ingest_failing, "intakes", Kind.INGEST_FAILING),
)


def findings_of(facts: Facts) -> dict[Key, Finding]:
    """Everything that is wrong by what could be read; see `unjudged` for the rest."""
    return {
        finding.key: finding
        for reading in CONDITIONS
        if reading.part not in facts.unread
        for finding in reading.condition(facts)
    }


def unjudged(facts: Facts) -> frozenset[Kind]:
    """The kinds that nothing can be said of, since what they rest on could not be read."""
    return frozenset(
        kind for reading in CONDITIONS if reading.part in facts.unread for kind in reading.kinds
    )


def is_in_session(facts: Facts, market: str, scope: str) -> bool:
    """Whether the market trades, and has for the grace after its open. Unknown is not closed."""
    session = facts.sessions.get((market, scope), Session())
    if session.open is None:
        return True
    if not session.open:
        return False
    return session.changed_at is None or facts.now >= session.changed_at + SESSION_GRACE


def _executor(instrument: str, run_id: str, host: str) -> str:
    what = f"{instrument} run {run_id}".strip() if run_id else instrument or "an unnamed run"
    return f"{what} on {host}" if host else what


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
