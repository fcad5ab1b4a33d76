"""What events tell of runs, claims, streams and watched markets, written in bulk.

Every function runs inside its caller's transaction. Rows are locked in one order (runs, claims,
streams, markets), each by its key, so that writers queue instead of blocking each other in a ring.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from identity.admission import Admitted, Place
from identity.bulk import update_rows
from identity.invariants import STREAM_ID_NOT_CANONICAL
from identity.liveness import RunFact
from identity.models import Claim, RobotRun, Stream
from identity.troubles import SIGNALS, hear, start_over
from identity.vocabulary import ENGINE_START, ENGINE_STOP
from identity.watching import Pair, Sighting, watch_markets


@dataclass(slots=True)
class Recorded:
    """What recording a batch changed: markets to judge anew, and those with a new claimant."""

    runs: dict[str, RobotRun] = field(default_factory=dict)
    to_judge: set[Pair] = field(default_factory=set)
    newly_claimed: set[Pair] = field(default_factory=set)
    stopped: set[Pair] = field(default_factory=set)


def run_fact(run: RobotRun, *, guard: bool = False) -> RunFact:
    return RunFact(
        run_id=run.run_id,
        host=run.host,
        log=run.log,
        first_seen_at=run.first_seen_at,
        last_seen_at=run.last_seen_at,
        started_at=run.started_at,
        stopped_at=run.stopped_at,
        guard=guard,
    )


def record(admitted: Sequence[Admitted], place: Place, source_name: str, registry: str) -> Recorded:
    """Bring runs, claims, streams and watched markets up to what these new events say.

    `registry` is the digest of the one that they were judged by.
    """
    recorded = Recorded()
    if not admitted:
        return recorded
    recorded.runs = _record_runs(admitted, place, registry)
    claims = _record_claims(admitted, recorded)
    streams = _record_streams(admitted, recorded)
    sightings = _sightings(admitted, source_name, recorded, claims, streams)
    recorded.to_judge |= watch_markets(sightings)
    return recorded


def _record_runs(admitted: Sequence[Admitted], place: Place, registry: str) -> dict[str, RobotRun]:
    by_run: dict[str, list[Admitted]] = defaultdict(list)
    for one in admitted:
        by_run[one.run_id].append(one)
    rows = _locked_runs(by_run, place)
    missing = [
        RobotRun(
            run_id=run_id,
            scope=place.scope,
            log=place.log,
            first_seen_at=min(one.at for one in events),
            last_seen_at=min(one.at for one in events),
            judged_by=registry,
        )
        for run_id, events in by_run.items()
        if run_id not in rows
    ]
    if missing:
        RobotRun.objects.bulk_create(missing, ignore_conflicts=True)
        rows = _locked_runs(by_run, place)
    for run_id, events in by_run.items():
        _update_run(rows[run_id], events, place)
        if rows[run_id].judged_by != registry:
            rows[run_id].judged_by = ""
    update_rows(
        rows.values(),
        [
            "host",
            "account",
            "first_seen_at",
            "last_seen_at",
            "started_at",
            "stopped_at",
            "judged_by",
            "heard_at",
            "troubles",
        ],
    )
    return rows


def _locked_runs(run_ids: Iterable[str], place: Place) -> dict[str, RobotRun]:
    rows = RobotRun.objects.select_for_update().filter(run_id__in=run_ids, scope=place.scope)
    return {row.run_id: row for row in rows.order_by("pk")}


def _update_run(run: RobotRun, events: Sequence[Admitted], place: Place) -> None:
    run.first_seen_at = min(run.first_seen_at, min(one.at for one in events))
    run.last_seen_at = max(run.last_seen_at, max(one.at for one in events))
    for one in events:
        event = one.event
        if event.host or event.account:
            run.host = event.host or run.host
            run.account = event.account or run.account
        if event.event_type == ENGINE_START:
            run.started_at = max(run.started_at or one.at, one.at)
            start_over(run.troubles, one.at)
        elif event.event_type == ENGINE_STOP:
            run.stopped_at = max(run.stopped_at or one.at, one.at)
        # Lines that name no run may come from several: whose trouble it is nobody knows.
        elif event.event_type in SIGNALS and event.run_id:
            hear(run.troubles, event.event_type, one.market, one.at, historical=one.historical)
    news = max((one.at for one in events if not one.historical), default=None)
    if news is not None:
        run.heard_at = max(run.heard_at or news, news)
    run.host = run.host or place.host
    if run.started_at and run.stopped_at and run.started_at > run.stopped_at:
        run.stopped_at = None


def _record_claims(admitted: Sequence[Admitted], recorded: Recorded) -> dict[int, set[Pair]]:
    """Write the claims these events make; returns every claim of every run among them."""
    runs = {run.pk: run for run in recorded.runs.values()}
    rows: dict[tuple[int, str, str], Claim] = {
        (claim.run_id, claim.market, claim.scope): claim
        for claim in Claim.objects.select_for_update().filter(run__in=runs).order_by("pk")
    }
    known, changed = set(rows), set()
    for one in admitted:
        if not one.claims:
            continue
        run = recorded.runs[one.run_id]
        key = (run.pk, one.market, one.scope)
        claim = rows.get(key)
        if claim is None:
            claim = rows[key] = Claim(
                run=run, market=one.market, scope=one.scope, first_at=one.at, last_at=one.at
            )
            if not one.historical:
                recorded.newly_claimed.add((one.market, one.scope))
        claim.first_at = min(claim.first_at, one.at)
        claim.last_at = max(claim.last_at, one.at)
        claim.execution_instrument = one.event.execution_instrument or claim.execution_instrument
        if one.event.fencing_token is not None:
            claim.fencing_token = max(one.event.fencing_token, claim.fencing_token or 0)
        changed.add(key)
    Claim.objects.bulk_create(
        [rows[key] for key in sorted(changed - known)],
        update_conflicts=True,
        unique_fields=["run", "market", "scope"],
        update_fields=["last_at"],
    )
    update_rows(
        [rows[key] for key in sorted(changed & known)],
        ["first_at", "last_at", "execution_instrument", "fencing_token"],
    )
    pairs: dict[int, set[Pair]] = defaultdict(set)
    for run_pk, market, scope in rows:
        pairs[run_pk].add((market, scope))
    for one in admitted:
        if one.event.event_type == ENGINE_STOP:
            recorded.stopped |= pairs[recorded.runs[one.run_id].pk]
    return pairs


def _record_streams(admitted: Sequence[Admitted], recorded: Recorded) -> dict[int, set[Pair]]:
    """Write the streams these events name; returns the markets of every stream of their runs."""
    named: dict[tuple[int, str], list[tuple[Admitted, str]]] = defaultdict(list)
    for one in admitted:
        for stream_id, market in _streams_of(one):
            named[recorded.runs[one.run_id].pk, stream_id].append((one, market))
    run_pks = [run.pk for run in recorded.runs.values()]
    rows = {
        (stream.run_id, stream.stream_id): stream
        for stream in Stream.objects.select_for_update()
        .filter(run__in={pk for pk, _ in named}, stream_id__in={name for _, name in named})
        .order_by("pk")
    }
    known = set(rows)
    for key, sightings in named.items():
        for one, market in sightings:
            stream = rows.get(key)
            if stream is None:
                stream = rows[key] = Stream(
                    run_id=key[0],
                    stream_id=key[1],
                    market=market,
                    scope=one.scope,
                    first_seen_at=one.at,
                    last_seen_at=one.at,
                )
                recorded.to_judge.add((market, one.scope))
            _update_stream(stream, one, market)
    fields = ["market", "scope", "instrument", "canonical_instrument", "execution_instrument"]
    Stream.objects.bulk_create(
        [rows[key] for key in sorted(set(named) - known)],
        update_conflicts=True,
        unique_fields=["run", "stream_id"],
        update_fields=[*fields, "last_seen_at"],
    )
    update_rows(
        [rows[key] for key in sorted(set(named) & known)],
        [*fields, "first_seen_at", "last_seen_at"],
    )
    pairs: dict[int, set[Pair]] = defaultdict(set)
    of_runs = Stream.objects.filter(run__in=run_pks).values_list("run_id", "market", "scope")
    for run_pk, market, scope in of_runs.distinct():
        pairs[run_pk].add((market, scope))
    return pairs


def _streams_of(one: Admitted) -> Iterable[tuple[str, str]]:
    """The streams an event is evidence of, with the market of each."""
    if one.is_evidence and one.event.stream_id:
        yield one.event.stream_id, one.market
    if one.report and one.is_evidence:
        for stream_id in one.report.stream_ids:
            yield stream_id, one.market
    if one.self_test:
        for finding in one.findings:
            if finding.code == STREAM_ID_NOT_CANONICAL and finding.market:
                yield finding.subject, finding.market


def _update_stream(stream: Stream, one: Admitted, market: str) -> None:
    stream.first_seen_at = min(stream.first_seen_at, one.at)
    if one.at < stream.last_seen_at:
        return
    event = one.event
    stream.last_seen_at = one.at
    stream.market, stream.scope = market, one.scope
    # An event that leaves a name out takes none back.
    stream.instrument = event.instrument or stream.instrument
    stream.canonical_instrument = event.canonical_instrument or stream.canonical_instrument
    stream.execution_instrument = event.execution_instrument or stream.execution_instrument


def _sightings(
    admitted: Sequence[Admitted],
    source_name: str,
    recorded: Recorded,
    *of_runs: dict[int, set[Pair]],
) -> dict[Pair, Sighting]:
    """The newest evidence of each market: its own events, and any word of a run that claims it.

    A line that merely mentions a market is none: a dead robot's market must not look alive because
    another robot talks about it.
    """
    found: dict[Pair, Sighting] = {}
    words: dict[str, Admitted] = {}

    def see(pairs: Iterable[Pair], one: Admitted) -> None:
        sighting = Sighting(one.at, one.historical, one.run_id, source_name)
        for pair in pairs:
            found[pair] = found[pair].join(sighting) if pair in found else sighting

    for one in admitted:
        # Lines without a run id may come from several robots: they speak for themselves only.
        if one.event.run_id:
            newest = words.get(one.run_id)
            if newest is None or one.at >= newest.at:
                words[one.run_id] = one
        if one.is_evidence:
            pairs = {(finding.market, one.scope) for finding in one.findings if not finding.right}
            if one.market:
                pairs.add((one.market, one.scope))
            see(pairs, one)
    for run_id, newest in words.items():
        run_pk = recorded.runs[run_id].pk
        see(set().union(*(known.get(run_pk, set()) for known in of_runs)), newest)
    return found
