"""How every watched market stands: read in bulk, decided, then written in short transactions.

Nobody is held up while a sweep reads and decides. Where somebody changed what a market comes to
before it is written, or where two may execute it, that market is looked at again under its lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import OuterRef, Subquery

from identity.admission import Markets
from identity.eventstore import insert_events
from identity.executors import doubtful_markets
from identity.facts import TenureFact
from identity.liveness import LIVE_FOR
from identity.models import EventOrigin, InvariantResult, RobotRun, Stream, Violation, WatchedMarket
from identity.results import (
    MAX_LISTED,
    CheckedStreams,
    Verdict,
    evaluate,
    event_of,
    is_news,
    result_of,
    says,
    streams_checked,
    write_results,
)
from identity.status import counts_as_red
from identity.violations import by_market
from identity.watching import Pair

# Markets with evidence this new are read together; the few others each by themselves.
FRESH_FOR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Surveyed:
    """One watched market as it was read, its open violations' keys, and what that comes to."""

    row: WatchedMarket
    known: InvariantResult | None
    open: frozenset[int]
    verdict: Verdict

    @property
    def pair(self) -> Pair:
        return self.row.market, self.row.scope


def survey_markets(
    markets: Markets, now: datetime, facts: Sequence[TenureFact]
) -> tuple[list[Surveyed], set[Pair]]:
    """Every watched market, and those of them that two may execute, which are not surveyed.

    `facts` are the tenures that run. Results are read before what they rest on, so that whatever
    changes meanwhile shows as another result when it comes to writing.
    """
    rows = list(WatchedMarket.objects.filter(forgotten_at__isnull=True).order_by("market", "scope"))
    doubtful = doubtful_markets({(row.market, row.scope) for row in rows}, markets, now, facts)
    known = {
        result.watched_id: result
        for result in InvariantResult.objects.filter(origin=EventOrigin.SWEEP)
    }
    violations = Violation.objects.filter(ended_at__isnull=True).defer("sample", "runs")
    all_open = by_market(violations.order_by("opened_at", "pk"))
    quiet = [row for row in rows if (row.market, row.scope) not in doubtful]
    streams = _streams(quiet, known, now)
    surveyed = []
    for row in quiet:
        found = all_open.get((row.market, row.scope), [])
        red = [violation for violation in found if counts_as_red(violation, now)]
        surveyed.append(
            Surveyed(
                row,
                known.get(row.pk),
                frozenset(violation.pk for violation in found),
                evaluate(row.market, markets, red, streams[row.pk]),
            )
        )
    return surveyed, doubtful


def publish_surveyed(batch: Sequence[Surveyed], now: datetime) -> set[Pair]:
    """Write and say the results of these markets; inside its caller's transaction.

    Returns those where somebody was faster since they were read; they are left as they are. So is
    one that was checked later than `now`.
    """
    watched = dict(
        WatchedMarket.objects.select_for_update()
        .filter(pk__in=[one.row.pk for one in batch])
        .order_by("pk")
        .values_list("pk", "forgotten_at")
    )
    results = InvariantResult.objects.filter(watched__in=watched, origin=EventOrigin.SWEEP)
    checked_at = dict(results.values_list("watched_id", "checked_at"))
    still_open = _open_violations([one.pair for one in batch])
    overtaken: set[Pair] = set()
    again: list[int] = []
    other, events = [], []
    for one in batch:
        row, known = one.row, one.known
        if row.pk not in watched or watched[row.pk] is not None:
            continue
        as_read = known.checked_at if known is not None else None
        if checked_at.get(row.pk) != as_read or still_open.get(one.pair, set()) != one.open:
            overtaken.add(one.pair)
            continue
        if as_read is not None and as_read > now:
            continue
        changed = is_news(one.verdict, known)
        if known is not None and says(known, one.verdict):
            again.append(row.pk)
        else:
            other.append(result_of(row, one.verdict, known, now, changed=changed))
        events.append(event_of(row, one.verdict, now, changed=changed))
    _check_again(again, now)
    write_results(other)
    insert_events(events)
    return overtaken


def _check_again(watched: Sequence[int], now: datetime) -> None:
    """Results that say what they said before, of the newest evidence, in one statement."""
    if watched:
        row = WatchedMarket.objects.filter(pk=OuterRef("watched_id"))
        InvariantResult.objects.filter(watched__in=watched, origin=EventOrigin.SWEEP).update(
            checked_at=now,
            evidence_at=Subquery(row.values("evidence_at")[:1]),
            run_id=Subquery(row.values("run_id")[:1]),
        )


def _open_violations(pairs: Sequence[Pair]) -> dict[Pair, set[int]]:
    rows = Violation.objects.filter(
        ended_at__isnull=True,
        market__in={market for market, _ in pairs},
        scope__in={scope for _, scope in pairs},
    )
    found: dict[Pair, set[int]] = {}
    for pk, market, scope in rows.values_list("pk", "market", "scope"):
        found.setdefault((market, scope), set()).add(pk)
    return found


def _streams(
    watched: Iterable[WatchedMarket], known: Mapping[int, InvariantResult], now: datetime
) -> dict[int, CheckedStreams]:
    """The streams of each market's present runs, by the market's key."""
    found: dict[int, CheckedStreams] = {}
    fresh: dict[Pair, WatchedMarket] = {}
    for row in watched:
        before = known.get(row.pk)
        if row.evidence_at >= now - FRESH_FOR:
            fresh[row.market, row.scope] = row
        elif before is not None and before.stream_ids and before.evidence_at == row.evidence_at:
            # The same evidence, so the same streams: another one would have been written at once.
            found[row.pk] = CheckedStreams(before.execution_instrument, before.stream_ids)
        else:
            found[row.pk] = streams_checked(row)
    return found | _fresh_streams(fresh)


def _fresh_streams(watched: Mapping[Pair, WatchedMarket]) -> dict[int, CheckedStreams]:
    """The streams of these markets, all read at once."""
    since = {pair: row.evidence_at - LIVE_FOR for pair, row in watched.items()}
    found: dict[Pair, set[str]] = {pair: set() for pair in since}
    newest: dict[Pair, str] = {}
    oldest = min(since.values(), default=None)
    if oldest is None:
        return {}
    runs = RobotRun.objects.filter(last_seen_at__gte=oldest)
    seen_at = dict(runs.values_list("pk", "last_seen_at"))
    # Without any time in its rows, which SQLite keeps as text: there can be very many.
    streams = (
        Stream.objects.filter(run__last_seen_at__gte=oldest)
        .order_by("last_seen_at", "-pk")
        .values_list("market", "scope", "stream_id", "execution_instrument", "run_id")
    )
    for market, scope, stream_id, execution, run_pk in streams.iterator(2000):
        pair = (market, scope)
        if pair not in since or run_pk not in seen_at or seen_at[run_pk] < since[pair]:
            continue
        found[pair].add(stream_id)
        newest[pair] = execution or newest.get(pair, "")
    return {
        row.pk: CheckedStreams(newest.get(pair, ""), sorted(found[pair])[:MAX_LISTED])
        for pair, row in watched.items()
    }
