"""JSON as robots write it, read so that nothing ambiguous or unstorable gets through. Pure.

A key given twice with two values is refused, a number no column holds stays text, NUL and lone
surrogates become U+FFFD, and nesting is bounded.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

MAX_DEPTH = 32
_INT64 = 2**63
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_SUSPICIOUS = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


class NotReadable(ValueError):
    """Why a text is not JSON that can be relied on, as one sentence."""


def loads(text: str) -> Any:
    """The value `text` says; raises NotReadable."""
    try:
        value = _DECODER.decode(text)
    except NotReadable:
        raise
    except RecursionError:
        raise NotReadable(f"It is nested deeper than {MAX_DEPTH} levels.") from None
    except ValueError as error:
        raise NotReadable(f"It is not JSON: {error}.") from None
    # Only a text with this many brackets can be too deep, and only an escape can smuggle these in.
    if text.count("{") + text.count("[") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise NotReadable(f"It is nested deeper than {MAX_DEPTH} levels.")
    if _SUSPICIOUS.search(text) or _UNSTORABLE.search(text):
        return storable(value)
    return value


def storable(value: Any) -> Any:
    """The same value with every text one that any database can keep."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("�", value)
    if isinstance(value, list):
        return [storable(inner) for inner in value]
    if isinstance(value, dict):
        return {storable(key): storable(inner) for key, inner in value.items()}
    return value


def _depth(value: Any) -> int:
    deepest, pending = 0, [(value, 1)]
    while pending:
        inner, level = pending.pop()
        deepest = max(deepest, level)
        if isinstance(inner, dict):
            pending.extend((child, level + 1) for child in inner.values())
        elif isinstance(inner, list):
            pending.extend((child, level + 1) for child in inner)
    return deepest - 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        for key, value in pairs:
            if made[key] != value:
                raise NotReadable(f"The key {key[:80]!r} is given twice, with two values.")
    return made


def _integer(digits: str) -> int | str:
    # Longer ones cost quadratic time to convert, and no column holds them.
    if len(digits) > 20:
        return digits
    number = int(digits)
    return number if -_INT64 <= number < _INT64 else digits


def _float(digits: str) -> float | str:
    number = float(digits)
    return number if math.isfinite(number) else digits


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=str
)
