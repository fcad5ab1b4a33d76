"""The registry of instruments: seeded from the exchange's facts, edited by operators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from django.db import transaction

from canonical_guard import symbols
from identity.admission import Markets
from identity.lexicon import Lexicon
from identity.models import CanonicalInstrument, ExecutionInstrument


@dataclass(frozen=True, slots=True)
class Registry:
    """Execution instrument -> canonical instrument, as the database has it now."""

    canonical_of: Mapping[str, str]

    def resolve(self, symbol: str) -> symbols.ResolvedSymbol:
        """The product `symbol` names in any notation; raises UnknownInstrument."""
        return symbols.resolve(symbol, self.canonical_of)

    def is_canonical(self, symbol: str) -> bool:
        return symbol in self.canonicals

    @property
    def canonicals(self) -> frozenset[str]:
        return frozenset(self.canonical_of.values())


def load_registry() -> Registry:
    """One query, one consistent picture."""
    return Registry(dict(ExecutionInstrument.objects.values_list("symbol", "canonical__symbol")))


def seed_registry() -> int:
    """Add the shipped instruments that are missing; what is there stays as operators left it.

    Returns how many execution instruments were added.
    """
    added = 0
    with transaction.atomic():
        for row in symbols.seed_rows():
            canonical, _ = CanonicalInstrument.objects.get_or_create(
                symbol=row.canonical,
                defaults={
                    "name": row.canonical_name,
                    "exchange": row.exchange,
                    "calendar_key": row.calendar_key,
                },
            )
            _, created = ExecutionInstrument.objects.get_or_create(
                symbol=row.execution,
                defaults={
                    "canonical": canonical,
                    "name": row.execution_name,
                    "multiplier": Decimal(row.multiplier),
                },
            )
            added += created
    return added


def load_markets() -> Markets:
    """The registry as the invariants need it: what names mean, and each market's scope rule."""
    rows = ExecutionInstrument.objects.order_by("symbol").values_list(
        "symbol", "canonical__symbol", "canonical__exclusive_per_account"
    )
    return _markets(tuple(rows))


@lru_cache(maxsize=4)
def _markets(rows: tuple[tuple[str, str, bool], ...]) -> Markets:
    """The same registry is the same object, so that it knows the names that it was asked before."""
    return Markets(
        lexicon=Lexicon({execution: canonical for execution, canonical, _ in rows}),
        per_account=frozenset(canonical for _, canonical, per_account in rows if per_account),
    )
