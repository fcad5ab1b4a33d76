"""Why a market stands as it does and what mends it, in sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.utils import timezone

from identity.facts import TenureFact
from identity.invariants import (
    DUPLICATE_EXECUTOR,
    EVENT_IDENTITY_INCOMPLETE,
    MAPPING_DRIFT,
    ROBOT_REPORTED_VIOLATION,
    STALE_FENCING_TOKEN,
    STREAM_ID_NOT_CANONICAL,
    UNKNOWN_INSTRUMENT,
)
from identity.liveness import STALE_AFTER, RunFact
from identity.models import InvariantResult, Violation, WatchedMarket
from identity.runbook import section_of
from identity.status import IdentityStatus, MarketIdentity, counts_as_red, is_too_old
from identity.vocabulary import INVARIANTS_STATUS, SELF_TEST

MAX_RUNS_NAMED = 5


@dataclass(frozen=True, slots=True)
class Known:
    """Everything that is known of one market; `identity` is None where it is not watched.

    `breakers` are the runs that have yet to mend each violation, by its key; `tenure` is the newest
    one, `troubles` what keeps logs from being read.
    """

    market: str
    scope: str
    identity: MarketIdentity | None = None
    own: InvariantResult | None = None
    report: InvariantResult | None = None
    run: RunFact | None = None
    in_registry: bool = True
    tenure: TenureFact | None = None
    forgotten: WatchedMarket | None = None
    breakers: Mapping[int, Sequence[str]] = field(default_factory=dict)
    troubles: Sequence[str] = ()

    @property
    def name(self) -> str:
        return f"{self.market or '(no market)'}{'@' + self.scope if self.scope else ''}"


def why(known: Known, now: datetime) -> Iterator[str]:
    """Why this status, as sentences; at least one."""
    identity = known.identity
    if identity is None:
        yield from _why_not_watched(known)
        return
    if identity.status == IdentityStatus.VIOLATION:
        red, count = len(identity.red_violations), sum(r.count for r in identity.red_violations)
        yield f"{_number(red, 'violation')} open, seen {_number(count, 'time')}; age mends none."
    elif identity.status == IdentityStatus.IDLE:
        yield (
            f"The last run, {identity.run_id}, said that it stopped, {told(identity.stopped_at)}, "
            "and nothing is open. That is neutral, and never a pass."
        )
    elif identity.status == IdentityStatus.STALE:
        yield from _why_stale(identity, now)
    elif identity.status == IdentityStatus.OK:
        streams = _number(len(identity.stream_ids), "stream")
        yield f"{streams} checked and right, and no violation is open that counts."
    else:
        yield from (reason for reason, _ in _unknown(known))
    if identity.historical:
        yield f"It is known {identity.label} only: history is no news, and opens no alert."
    accepted = len(identity.violations) - len(identity.red_violations)
    if accepted:
        yield f"{_number(accepted, 'violation')} accepted for now: listed and counted, not red."


def what_mends(known: Known, now: datetime) -> Iterator[str]:
    """What changes the status for the better; each violation's own mending is told with it."""
    identity = known.identity
    if identity is None:
        if known.tenure is not None and known.tenure.ended_at is None:
            yield "The next sweep begins to watch it: `python3 manage.py sweep` is one now."
        else:
            yield (
                "Let a robot take the market under its guard, or read its logs: `up --robot-logs "
                "DIR`, `manage.py tail DIR`, `manage.py ingest FILE`."
            )
    elif identity.status == IdentityStatus.VIOLATION:
        yield "Each violation below is mended by what stands beside it."
    elif identity.status == IdentityStatus.STALE:
        yield from _mends_stale(known, now)
    elif identity.status == IdentityStatus.UNKNOWN:
        yield from (mend for _, mend in _unknown(known))
    elif identity.status == IdentityStatus.IDLE:
        yield "Nothing is to be mended; the next run is watched as soon as it says anything."
    else:
        yield "Nothing is to be mended."


def mends_violation(violation: Violation, breakers: Sequence[str]) -> str:
    """What ends this violation, in a sentence or two."""
    by = _by(breakers)
    subject = violation.subject
    if violation.code == DUPLICATE_EXECUTOR:
        runs = " or ".join(breakers[:MAX_RUNS_NAMED]) or subject
        return (
            f"A clean stop of {runs}: its ENGINE_STOP, or the end of its lease and silence. "
            "Silence alone ends nothing."
        )
    if violation.code == STALE_FENCING_TOKEN:
        return f"A later act with the token of the tenure that runs, {by}."
    if violation.code == STREAM_ID_NOT_CANONICAL:
        return (
            "No later line: this id stays wrong while the registry stands. Correct the robot, and "
            f"when it names the id no more, `python3 manage.py violation mend {violation.pk}`."
        )
    if violation.code == ROBOT_REPORTED_VIOLATION:
        return f"A later {INVARIANTS_STATUS} that passes, {by}."
    if violation.code == MAPPING_DRIFT:
        return (
            "The right mapping, in the robot or in the registry; then a later "
            f"{SELF_TEST} that agrees, {by}."
        )
    if violation.code == UNKNOWN_INSTRUMENT:
        return (
            "The instrument's row in the registry, or its right name in the robot; then a later "
            f"line of {subject} that names only what the registry has, {by}."
        )
    if violation.code == EVENT_IDENTITY_INCOMPLETE:
        return f"A later {subject} that carries both identities, {by}."
    return f"A later line in which {subject or 'a stream without an id'} is right, {by}."


def runbook_of(identity: MarketIdentity | None) -> str:
    """The section for a status; a violation has its own."""
    if identity is None:
        return section_of(IdentityStatus.UNKNOWN)
    if identity.red_violations:
        return section_of(identity.red_violations[0].code)
    return section_of(identity.status)


def state_of(violation: Violation, now: datetime) -> str:
    """`open`, or how it is qualified: accepted until when, acknowledged by whom."""
    said = ["open"]
    if not counts_as_red(violation, now):
        said = [f"accepted until {told(violation.accepted_until)} by {violation.accepted_by}"]
    if violation.acknowledged_at is not None:
        said.append(f"acknowledged by {violation.acknowledged_by}")
    if violation.historical:
        said.append("from old logs")
    return ", ".join(said)


def told(at: datetime | None) -> str:
    """A time for people, on the server's wall clock; to the second."""
    return f"{timezone.localtime(at):%Y-%m-%d %H:%M:%S %Z}" if at else "never"


def age_of(at: datetime, now: datetime) -> str:
    """How long ago, in the largest unit that leaves two or more of it."""
    seconds = (now - at).total_seconds()
    if seconds < 0:
        return f"{-seconds:.0f} s ahead of this clock"
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _why_not_watched(known: Known) -> Iterator[str]:
    row, tenure = known.forgotten, known.tenure
    if row is not None:
        yield (
            f"{row.forgotten_by} let it be forgotten at {told(row.forgotten_at)}: "
            f"{row.forgotten_reason}. Newer evidence brings it back."
        )
    elif tenure is not None and tenure.ended_at is None:
        yield f"Run {tenure.run_id} holds its lease, and no sweep has looked at it yet."
    else:
        yield "Nothing was heard of it: no event and no lease. Nothing to check is not a pass."


def _why_stale(identity: MarketIdentity, now: datetime) -> Iterator[str]:
    limit = f"{STALE_AFTER.total_seconds():.0f} s"
    if is_too_old(identity.evidence_at, now):
        yield (
            f"Its newest evidence is of {told(identity.evidence_at)} "
            f"({age_of(identity.evidence_at, now)}); after {limit} it says nothing of now, and its "
            "run did not say that it stopped."
        )
    if identity.checked_at is not None and is_too_old(identity.checked_at, now):
        yield (
            f"It was last checked at {told(identity.checked_at)} "
            f"({age_of(identity.checked_at, now)}); a check counts for {limit}."
        )


def _mends_stale(known: Known, now: datetime) -> Iterator[str]:
    identity = known.identity
    assert identity is not None  # noqa: S101 for the type checker
    if is_too_old(identity.evidence_at, now):
        yield (
            f"A new line or lease renewal of run {identity.run_id or '(unnamed)'} or its "
            "successor: see that the robot runs and that its log is read. Its ENGINE_STOP, or a "
            "clean release of its lease, makes it IDLE instead."
        )
        yield from known.troubles
    if identity.checked_at is not None and is_too_old(identity.checked_at, now):
        yield "A sweep: see that worker and beat run; `python3 manage.py sweep` is one now."


def _unknown(known: Known) -> Iterator[tuple[str, str]]:
    """Each reason of UNKNOWN, and what mends it; at least one."""
    identity, own, report = known.identity, known.own, known.report
    assert identity is not None  # noqa: S101 for the type checker
    found = False
    if own is None:
        yield "It was never checked.", "A sweep: `python3 manage.py sweep` is one now."
        return
    if report is not None and report.passed is None and report.run_id in ("", identity.run_id):
        found = True
        yield (
            f"The report that run {report.run_id or '(unnamed)'} sent of itself at "
            f"{told(report.checked_at)} cannot be read, so it is neither a pass nor a failure.",
            f"A later {INVARIANTS_STATUS} whose `pass` is true or false, with lists that are "
            f"lists ({section_of('REPORT_UNREADABLE')}).",
        )
    if not known.in_registry:
        found = True
        yield (
            f"The registry has no canonical instrument {known.market or '(none)'}.",
            "Its row in the admin, under canonical and execution instruments.",
        )
    if not identity.stream_ids:
        found = True
        yield (
            "No stream of its present runs is known: nothing to check is not a pass.",
            "A line of the robot that names a stream: a stream, order or fill event, or a journal.",
        )
    if not found:
        yield "What last failed was overtaken and not checked since.", "The next sweep."


def _by(breakers: Sequence[str]) -> str:
    if not breakers:
        return "from the run that broke it or its successor in the same log or on the same host"
    named = ", ".join(breakers[:MAX_RUNS_NAMED])
    more = len(breakers) - MAX_RUNS_NAMED
    each = "from run" if len(breakers) == 1 else "from each of the runs"
    and_more = f" and {more} more" if more > 0 else ""
    return f"{each} {named}{and_more}, or a successor in the same log or on the same host"


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
