"""A symbol means to the guard for NinjaTrader what it means to the Python one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from canonical_guard.errors import UnknownInstrument
from canonical_guard.symbols import builtin_registry, resolve
from tests.ninjatrader.conftest import StartDriver

NOTATIONS = (
    "{} 03-26", "{}H6", "{}H26", "{}H2026", "/{}", "{}=F", "CME_MINI:{}1!", "{}12!", " {}\t 12-27 ",
    "{} 13-26", "{} ##-##", "{}X", "{}3", "{}H1999", "{}1", "{}10!", "{}0!", "{}H", "//{}",
    "{}=F=F",
)  # fmt: skip
OTHERS = (
    "",
    " ",
    "XYZ",
    "MNQZ",
    "ſ",
    "ＥＳ",
    "ES 03-2６",
    "E S",
    "A" * 65,
    "MESH6\u00a0",
    "é",
    "ES\x00",
)


def spellings() -> Iterator[str]:
    for notation, product in itertools.product(NOTATIONS, builtin_registry()):
        yield notation.format(product)
        yield notation.format(product.lower())
    yield from builtin_registry()
    yield from OTHERS


def test_every_notation_of_every_product_means_the_same(start_driver: StartDriver) -> None:
    driver = start_driver()
    differ = []
    for symbol in spellings():
        try:
            meant = resolve(symbol)
            expected = [meant.execution_instrument, meant.canonical_instrument]
        except UnknownInstrument:
            expected = None
        found = driver.call("resolve", symbol=symbol)
        if found != expected:
            differ.append((symbol, expected, found))
    assert differ == []
