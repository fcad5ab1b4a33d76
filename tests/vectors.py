"""The protocol's conformance vectors: reading them, and comparing what came with what they say.

docs/protocol.md tells what their members mean; this module knows nothing of servers or guards.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "protocol"
SLACK = 0.01

Vector = dict[str, Any]


def load(name: str) -> Any:
    """One file of vectors, by its path below docs/protocol."""
    return json.loads((FOLDER / name).read_text("utf-8"))


def title(case: Vector) -> str:
    """The first sentence of a case's `about`, which is its name."""
    return str(case["about"]).partition(".")[0]


def filled(value: Any, examples: dict[str, Vector]) -> Any:
    """`value` with every `like` replaced by that example's members; those beside it win."""
    if isinstance(value, list):
        return [filled(item, examples) for item in value]
    if not isinstance(value, dict):
        return value
    own = {key: filled(item, examples) for key, item in value.items() if key != "like"}
    return {**examples[value["like"]], **own} if "like" in value else own


def assert_like(expected: Any, actual: Any, elapsed: float, where: str = "answer") -> None:
    """`actual` is as a vector says: objects by their named members, lists whole and in order.

    `{"near": seconds}` allows for the `elapsed` seconds since the case was set up.
    """
    if isinstance(expected, dict) and set(expected) == {"near"}:
        assert isinstance(actual, int | float), f"{where}: {actual!r} is no number"
        off = abs(actual - expected["near"])
        assert off <= elapsed + SLACK, f"{where}: {actual} is not near {expected['near']}"
    elif isinstance(expected, dict):
        assert isinstance(actual, dict), f"{where}: {actual!r} is no object"
        for key, item in expected.items():
            assert key in actual, f"{where}: there is no {key}, but {actual!r}"
            assert_like(item, actual[key], elapsed, f"{where}.{key}")
    elif isinstance(expected, list):
        assert isinstance(actual, list), f"{where}: {actual!r} is no list"
        assert len(actual) == len(expected), f"{where}: {actual!r} has other members"
        for index, item in enumerate(expected):
            assert_like(item, actual[index], elapsed, f"{where}[{index}]")
    else:
        same = actual == expected and isinstance(actual, bool) == isinstance(expected, bool)
        assert same, f"{where}: {actual!r}, not {expected!r}"


def rounded_up(seconds: float) -> str:
    return str(math.ceil(seconds))
