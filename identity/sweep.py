"""One pass over every watched market: what leases show, who executes, and each market's result.

It reads in bulk and writes in short transactions. It makes no evidence: what a dead robot said is
as old after the sweep as before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from django.db import transaction

from identity.bulk import update_rows
from identity.executors import judge_executors, running_lease
from identity.facts import TenureFact, TenureFacts
from identity.ledger import run_fact
from identity.liveness import TRAILING_LINES, one_executor
from identity.models import RobotRun
from identity.registry import load_markets
from identity.rejudging import rejudge_runs
from identity.results import publish
from identity.robotlog import bounded
from identity.status import MarketIdentity, market_identities
from identity.survey import publish_surveyed, survey_markets
from identity.watching import Pair, Sighting, lock_markets, watch_markets

# So that nobody waits long for SQLite's writer.
MARKETS_A_BATCH = 250
DOUBTFUL_A_BATCH = 5
LEASES_A_BATCH = 25

T = TypeVar("T")
TENURES_SINCE = timedelta(days=1)


def sweep(now: datetime, tenures: TenureFacts) -> list[MarketIdentity]:
    """Judge every watched market and emit its IDENTITY_INVARIANTS_STATUS; worst first.

    `tenures` is asked for those that lasted within the last day.
    """
    _record_leases(list(tenures(now - TENURES_SINCE)))
    markets = load_markets()
    rejudge_runs(markets, now)
    surveyed, doubtful = survey_markets(markets, now, list(tenures(now)))
    for quiet in _batches(surveyed, MARKETS_A_BATCH):
        with transaction.atomic():
            doubtful |= publish_surveyed(quiet, now)
    del surveyed
    for batch in _batches(sorted(doubtful), DOUBTFUL_A_BATCH):
        pairs = set(batch)
        with transaction.atomic():
            lock_markets(pairs)
            judge_executors(pairs, markets, now, tenures)
            publish(pairs, markets, now, only_changes=False)
    return market_identities(now)


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _record_leases(facts: Sequence[TenureFact]) -> None:
    """A renewal is evidence of its market and a sign of life of its run; a release, of its end."""
    for batch in _batches(facts, LEASES_A_BATCH):
        with transaction.atomic():
            runs = _record_runs(batch)
            sightings: dict[Pair, Sighting] = {}
            for fact in batch:
                at = fact.renewed_at or fact.acquired_at
                source = f"lease of {fact.host}" if fact.host else "lease"
                sighting = Sighting(at, False, bounded(fact.run_id, 128), source)
                pair = (fact.market, fact.scope)
                sightings[pair] = sightings[pair].join(sighting) if pair in sightings else sighting
            watch_markets(sightings)
            _hand_over(batch, runs)


def _record_runs(facts: Sequence[TenureFact]) -> dict[str, RobotRun]:
    names = {fact.run_id for fact in facts}
    known = set(RobotRun.objects.filter(run_id__in=names).values_list("run_id", flat=True))
    RobotRun.objects.bulk_create(
        [
            RobotRun(
                run_id=fact.run_id,
                host=fact.host,
                log=fact.folder,
                first_seen_at=fact.acquired_at,
                last_seen_at=fact.acquired_at,
                started_at=fact.acquired_at,
            )
            for fact in {fact.run_id: fact for fact in facts}.values()
            if fact.run_id not in known
        ],
        ignore_conflicts=True,
    )
    rows = list(RobotRun.objects.select_for_update().filter(run_id__in=names).order_by("pk"))
    for row in rows:
        own = [fact for fact in facts if fact.run_id == row.run_id]
        for fact in own:
            at = fact.renewed_at or fact.acquired_at
            row.last_seen_at = max(row.last_seen_at, at)
            row.heard_at = max(row.heard_at or at, at)
            row.host = row.host or fact.host
        running = [fact.acquired_at for fact in own if fact.ended_at is None]
        if running and row.stopped_at is not None and max(running) > row.stopped_at:
            row.stopped_at = None
        # A run that released all it held, and cleanly, has stopped.
        if all(fact.ended_at is not None and fact.clean for fact in own):
            ends = [fact.ended_at for fact in own if fact.ended_at is not None]
            row.stopped_at = max([*ends, *([row.stopped_at] if row.stopped_at else [])])
    update_rows(rows, ["host", "last_seen_at", "heard_at", "stopped_at"])
    return {row.run_id: row for row in rows}


def _hand_over(facts: Sequence[TenureFact], runs: dict[str, RobotRun]) -> None:
    """Let a market whose log and guard are one robot follow the guard: it knows who has stopped."""
    rows = lock_markets({(fact.market, fact.scope) for fact in facts})
    names = {row.run_id for row in rows.values()} - set(runs)
    others = {run.run_id: run for run in RobotRun.objects.filter(run_id__in=names)}
    changed = []
    for fact in facts:
        row = rows[fact.market, fact.scope]
        other = others.get(row.run_id)
        if other is None or not one_executor(running_lease(fact), run_fact(other)):
            continue
        end = fact.ended_at
        if end is None or other.last_seen_at <= end + TRAILING_LINES:
            row.run_id = fact.run_id
            changed.append(row)
    update_rows(changed, ["run_id"])
