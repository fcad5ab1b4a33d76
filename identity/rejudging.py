"""What live runs said before the registry was edited, judged by the registry as it is now.

A run remembers which registry its streams and self-test were judged by, so that a sweep looks again
only at those that an edit concerns: as a rule at none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.db import transaction
from django.db.models import Max

from identity.admission import Markets
from identity.bulk import update_rows
from identity.invariants import (
    EXECUTION_NOT_OF_CANONICAL,
    MAPPING_DRIFT,
    Evidence,
    Finding,
    execution_not_of_canonical,
    mapping_drift,
)
from identity.lexicon import Lexicon
from identity.liveness import LIVE_FOR
from identity.models import IdentityEvent, RobotRun, Stream, Violation, ViolationEnd
from identity.reports import read_self_test
from identity.robotlog import NormalisedEvent, Shape, bounded, read_line
from identity.violations import MAX_SUBJECT, Key
from identity.vocabulary import SELF_TEST
from identity.watching import Pair, Sighting, lock_markets, watch_markets

RUNS_A_BATCH = 100
JUDGED_BY = "judged_by"
REGISTRY = "registry"
CODES = (EXECUTION_NOT_OF_CANONICAL, MAPPING_DRIFT)


@dataclass(slots=True)
class Judged:
    """What is wrong with some runs by the registry of now.

    `wrong` are the runs that break each key with when they last said so; `tested` those whose
    self-test was read again, `about` the keys' messages.
    """

    wrong: dict[Key, dict[str, datetime]] = field(default_factory=lambda: defaultdict(dict))
    about: dict[Key, str] = field(default_factory=dict)
    tested: set[str] = field(default_factory=set)

    def add(self, finding: Finding, scope: str, run_id: str, said_at: datetime) -> None:
        if not finding.right:
            subject = bounded(finding.subject, MAX_SUBJECT)
            key = (finding.market, scope, finding.code, subject)
            self.wrong[key][run_id] = said_at
            self.about[key] = finding.message


def rejudge_runs(markets: Markets, now: datetime) -> None:
    """Open and mend what an edit of the registry made wrong or right, in short transactions."""
    digest = markets.lexicon.digest
    last = 0
    while True:
        runs = list(
            RobotRun.objects.filter(pk__gt=last, last_seen_at__gte=now - LIVE_FOR)
            .exclude(judged_by=digest)
            .order_by("pk")[:RUNS_A_BATCH]
        )
        if not runs:
            return
        last = runs[-1].pk
        judged = _judge(runs, markets.lexicon)
        names = {run.run_id for run in runs}
        standing = Violation.objects.filter(code__in=CODES, ended_at__isnull=True)
        if judged.wrong or any(names & row.runs.keys() for row in standing.only("runs")):
            with transaction.atomic():
                _apply(judged, runs, now)
        for before in {run.judged_by for run in runs}:
            # One that somebody wrote to meanwhile is looked at again.
            same = [run.pk for run in runs if run.judged_by == before]
            RobotRun.objects.filter(pk__in=same, judged_by=before).update(judged_by=digest)


def _judge(runs: Sequence[RobotRun], lexicon: Lexicon) -> Judged:
    judged = Judged()
    names = {run.pk: run.run_id for run in runs}
    known: dict[tuple[str, str, str], list[Finding]] = {}
    streams = Stream.objects.filter(run__in=names).exclude(execution_instrument="")
    for run_pk, stream_id, scope, canonical, execution, said_at in streams.values_list(
        "run_id",
        "stream_id",
        "scope",
        "canonical_instrument",
        "execution_instrument",
        "last_seen_at",
    ).iterator(chunk_size=2000):
        said = (stream_id, canonical, execution)
        if said not in known:
            known[said] = list(_of_stream(lexicon, *said))
        for finding in known[said]:
            judged.add(finding, scope, names[run_pk], said_at)
    for event in _self_tests(set(names.values())):
        judged.tested.add(event.run_id)
        read = read_line(event.data)
        if isinstance(read, NormalisedEvent):
            evidence = Evidence(lexicon, read, self_test=read_self_test(read))
            for finding in mapping_drift(evidence):
                judged.add(finding, event.scope, event.run_id, event.occurred_at)
    return judged


def _of_stream(
    lexicon: Lexicon, stream_id: str, canonical: str, execution: str
) -> Iterator[Finding]:
    stream = NormalisedEvent(
        shape=Shape.FEED,
        event_type="",
        occurred_at=None,
        stream_id=stream_id,
        on_stream=True,
        canonical_names=(canonical,) if canonical else (),
        execution_names=(execution,),
    )
    return execution_not_of_canonical(Evidence(lexicon, stream))


def _self_tests(run_ids: set[str]) -> list[IdentityEvent]:
    """The newest self-test of each run."""
    newest = (
        IdentityEvent.objects.filter(event_type=SELF_TEST, run_id__in=run_ids - {""})
        .values("run_id")
        .annotate(newest=Max("pk"))
    )
    return list(IdentityEvent.objects.filter(pk__in=[row["newest"] for row in newest]))


def _apply(judged: Judged, runs: Sequence[RobotRun], now: datetime) -> None:
    names = {run.run_id: run for run in runs}
    pairs: set[Pair] = {(market, scope) for market, scope, _, _ in judged.wrong}
    rows = Violation.objects.filter(code__in=CODES, ended_at__isnull=True)
    pairs |= {(row.market, row.scope) for row in rows.only("market", "scope", "runs")
              if names.keys() & row.runs.keys()}  # fmt: skip
    missing = pairs - set(lock_markets(pairs))
    if missing:
        watch_markets({pair: _sighting(judged, pair) for pair in missing})
    standing = {
        (row.market, row.scope, row.code, row.subject): row
        for row in rows.order_by("pk")
        if (row.market, row.scope) in pairs
    }
    changed = [row for key, row in standing.items() if _update(row, key, judged, names, now)]
    update_rows(changed, ["runs", "ended_at", "end", "ended_by", "end_reason"])
    Violation.objects.bulk_create(
        _opened(key, judged, names, now)
        for key, by in sorted(judged.wrong.items())
        if key not in standing and not _overruled(key, max(by.values()))
    )


def _sighting(judged: Judged, pair: Pair) -> Sighting:
    said = [
        (at, run_id)
        for key, by in judged.wrong.items()
        if key[:2] == pair
        for run_id, at in by.items()
    ]
    at, run_id = max(said)
    # As old as what the run said: looking again is no news of it.
    return Sighting(at, False, run_id, "registry, edited since")


def _update(
    row: Violation, key: Key, judged: Judged, names: dict[str, RobotRun], now: datetime
) -> bool:
    """Let the row know who breaks it by the registry of now; True where that changed it."""
    before: dict[str, str] = dict(row.runs)
    wrong = judged.wrong.get(key, {})
    for run_id in wrong:
        row.runs.setdefault(run_id, now.isoformat())
    # A stream's row knows its newest names only, so it takes back no more than it gave itself.
    if row.code == MAPPING_DRIFT:
        looked_at = judged.tested
    else:
        looked_at = set(names) if row.sample.get(JUDGED_BY) == REGISTRY else set()
    for run_id in looked_at - wrong.keys():
        row.runs.pop(run_id, None)
    if not row.runs:
        row.ended_at, row.end, row.ended_by = now, ViolationEnd.MENDED, "watchdog"
        row.end_reason = "Right by the registry as it is now."
    return bool(row.runs != before)


def _overruled(key: Key, said_at: datetime) -> bool:
    """Whether an operator ended it on his word since the runs last said so."""
    market, scope, code, subject = key
    return Violation.objects.filter(
        market=market,
        scope=scope,
        code=code,
        subject=subject,
        end=ViolationEnd.OPERATOR,
        ended_at__gte=said_at,
    ).exists()


def _opened(key: Key, judged: Judged, names: dict[str, RobotRun], now: datetime) -> Violation:
    market, scope, code, subject = key
    by = judged.wrong[key]
    newest = names[max(by, key=lambda run_id: by[run_id])]
    return Violation(
        market=market,
        scope=scope,
        code=code,
        subject=subject,
        message=judged.about[key],
        run_id=newest.run_id,
        log=newest.log,
        host=newest.host,
        runs={run_id: now.isoformat() for run_id in by},
        sample={JUDGED_BY: REGISTRY, "said_at": {run: at.isoformat() for run, at in by.items()}},
        opened_at=now,
        last_seen_at=now,
    )
