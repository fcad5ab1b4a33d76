"""Which product a symbol names: the notations of charts, brokers and data feeds, canonicalised.

Pure. The built-in registry is what a host-only guard goes by; a server passes its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from types import MappingProxyType

from canonical_guard.errors import UnknownInstrument

MONTH_CODES = {code: month for month, code in enumerate("FGHJKMNQUVXZ", start=1)}
MAX_SYMBOL_LENGTH = 64
MAX_PRODUCT_LENGTH = 8
MOST_PRODUCTS = MAX_PRODUCT_LENGTH + 1

_PREFIX = re.compile(r"/|[A-Z0-9_]{1,24}:")
_WITH_EXPIRY = re.compile(r"(?P<product>[A-Z0-9]{1,8}) (?P<month>0[1-9]|1[0-2])-(?P<year>\d{2})")
_CONTRACT_CODE = re.compile(
    r"(?P<product>[A-Z0-9]{1,8})(?P<month>[FGHJKMNQUVXZ])(?P<year>20\d{2}|\d{1,2})"
)
# A product may end in a digit, so both lengths of the number are tried.
_CONTINUOUS = (
    re.compile(r"(?P<product>[A-Z0-9]{1,8})[1-9]!"),
    re.compile(r"(?P<product>[A-Z0-9]{1,8})[1-9]\d!"),
)


@dataclass(frozen=True, slots=True)
class SeedRow:
    """One execution instrument of the data file, a fact of the exchange."""

    canonical: str
    canonical_name: str
    exchange: str
    calendar_key: str
    execution: str
    execution_name: str
    multiplier: str


@dataclass(frozen=True, slots=True)
class ResolvedSymbol:
    """What a symbol means; `contract` is `YYYY-MM`, or None where the symbol names no expiry."""

    symbol: str
    execution_instrument: str
    canonical_instrument: str
    contract: str | None = None


@cache
def seed_rows() -> tuple[SeedRow, ...]:
    """The instruments this package ships, in the order of its data file."""
    # Imported where it is needed: what stands between an operator and his robot is mostly imports.
    import csv

    text = Path(__file__).with_name("instruments.csv").read_text("utf-8")
    return tuple(SeedRow(**row) for row in csv.DictReader(text.splitlines()))


@cache
def builtin_registry() -> Mapping[str, str]:
    """Execution instrument -> canonical instrument, of the shipped data file."""
    return MappingProxyType({row.execution: row.canonical for row in seed_rows()})


def normalise(symbol: str) -> str:
    """Upper case, trimmed, inner white space folded to one blank."""
    return " ".join(symbol.upper().split())


def resolve(
    symbol: str, registry: Mapping[str, str] | None = None, *, today: date | None = None
) -> ResolvedSymbol:
    """The product that `symbol` names, or UnknownInstrument with the nearest candidates.

    Notations: `MES`, `MES 03-26`, `MESH6`, `MESH26`, `MESH2026`, `/MES`, `MES=F`, `CME_MINI:MES1!`.
    A one-digit year is the next such year from `today` (default: the local date) on, less one
    year's grace for a contract that just expired.
    """
    known = builtin_registry() if registry is None else registry
    text = normalise(symbol)
    # Before upper-casing: `ſ` becomes S, and a digit of another script would count as a year.
    if not text or len(text) > MAX_SYMBOL_LENGTH or not "".join(symbol.split()).isascii():
        raise UnknownInstrument(f"{symbol[:80]!r} is not an instrument symbol.")
    bare = _bare(text)
    if bare in known:
        return ResolvedSymbol(text, bare, known[bare])
    matches = [
        match
        for pattern in (_WITH_EXPIRY, _CONTRACT_CODE, *_CONTINUOUS)
        if (match := pattern.fullmatch(bare)) and match["product"] in known
    ]
    if len(matches) > 1:
        products = " or ".join(match["product"] for match in matches)
        raise UnknownInstrument(f"{text!r} can mean {products}; name the product alone.")
    if not matches:
        raise UnknownInstrument(_unknown(text, bare, known))
    product = matches[0]["product"]
    return ResolvedSymbol(text, product, known[product], _contract(matches[0], today))


def products_named(symbol: str) -> list[str]:
    """Every product that `symbol` can name in any registry, MOST_PRODUCTS at most: no other has a
    say in what it means.
    """
    bare = _bare(normalise(symbol))
    if len(bare) > MAX_SYMBOL_LENGTH or not bare.isascii():
        return []
    longest = min(len(bare) - 1, MAX_PRODUCT_LENGTH)
    return [bare, *(bare[:length] for length in range(1, longest + 1))]


def _bare(text: str) -> str:
    bare = _PREFIX.sub("", text, count=1) if _PREFIX.match(text) else text
    return bare.removesuffix("=F")


def _contract(match: re.Match[str], today: date | None) -> str | None:
    groups = match.groupdict()
    if "month" not in groups:
        return None
    month = MONTH_CODES.get(groups["month"]) or int(groups["month"])
    digits = groups["year"]
    if len(digits) == 4:
        year = int(digits)
    elif len(digits) == 2:
        year = 2000 + int(digits)
    else:
        first = (today or date.today()).year - 1  # noqa: DTZ011 a contract year has no time zone
        year = first + (int(digits) - first) % 10
    return f"{year:04d}-{month:02d}"


def _unknown(text: str, bare: str, known: Mapping[str, str]) -> str:
    import difflib

    nearest = difflib.get_close_matches(bare, known, n=3, cutoff=0.5)
    hint = f" Nearest: {', '.join(nearest)}." if nearest else ""
    return f"{text!r} is not an instrument of the registry.{hint}"
