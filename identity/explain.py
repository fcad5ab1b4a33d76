"""Why a market stands as it does: the status, its evidence, its violations, and what mends each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from identity.facts import TenureFact, TenureFacts
from identity.ledger import run_fact
from identity.models import EventOrigin, LogFolder, RobotRun, Violation, WatchedMarket
from identity.reasons import (
    Known,
    age_of,
    mends_violation,
    runbook_of,
    state_of,
    told,
    what_mends,
    why,
)
from identity.registry import load_registry
from identity.runbook import section_of
from identity.status import IdentityStatus, market_identities

TENURES_SINCE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ExplainedViolation:
    """An open violation, how it stands, and what ends it; `id` is what an operator names it by."""

    id: int
    code: str
    subject: str
    message: str
    count: int
    state: str
    opened_at: datetime
    last_seen_at: datetime
    mended_by: str
    runbook: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """One market in one scope, told to people; every text is a sentence or more.

    `why` and `mends` have at least one; `evidence` has what the status rests on.
    """

    market: str
    scope: str
    name: str
    status: IdentityStatus
    why: list[str]
    evidence: list[str]
    violations: list[ExplainedViolation]
    mends: list[str]
    runbook: str


def explain_market(
    market: str, scope: str | None, now: datetime, tenures: TenureFacts
) -> list[Explanation]:
    """A market in each of its scopes, or in the one given; worst first, and never empty.

    `market` is a canonical symbol, or `""` for what no market could be told of.
    """
    return [explain(known, now) for known in _known(market, scope, now, tenures)]


def explain(known: Known, now: datetime) -> Explanation:
    """What is known of a market, told. Pure."""
    identity = known.identity
    violations = identity.violations if identity else []
    return Explanation(
        market=known.market,
        scope=known.scope,
        name=known.name,
        status=identity.status if identity else IdentityStatus.UNKNOWN,
        why=list(why(known, now)),
        evidence=list(_evidence(known, now)),
        violations=[
            ExplainedViolation(
                id=row.pk,
                code=row.code,
                subject=row.subject,
                message=row.message,
                count=row.count,
                state=state_of(row, now),
                opened_at=row.opened_at,
                last_seen_at=row.last_seen_at,
                mended_by=mends_violation(row, known.breakers.get(row.pk, ())),
                runbook=section_of(row.code),
            )
            for row in violations
        ],
        mends=list(what_mends(known, now)),
        runbook=runbook_of(identity),
    )


def _evidence(known: Known, now: datetime) -> Iterator[str]:
    identity, run, tenure = known.identity, known.run, known.tenure
    if identity is not None:
        source = identity.evidence_from or "an unnamed source"
        yield (
            f"Newest evidence: {told(identity.evidence_at)} "
            f"({age_of(identity.evidence_at, now)}), from {source}."
        )
        streams = ", ".join(identity.stream_ids) or "none"
        execution = identity.execution_instrument or "not known"
        yield f"Streams: {streams}. Execution instrument: {execution}."
    if run is not None:
        where = f" on {run.host}" if run.host else ""
        log = f", in {run.log}" if run.log else ""
        stopped = f", said at {told(run.stopped_at)} that it stops" if run.stopped_at else ""
        yield (
            f"Run {run.run_id}{where}{log}: first seen {told(run.first_seen_at)}, last seen "
            f"{told(run.last_seen_at)} ({age_of(run.last_seen_at, now)}){stopped}."
        )
    if identity is not None and known.own is not None:
        verdict = {True: "a pass", False: "a violation", None: "nothing to tell"}[known.own.passed]
        yield (
            f"Last check: {told(known.own.checked_at)} ({age_of(known.own.checked_at, now)}), "
            f"found {verdict}, as since {told(known.own.changed_at)}."
        )
    if known.report is not None:
        said = {True: "a pass", False: "a violation", None: "what cannot be read"}
        yield (
            f"The robot's own last report: {told(known.report.checked_at)}, says "
            f"{said[known.report.passed]}, by run {known.report.run_id or '(unnamed)'}."
        )
    yield _lease(tenure, now)


def _lease(tenure: TenureFact | None, now: datetime) -> str:
    if tenure is None:
        return "Lease: none within the last day."
    held = f"run {tenure.run_id}{' on ' + tenure.host if tenure.host else ''}"
    since = f"with token {tenure.fencing_token} since {told(tenure.acquired_at)}"
    if tenure.ended_at is None:
        renewed = tenure.renewed_at or tenure.acquired_at
        return f"Lease: held by {held} {since}, last renewed {age_of(renewed, now)}."
    how = "released cleanly" if tenure.clean else "ended without a clean release"
    return f"Lease: {how} at {told(tenure.ended_at)} by {held}, who held it {since}."


def _known(market: str, scope: str | None, now: datetime, tenures: TenureFacts) -> Iterator[Known]:
    facts = [fact for fact in tenures(now - TENURES_SINCE) if fact.market == market]
    in_registry = load_registry().is_canonical(market)
    identities = [
        one for one in market_identities(now, market) if scope is None or one.scope == scope
    ]
    rows = {
        row.scope: row
        for row in WatchedMarket.objects.filter(market=market).prefetch_related("results")
    }
    runs = _runs([one.run_id for one in identities])
    breakers = dict(
        Violation.objects.filter(market=market, ended_at__isnull=True).values_list("pk", "runs")
    )
    for one in identities:
        row = rows.get(one.scope)
        results = {result.origin: result for result in row.results.all()} if row else {}
        yield Known(
            market,
            one.scope,
            identity=one,
            own=results.get(EventOrigin.SWEEP),
            report=results.get(EventOrigin.ROBOT),
            run=run_fact(runs[one.run_id]) if one.run_id in runs else None,
            in_registry=in_registry,
            tenure=_newest(facts, one.scope),
            breakers={row.pk: sorted(breakers.get(row.pk, ())) for row in one.violations},
            troubles=_troubles(),
        )
    told_of = {one.scope for one in identities}
    scopes = {fact.scope for fact in facts if fact.ended_at is None}
    scopes |= {row.scope for row in rows.values() if row.forgotten_at is not None}
    others = sorted(scopes - told_of) if scope is None else sorted({scope} - told_of)
    for other in others or ([] if identities else [""]):
        yield Known(
            market,
            other,
            in_registry=in_registry,
            tenure=_newest(facts, other),
            forgotten=rows.get(other),
        )


def _runs(names: Sequence[str]) -> dict[str, RobotRun]:
    rows = RobotRun.objects.filter(run_id__in=names).order_by("last_seen_at")
    return {row.run_id: row for row in rows}


def _newest(facts: Sequence[TenureFact], scope: str) -> TenureFact | None:
    own = [fact for fact in facts if fact.scope == scope]
    return max(own, key=lambda fact: fact.fencing_token, default=None)


def _troubles() -> list[str]:
    folders = LogFolder.objects.filter(active=True).exclude(error="")
    return list(folders.order_by("pk").values_list("error", flat=True))
