"""JSON as robots write it, read so that nothing ambiguous or unstorable gets through. Pure.

A key given twice with two values is refused, a number no column holds stays text, NUL and lone
surrogates become U+FFFD, and nesting is bounded.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

MAX_DEPTH = 32
_INT64 = 2**63
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class NotReadable(ValueError):
    """Why a text is not JSON that can be relied on, as one sentence."""


def loads(text: str) -> Any:
    """The value `text` says; raises NotReadable."""
    try:
        value = _PLAIN_DECODER.decode(text)
        keys, depth = _measured(value)
        if depth > MAX_DEPTH:
            raise NotReadable(f"It is nested deeper than {MAX_DEPTH} levels.")
        if not _surely_unique(text, keys):
            value = _DECODER.decode(text)
    except NotReadable:
        raise
    except RecursionError:
        raise NotReadable(f"It is nested deeper than {MAX_DEPTH} levels.") from None
    except ValueError as error:
        raise NotReadable(f"It is not JSON: {error}.") from None
    # Only these escapes, or a text that was never UTF-8, can bring in what no column holds.
    suspicious = "\\u0000" in text or "\\ud" in text or "\\uD" in text
    return storable(value) if suspicious or not text.isascii() else value


def loads_each(text: str) -> list[Any]:
    """The items of a list, or the one object, that `text` holds; raises NotReadable for no JSON.

    An item that cannot be relied on stands there as its NotReadable, and costs only itself.
    """
    conflicts: list[_Conflicted] = []

    def lenient(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        try:
            return _object(pairs)
        except NotReadable as error:
            conflicts.append(_Conflicted(str(error)))
            return conflicts[-1]

    try:
        value = _decoder(lenient).decode(text)
    except RecursionError:
        raise NotReadable(f"It is nested deeper than {MAX_DEPTH} levels.") from None
    except ValueError as error:
        raise NotReadable(f"It is not JSON: {error}.") from None
    items = value if isinstance(value, list) else [value]
    return [_checked(item, with_conflicts=bool(conflicts)) for item in items]


class _Conflicted(dict[str, Any]):
    """Stands where an object gave a key twice."""

    def __init__(self, why: str) -> None:
        super().__init__()
        self.why = why


def _checked(item: Any, *, with_conflicts: bool) -> Any:
    if _measured(item)[1] > MAX_DEPTH:
        return NotReadable(f"It is nested deeper than {MAX_DEPTH} levels.")
    if with_conflicts:
        for inner in _walk(item):
            if isinstance(inner, _Conflicted):
                return NotReadable(inner.why)
    return storable(item)


def storable(value: Any) -> Any:
    """The same value with every text one that any database can keep."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("�", value)
    if isinstance(value, list):
        return [storable(inner) for inner in value]
    if isinstance(value, dict):
        return {storable(key): storable(inner) for key, inner in value.items()}
    return value


def _surely_unique(text: str, keys: int) -> bool:
    """Whether no object of `text` can have given a key twice: it has as many colons as keys.

    Asked first because it costs a tenth of looking at every object; False is no more than a doubt.
    """
    return (
        text.count('":') == keys
        and '\\"' not in text
        and not any(blank in text for blank in (" :", "\t:", "\n:", "\r:"))
    )


def _measured(value: Any) -> tuple[int, int]:
    """How many keys a value has in all, and how deep it goes."""
    keys, level, current = 0, 0, [value]
    while True:
        inner: list[Any] = []
        nested = False
        for one in current:
            if isinstance(one, dict):
                keys += len(one)
                inner.extend(one.values())
                nested = True
            elif isinstance(one, list):
                inner.extend(one)
                nested = True
        if not nested:
            return keys, level
        level += 1
        if level > MAX_DEPTH:
            return keys, level
        current = inner


def _walk(value: Any) -> Iterator[Any]:
    pending = [value]
    while pending:
        inner = pending.pop()
        yield inner
        if isinstance(inner, (dict, list)):
            pending.extend(inner.values() if isinstance(inner, dict) else inner)


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


def _decoder(make_object: Callable[[list[tuple[str, Any]]], dict[str, Any]]) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=make_object,
        parse_int=_integer,
        parse_float=_float,
        parse_constant=str,
    )


_DECODER = _decoder(_object)
_PLAIN_DECODER = json.JSONDecoder(parse_int=_integer, parse_float=_float, parse_constant=str)
