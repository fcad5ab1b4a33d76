"""How the robots of the watched markets are: heard of, stopped, in trouble; read in bulk."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Q

from identity import troubles
from identity.ledger import run_fact
from identity.liveness import (
    LIVE_FOR,
    RunFact,
    one_executor,
    restarted,
    stopped_cleanly,
    succeeds,
)
from identity.models import Claim, RobotRun, WatchedMarket
from identity.troubles import Trouble
from identity.watching import Pair

# A robot that is silent for longer is told of by the market that still names it, not by its claim.
CLAIMED_SINCE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Vitals:
    """The robot that executes one market, as of the time it was asked for.

    `heard_at` is its newest word, of its log or its guard's; each `…_since` is None while that is
    well. A market whose robot stopped cleanly, or is known from old logs only, has none.
    """

    market: str
    scope: str
    run_id: str
    host: str
    heard_at: datetime
    engine_since: datetime | None = None
    data_since: datetime | None = None
    connection_since: datetime | None = None


def market_vitals(now: datetime) -> list[Vitals]:
    """One for each watched market with a robot that should be alive; three queries at most."""
    watched = list(
        WatchedMarket.objects.filter(forgotten_at__isnull=True, historical=False)
        .exclude(market="")
        .order_by("market", "scope")
        .values_list("market", "scope", "run_id")
    )
    named = defaultdict(list)
    for run in RobotRun.objects.filter(run_id__in={run_id for *_, run_id in watched if run_id}):
        named[run.run_id].append(run)
    claimed = _claimed(now)
    found = []
    for market, scope, run_id in watched:
        runs = {run.pk: run for run in [*named[run_id], *claimed[market, scope]]}
        one = vitals_of((market, scope), run_id, list(runs.values()), now)
        if one is not None:
            found.append(one)
    return found


def vitals_of(pair: Pair, run_id: str, runs: Sequence[RobotRun], now: datetime) -> Vitals | None:
    """The market's robot by the run that executes it, and the runs that claim it beside.

    A guard and the log of its robot are two runs of one: what either says is heard of both. Pure.
    """
    executor = max(
        (run for run in runs if run.run_id == run_id),
        key=lambda run: run.last_seen_at,
        default=None,
    )
    if executor is None or executor.heard_at is None or _stopped(executor):
        return None
    current = _current(executor, runs, now)
    market = pair[0]

    def worst(trouble: Trouble) -> datetime | None:
        begun = [troubles.since(run.troubles, trouble, market, now) for run in current]
        return min((at for at in begun if at is not None), default=None)

    return Vitals(
        *pair,
        run_id=executor.run_id,
        host=executor.host or next((run.host for run in current if run.host), ""),
        heard_at=max(run.heard_at for run in current if run.heard_at is not None),
        engine_since=worst(Trouble.ENGINE),
        data_since=worst(Trouble.DATA),
        connection_since=worst(Trouble.CONNECTION),
    )


def _current(executor: RobotRun, runs: Sequence[RobotRun], now: datetime) -> list[RobotRun]:
    """The runs that speak for the robot now: its executor, whoever is live, and its own log.

    A log that fell silent in the middle of a trouble has not told of its end; the log of a robot
    that was started again since is nobody's any more.
    """
    fact = run_fact(executor, guard=True)
    kept = [executor]
    for run in runs:
        if run.pk == executor.pk or run.heard_at is None or _stopped(run):
            continue
        if run.last_seen_at >= now - LIVE_FOR or one_executor(fact, run_fact(run)):
            kept.append(run)
    facts = {run.pk: run_fact(run) for run in kept}
    return [
        run
        for run in kept
        if run is executor
        or not any(_replaced(facts[run.pk], by=other, now=now) for other in facts.values())
    ]


def _replaced(run: RunFact, *, by: RunFact, now: datetime) -> bool:
    return by.run_id != run.run_id and (restarted(by, run) or succeeds(by, run, now))


def _claimed(now: datetime) -> dict[Pair, list[RobotRun]]:
    # Of a run that is neither live nor in trouble there is nothing to tell; most are that.
    live, troubled = Q(run__last_seen_at__gte=now - LIVE_FOR), ~Q(run__troubles={})
    claims = Claim.objects.filter(
        live | (Q(run__last_seen_at__gte=now - CLAIMED_SINCE) & troubled),
        run__heard_at__isnull=False,
    ).select_related("run")
    found: dict[Pair, list[RobotRun]] = defaultdict(list)
    for claim in claims:
        found[claim.market, claim.scope].append(claim.run)
    return found


def _stopped(run: RobotRun) -> bool:
    return stopped_cleanly(run.stopped_at, run.last_seen_at)
