"""What each app is handed of the other: markets to the locks, tenures to identity."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from functools import cache

from django.db.models import Q

from canonical_guard import symbols
from canonical_guard.errors import UnknownInstrument
from identity.facts import TenureFact
from identity.models import ExecutionInstrument
from identity.registry import load_registry
from locks.connections import lease_connection
from locks.execution import on_postgres
from locks.market import MarketTerms
from locks.models import LockKind, Tenure, TenureEnd


def resolve_market(symbol: str) -> MarketTerms:
    """The market that `symbol` executes; raises canonical_guard's UnknownInstrument."""
    named = symbols.products_named(symbol)
    names = [*named, *[""] * (symbols.MOST_PRODUCTS - len(named))]
    with lease_connection() as raw:
        rows = raw.execute(_what_is_named(), names).fetchall()
    found = {
        execution: MarketTerms(canonical, execution, bool(per_account), float(lease_ttl))
        for execution, canonical, per_account, lease_ttl in rows
    }
    known = {execution: terms.canonical_instrument for execution, terms in found.items()}
    try:
        return found[symbols.resolve(symbol, known).execution_instrument]
    except UnknownInstrument:
        # The whole registry has the nearest names to suggest.
        load_registry().resolve(symbol)
        raise


@cache
def _what_is_named() -> str:
    """The query for all that a symbol can name. An acquire asks it twice, so it is written once and
    stays prepared.
    """
    # Different names: Django asks for the same one once.
    names = [str(number) for number in range(symbols.MOST_PRODUCTS)]
    named = ExecutionInstrument.objects.filter(symbol__in=names)
    text, _ = named.values_list(
        "symbol",
        "canonical__symbol",
        "canonical__exclusive_per_account",
        "canonical__lease_ttl",
    ).query.sql_with_params()
    return str(text) if on_postgres() else str(text).replace("%s", "?")


def tenure_facts(since: datetime) -> Sequence[TenureFact]:
    """Tenures of canonical markets that lasted at or after `since`, oldest first."""
    tenures = (
        Tenure.objects.filter(lock__kind=LockKind.CANONICAL_MARKET)
        .filter(Q(ended_at__isnull=True) | Q(ended_at__gte=since))
        .select_related("lock")
        .order_by("acquired_at")
    )
    return [
        TenureFact(
            market=tenure.lock.name,
            scope=tenure.lock.scope,
            fencing_token=tenure.fencing_token,
            run_id=tenure.run_id,
            host=tenure.host,
            execution_instrument=tenure.execution_instrument,
            acquired_at=tenure.acquired_at,
            renewed_at=tenure.lock.renewed_at if tenure.ended_at is None else tenure.ended_at,
            ended_at=tenure.ended_at,
            clean=tenure.end == TenureEnd.RELEASED,
            folder=_project_root(tenure),
        )
        for tenure in tenures
    ]


def _project_root(tenure: Tenure) -> str:
    # The record knows the lock file of its last holder only: {root}/runtime_locks/canonical_ES.lock
    if tenure.lock.run_id != tenure.run_id:
        return ""
    return re.sub(r"[\\/]runtime_locks[\\/][^\\/]*$", "", tenure.lock.lock_file_path)
