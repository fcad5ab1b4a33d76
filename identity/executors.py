"""Who executes each market now, by claims and leases; two at once is DUPLICATE_EXECUTOR.

Runs inside its caller's transaction; the caller has locked the watched markets concerned.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from identity.admission import Markets
from identity.bulk import update_rows
from identity.facts import TenureFact, TenureFacts
from identity.invariants import (
    DUPLICATE_EXECUTOR,
    Claimant,
    Evidence,
    Finding,
    duplicate_executor,
)
from identity.ledger import run_fact
from identity.liveness import LIVE_FOR, RunFact, is_live, stopped_cleanly
from identity.models import Claim, RobotRun, Violation, ViolationEnd
from identity.watching import Pair

PAIRS_A_QUERY = 250
# A fleet gone mad: its market is red all the same, and whoever comes later waits for the next look.
MAX_OPENED = 20
MAX_PARTIES = 20

Found = dict[tuple[Pair, str], tuple[Finding, list[Claimant]]]


def judge_executors(
    pairs: set[Pair], markets: Markets, now: datetime, tenures: TenureFacts | None
) -> set[Pair]:
    """Open and mend DUPLICATE_EXECUTOR of these markets; returns those where one did.

    It is over when one of the two said that it stopped, or its tenure ended and it is silent;
    silence alone ends nothing.
    """
    standing = list(_standing(pairs))
    since = min((row.opened_at for row in standing), default=now)
    facts = tenures(since) if tenures is not None else ()
    claimants = _claimants(pairs, now, facts)
    found = _duplicates(claimants, markets)
    changed = _mend(standing, found, claimants, facts, now)
    return changed | _open(standing, found, now)


def doubtful_markets(
    pairs: set[Pair], markets: Markets, now: datetime, facts: Sequence[TenureFact]
) -> set[Pair]:
    """Those of these markets that two seem to execute now, or did when it was last looked at.

    `facts` are the tenures that run. Nothing is locked: who acts on it looks again.
    """
    several = _with_several(pairs, now, facts)
    found = _duplicates(_claimants(several, now, facts), markets)
    return {pair for pair, _ in found} | {(row.market, row.scope) for row in _standing(pairs)}


def _with_several(pairs: set[Pair], now: datetime, facts: Sequence[TenureFact]) -> set[Pair]:
    """The markets with more than one run that may be live: as a rule very few of them."""
    claims = Claim.objects.filter(run__last_seen_at__gte=now - LIVE_FOR)
    runs: dict[Pair, set[str]] = defaultdict(set)
    for market, scope, run_id in claims.values_list("market", "scope", "run__run_id"):
        runs[market, scope].add(run_id)
    for fact in facts:
        if fact.ended_at is None:
            runs[fact.market, fact.scope].add(fact.run_id)
    return {pair for pair, names in runs.items() if len(names) > 1 and pair in pairs}


def _duplicates(claimants: dict[Pair, list[Claimant]], markets: Markets) -> Found:
    found: Found = {}
    for pair, live in claimants.items():
        if len(live) > 1:
            evidence = Evidence(markets.lexicon, market_of_claims=pair[0], claimants=live)
            for finding in duplicate_executor(evidence):
                found[pair, finding.subject] = finding, live
    return found


def running_lease(fact: TenureFact) -> RunFact:
    """A tenure as the run of the guard that holds it."""
    return RunFact(
        run_id=fact.run_id,
        host=fact.host,
        log=fact.folder,
        first_seen_at=fact.acquired_at,
        last_seen_at=fact.renewed_at or fact.acquired_at,
        started_at=fact.acquired_at,
        guard=True,
    )


def _standing(pairs: set[Pair]) -> list[Violation]:
    rows = Violation.objects.filter(
        code=DUPLICATE_EXECUTOR,
        ended_at__isnull=True,
        market__in={market for market, _ in pairs},
    )
    return [row for row in rows.order_by("pk") if (row.market, row.scope) in pairs]


def _claimants(
    pairs: set[Pair], now: datetime, facts: Sequence[TenureFact]
) -> dict[Pair, list[Claimant]]:
    live: dict[Pair, list[Claimant]] = defaultdict(list)
    ordered = sorted(pairs)
    for start in range(0, len(ordered), PAIRS_A_QUERY):
        asked = set(ordered[start : start + PAIRS_A_QUERY])
        claims = Claim.objects.filter(
            market__in={market for market, _ in asked},
            scope__in={scope for _, scope in asked},
            run__last_seen_at__gte=now - LIVE_FOR,
        ).select_related("run")
        for claim in claims:
            run, pair = run_fact(claim.run), (claim.market, claim.scope)
            if pair in asked and is_live(run, now):
                live[pair].append(
                    Claimant(run, claim.first_at, claim.execution_instrument, claim.fencing_token)
                )
    for fact in facts:
        if fact.ended_at is None and (fact.market, fact.scope) in pairs:
            live[fact.market, fact.scope].append(
                Claimant(
                    running_lease(fact),
                    fact.acquired_at,
                    fact.execution_instrument,
                    fact.fencing_token,
                )
            )
    return live


def _open(standing: Sequence[Violation], found: Found, now: datetime) -> set[Pair]:
    known = {((row.market, row.scope), row.subject): row for row in standing}
    opened: dict[Pair, list[Violation]] = defaultdict(list)
    seen_again: list[Violation] = []
    for (pair, subject), (finding, live) in found.items():
        seen_at = min(now, max(one.run.last_seen_at for one in live))
        row = known.get((pair, subject))
        if row is not None:
            # Looking again at the same two is not another breach.
            row.last_seen_at = max(row.last_seen_at, seen_at)
            row.message = finding.message
            seen_again.append(row)
        elif len(opened[pair]) < MAX_OPENED:
            opened[pair].append(_opened(pair, finding, live, seen_at, now))
    update_rows(seen_again, ["last_seen_at", "message"])
    Violation.objects.bulk_create(row for rows in opened.values() for row in rows)
    return {pair for pair, rows in opened.items() if rows}


def _opened(
    pair: Pair, finding: Finding, live: Sequence[Claimant], seen_at: datetime, now: datetime
) -> Violation:
    newcomer = next(one for one in live if one.run.run_id == finding.subject)
    others = sorted(
        (one for one in live if one is not newcomer), key=lambda one: one.run.last_seen_at
    )
    parties = [newcomer, *others[-MAX_PARTIES:]]
    return Violation(
        market=pair[0],
        scope=pair[1],
        code=finding.code,
        subject=finding.subject,
        message=finding.message,
        run_id=finding.subject,
        log=newcomer.run.log,
        host=newcomer.run.host,
        runs={one.run.run_id: seen_at.isoformat() for one in parties},
        sample={
            one.run.run_id: {
                "host": one.run.host,
                "execution_instrument": one.execution_instrument,
                "since": one.since.isoformat(),
                "last_seen_at": one.run.last_seen_at.isoformat(),
                "by": "lease" if one.run.guard else "log",
            }
            for one in parties
        },
        opened_at=now,
        last_seen_at=seen_at,
    )


def _mend(
    standing: Sequence[Violation],
    found: Found,
    claimants: dict[Pair, list[Claimant]],
    facts: Sequence[TenureFact],
    now: datetime,
) -> set[Pair]:
    names = {name for row in standing for name in row.runs}
    runs = {row.run_id: row for row in RobotRun.objects.filter(run_id__in=names)}
    changed: set[Pair] = set()
    for row in standing:
        pair = (row.market, row.scope)
        if (pair, row.subject) in found:
            continue
        live = {one.run.run_id for one in claimants.get(pair, ())}
        left = [name for name in row.runs if not _is_over(name, runs.get(name), live, pair, facts)]
        if len(left) > 1:
            continue
        over = sorted(set(row.runs) - set(left))
        Violation.objects.filter(pk=row.pk, ended_at__isnull=True).update(
            ended_at=now,
            end=ViolationEnd.MENDED,
            ended_by="watchdog",
            end_reason=f"Seen to be over: {', '.join(over)}.",
        )
        changed.add(pair)
    return changed


def _is_over(
    name: str, run: RobotRun | None, live: set[str], pair: Pair, facts: Sequence[TenureFact]
) -> bool:
    if name in live:
        return False
    if run is not None and stopped_cleanly(run.stopped_at, run.last_seen_at):
        return True
    tenures = [fact for fact in facts if fact.run_id == name and (fact.market, fact.scope) == pair]
    return bool(tenures) and all(fact.ended_at is not None for fact in tenures)
