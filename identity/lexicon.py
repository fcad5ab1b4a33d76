"""What names mean by the registry as it is now: instruments and stream ids. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from canonical_guard import symbols
from canonical_guard.errors import UnknownInstrument

# Names come from robots, and a robot gone wrong may make up any number of them.
MAX_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Product:
    """What an instrument's name in any notation stands for."""

    execution: str
    canonical: str


@dataclass(slots=True)
class Lexicon:
    """Execution instrument -> canonical instrument, with the last answers remembered.

    `digest` tells this registry from another; 16 characters.
    """

    canonical_of: Mapping[str, str]
    canonicals: frozenset[str] = field(init=False)
    digest: str = field(init=False)
    _products: dict[str, Product | None] = field(default_factory=dict)
    _streams: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.canonicals = frozenset(self.canonical_of.values())
        said = repr(sorted(self.canonical_of.items()))
        self.digest = hashlib.sha256(said.encode()).hexdigest()[:16]

    def product(self, name: str) -> Product | None:
        """The product a name stands for in any notation, or None: it is never guessed."""
        try:
            return self._products[name]
        except KeyError:
            found = self._resolve(name)
        if len(self._products) >= MAX_REMEMBERED:
            self._products.clear()
        self._products[name] = found
        return found

    def canonical_of_stream(self, stream_id: str) -> str:
        """`ES` for `ES1`; `""` where the id is not a canonical symbol and a number."""
        try:
            return self._streams[stream_id]
        except KeyError:
            symbols_before = _stream_symbols(stream_id)
        found = next((symbol for symbol in symbols_before if symbol in self.canonicals), "")
        if len(self._streams) >= MAX_REMEMBERED:
            self._streams.clear()
        self._streams[stream_id] = found
        return found

    def market_of_stream(self, stream_id: str) -> str:
        """The market a stream id means, right or wrong: `ES` for `MES1` too; `""` if none."""
        right = self.canonical_of_stream(stream_id)
        if right:
            return right
        for symbol in _stream_symbols(stream_id.upper()):
            if symbol in self.canonical_of:
                return self.canonical_of[symbol]
        return ""

    def _resolve(self, name: str) -> Product | None:
        try:
            found = symbols.resolve(name, self.canonical_of)
        except UnknownInstrument:
            bare = symbols.normalise(name)
            # A canonical instrument need not be tradable itself.
            return Product(bare, bare) if bare in self.canonicals else None
        return Product(found.execution_instrument, found.canonical_instrument)


def _stream_symbols(stream_id: str) -> list[str]:
    """Everything before a number at the end, longest symbol first: symbols may end in digits."""
    cut = len(stream_id)
    found: list[str] = []
    while cut and stream_id[cut - 1] in "0123456789" and len(stream_id) - cut < 4:
        cut -= 1
        if stream_id[cut] != "0":
            found.append(stream_id[:cut])
    return found
