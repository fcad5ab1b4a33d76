"""Which product a symbol names, in every notation, and never by guessing."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canonical_guard.errors import UnknownInstrument
from canonical_guard.symbols import (
    MONTH_CODES,
    builtin_registry,
    normalise,
    products_named,
    resolve,
    seed_rows,
)

TODAY = date(2026, 4, 15)
PRODUCTS = sorted(builtin_registry())


@pytest.mark.parametrize(
    ("symbol", "execution", "contract"),
    [
        ("MES", "MES", None),
        ("  mes ", "MES", None),
        ("MES 03-26", "MES", "2026-03"),
        ("mes  03-26", "MES", "2026-03"),
        ("MES\u00a003-26", "MES", "2026-03"),
        ("MESH6", "MES", "2026-03"),
        ("MESH26", "MES", "2026-03"),
        ("MESH2026", "MES", "2026-03"),
        ("/MES", "MES", None),
        ("/MESH26", "MES", "2026-03"),
        ("MES=F", "MES", None),
        ("CME_MINI:MES1!", "MES", None),
        ("CME_MINI:MESH2026", "MES", "2026-03"),
        ("NYMEX:MNG2!", "MNG", None),
        ("M2K12!", "M2K", None),
        ("M2KZ6", "M2K", "2026-12"),
        ("SILN26", "SIL", "2026-07"),
        ("SIN26", "SI", "2026-07"),
        ("ES", "ES", None),
    ],
)
def test_every_notation_names_its_product(
    symbol: str, execution: str, contract: str | None
) -> None:
    found = resolve(symbol, today=TODAY)
    assert (found.execution_instrument, found.contract) == (execution, contract)
    assert found.canonical_instrument == builtin_registry()[execution]


@pytest.mark.parametrize(
    "symbol",
    """
    | |MESS|ME|ES1|MES 3-26|MES 13-26|MES 00-26|MES 03-2026|MESA6|MESH|MESH206|MESH1926|MESH20260
    |MES!|MES0!|MES001!|//MES|:MES|CME:|A:B:MES|MES=|MES=F=F|M ES|MES\0|UNKNOWN|MES-03-26|_
    """.replace("\n    ", "").split("|"),
)
def test_what_is_no_symbol_is_an_error_and_never_a_guess(symbol: str) -> None:
    with pytest.raises(UnknownInstrument):
        resolve(symbol, today=TODAY)


@pytest.mark.parametrize("symbol", ["Eſ", "MESH٦", "ＭＥＳ", "MES 03-२६", "ME\u0405"])
def test_letters_and_digits_of_other_scripts_are_not_ours(symbol: str) -> None:
    with pytest.raises(UnknownInstrument):
        resolve(symbol, today=TODAY)


@pytest.mark.parametrize(
    ("today", "code", "year"),
    [
        (date(2026, 4, 15), "6", 2026),
        (date(2026, 4, 15), "5", 2025),
        (date(2026, 4, 15), "4", 2034),
        (date(2029, 12, 31), "0", 2030),
        (date(2030, 1, 1), "9", 2029),
        (date(2030, 1, 1), "8", 2038),
    ],
)
def test_a_one_digit_year_is_the_next_such_one_with_a_years_grace(
    today: date, code: str, year: int
) -> None:
    assert resolve(f"ESH{code}", today=today).contract == f"{year}-03"


def test_an_unknown_symbol_comes_with_its_nearest_neighbours() -> None:
    with pytest.raises(UnknownInstrument, match=r"Nearest:.*MES"):
        resolve("MESS")


def test_a_symbol_with_two_meanings_has_none() -> None:
    registry = {"X": "X", "X1": "X"}
    with pytest.raises(UnknownInstrument, match="X1 or X"):
        resolve("X11!", registry)
    assert resolve("X12!", {"X1": "X"}).execution_instrument == "X1"


def test_a_registry_of_ones_own_replaces_the_built_in_one() -> None:
    assert resolve("M6E", {"M6E": "6E"}).canonical_instrument == "6E"
    with pytest.raises(UnknownInstrument):
        resolve("MES", {"M6E": "6E"})


def test_the_built_in_registry_cannot_be_changed_by_accident() -> None:
    with pytest.raises(TypeError):
        builtin_registry()["MES"] = "NQ"  # type: ignore[index]


def test_every_seed_row_is_complete_and_every_canonical_executes_itself() -> None:
    registry = builtin_registry()
    assert len(registry) == len(seed_rows())
    for row in seed_rows():
        assert all((row.canonical_name, row.exchange, row.calendar_key, row.execution_name))
        assert float(row.multiplier) > 0
        assert registry[row.canonical] == row.canonical


@given(
    product=st.sampled_from(PRODUCTS),
    month=st.sampled_from(sorted(MONTH_CODES)),
    year=st.integers(2000, 2099),
    prefix=st.sampled_from(["", "/", "CME:", "cme_mini:"]),
)
def test_a_contract_says_the_same_in_every_notation(
    product: str, month: str, year: int, prefix: str
) -> None:
    contract = f"{year}-{MONTH_CODES[month]:02d}"
    for notation in (
        f"{product}{month}{year}",
        f"{product}{month}{year % 100:02d}",
        f"{product} {MONTH_CODES[month]:02d}-{year % 100:02d}",
    ):
        found = resolve(prefix + notation, today=TODAY)
        assert (found.execution_instrument, found.contract) == (product, contract)


@given(st.text(max_size=80))
def test_any_text_is_either_a_known_product_or_an_unknown_instrument(text: str) -> None:
    try:
        found = resolve(text, today=TODAY)
    except UnknownInstrument:
        return
    assert found.canonical_instrument == builtin_registry()[found.execution_instrument]
    assert found.execution_instrument in normalise(text)


@given(st.text(alphabet="MESNQGCZHF0126!:/= -", max_size=12))
def test_resolving_is_stable_under_normalising_and_repetition(text: str) -> None:
    try:
        found = resolve(text, today=TODAY)
    except UnknownInstrument:
        with pytest.raises(UnknownInstrument):
            resolve(normalise(text), today=TODAY)
        return
    assert resolve(found.symbol, today=TODAY) == found
    assert resolve(found.execution_instrument).canonical_instrument == found.canonical_instrument


@pytest.mark.parametrize(
    "symbol",
    [
        "MES",
        " mes 03-26 ",
        "MESH6",
        "MESH2026",
        "/MES",
        "MES=F",
        "CME_MINI:MES1!",
        "2YYH6",
        "6EH26",
    ],
)
def test_what_a_symbol_can_name_is_all_that_decides_on_it(symbol: str) -> None:
    """So that a registry need not be read as a whole."""
    whole = builtin_registry()
    narrow = {name: whole[name] for name in products_named(symbol) if name in whole}
    assert resolve(symbol, narrow) == resolve(symbol, whole)
    assert 0 < len(narrow) <= 3


def test_what_is_no_symbol_names_nothing() -> None:
    assert products_named("é" * 8) == []
    assert products_named("X" * 99) == []
