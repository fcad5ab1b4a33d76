"""What NinjaTrader's own compiler will be given compiles, in the oldest language it may speak."""

from __future__ import annotations

from pathlib import Path

from canonical_guard.mounts import NETWORK_TYPES
from canonical_guard.symbols import builtin_registry
from tests.ninjatrader.conftest import GUARD, compiled


def test_the_file_compiles_alone_without_warnings_and_with_system_dll_only(
    mono: None, tmp_path: Path
) -> None:
    done = compiled("-target:library", f"-out:{tmp_path / 'guard.dll'}", GUARD)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout + done.stderr == ""


def test_the_file_is_plain_ascii_with_short_lines() -> None:
    """An editor on Windows takes what is neither UTF-8 with a mark nor ASCII for something else."""
    for number, line in enumerate(GUARD.read_bytes().splitlines(), start=1):
        assert line.isascii(), number
        assert len(line) <= 120, number


def test_its_table_of_instruments_is_the_python_guard_s() -> None:
    markets: dict[str, list[str]] = {}
    for execution, canonical in builtin_registry().items():
        markets.setdefault(canonical, []).append(execution)
    expected = " ".join(f"{market}:{','.join(markets[market])}" for market in markets)
    assert text_constant("Table") == expected, f"in Symbols, write: {expected}"


def test_its_list_of_network_file_systems_is_the_python_guard_s() -> None:
    assert set(text_constant("NetworkTypes").split()) == NETWORK_TYPES


def text_constant(name: str) -> str:
    """The value of `const string NAME = "…" + "…";`."""
    declared = GUARD.read_text().partition(f"const string {name} =")[2].partition(";")[0]
    return "".join(declared.split('"')[1::2])
