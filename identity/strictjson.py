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


class _Changed(Exception):
    """A number that no column holds: the text cannot be kept as it was written."""


def loads(text: str) -> Any:
    """The value `text` says; raises NotReadable."""
    return read(text)[0]


def read(text: str) -> tuple[Any, str]:
    """The value `text` says, and JSON of it that any database keeps; raises NotReadable.

    That is the text itself wherever it can be: writing it anew costs as much as reading it.
    """
    try:
        try:
            value, end = _AS_WRITTEN.raw_decode(text)
            kept = end == len(text) and _is_storable(text)
        except (_Changed, json.JSONDecodeError):
            kept = False
        if not kept:
            value = _DECODER.decode(text)
    except NotReadable:
        raise
    except RecursionError:
        raise NotReadable(f"It is nested deeper than {MAX_DEPTH} levels.") from None
    except ValueError as error:
        raise NotReadable(f"It is not JSON: {error}.") from None
    # Counted first, because that is much quicker than looking.
    if text.count("{") + text.count("[") > MAX_DEPTH and _is_too_deep(value):
        raise NotReadable(f"It is nested deeper than {MAX_DEPTH} levels.")
    if kept:
        return value, text
    value = storable(value)
    return value, json.dumps(value)


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
    if _is_too_deep(item):
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


def _is_storable(text: str) -> bool:
    """Whether no text in this JSON says NUL or half a surrogate pair, written out or escaped."""
    if "\\u0000" in text or "\\ud" in text or "\\uD" in text:
        return False
    return text.isascii() or _UNSTORABLE.search(text) is None


def _is_too_deep(value: Any) -> bool:
    level, current = 0, [value]
    while current:
        containers = [one for one in current if isinstance(one, (dict, list))]
        level += bool(containers)
        if level > MAX_DEPTH:
            return True
        current = [
            inner
            for one in containers
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
    return False


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


def _integer_as_written(digits: str) -> int:
    number = _integer(digits)
    if isinstance(number, str):
        raise _Changed
    return number


def _float_as_written(digits: str) -> float:
    # A database keeps every digit and power of ten, or refuses the line for want of room.
    if len(digits) > 30 or "e" in digits or "E" in digits:
        raise _Changed
    return float(digits)


def _refused(_: str) -> Any:
    raise _Changed


def _decoder(make_object: Callable[[list[tuple[str, Any]]], dict[str, Any]]) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=make_object,
        parse_int=_integer,
        parse_float=_float,
        parse_constant=str,
    )


_DECODER = _decoder(_object)
_AS_WRITTEN = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer_as_written,
    parse_float=_float_as_written,
    parse_constant=_refused,
)
