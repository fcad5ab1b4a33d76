"""Watched markets: what there is evidence of, how new it is, and where it was read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from identity.bulk import update_rows
from identity.models import WatchedMarket

Pair = tuple[str, str]
"""A market and its scope."""


@dataclass(slots=True)
class Sighting:
    """The newest evidence of one market in a batch, and the run that gave it."""

    at: datetime
    historical: bool
    run_id: str
    source: str

    def join(self, other: Sighting) -> Sighting:
        newest = other if other.at >= self.at else self
        return Sighting(
            newest.at, self.historical and other.historical, newest.run_id, newest.source
        )


def lock_markets(pairs: set[Pair]) -> dict[Pair, WatchedMarket]:
    """The watched markets among `pairs`, locked until the transaction ends."""
    rows = (
        WatchedMarket.objects.select_for_update()
        .filter(market__in={market for market, _ in pairs}, scope__in={scope for _, scope in pairs})
        .order_by("pk")
    )
    return {(row.market, row.scope): row for row in rows if (row.market, row.scope) in pairs}


def watch_markets(sightings: Mapping[Pair, Sighting]) -> set[Pair]:
    """Record the newest evidence of each market; returns those that were not watched before."""
    pairs = set(sightings)
    rows = lock_markets(pairs)
    missing = pairs - set(rows)
    if missing:
        WatchedMarket.objects.bulk_create(
            [_first(pair, sightings[pair]) for pair in sorted(missing)], ignore_conflicts=True
        )
        rows = lock_markets(pairs)
    for pair, sighting in sightings.items():
        _update(rows[pair], sighting)
    update_rows(
        rows.values(),
        [
            "first_evidence_at",
            "evidence_at",
            "evidence_from",
            "historical",
            "run_id",
            "forgotten_at",
        ],
    )
    return missing


def _first(pair: Pair, sighting: Sighting) -> WatchedMarket:
    return WatchedMarket(
        market=pair[0],
        scope=pair[1],
        first_evidence_at=sighting.at,
        evidence_at=sighting.at,
        evidence_from=sighting.source,
        historical=sighting.historical,
        run_id=sighting.run_id,
    )


def _update(row: WatchedMarket, sighting: Sighting) -> None:
    row.first_evidence_at = min(row.first_evidence_at, sighting.at)
    row.historical = row.historical and sighting.historical
    if row.forgotten_at is not None and sighting.at > row.forgotten_at:
        row.forgotten_at = None
    if sighting.at >= row.evidence_at:
        row.evidence_at = sighting.at
        row.evidence_from = sighting.source
        row.run_id = sighting.run_id or row.run_id
