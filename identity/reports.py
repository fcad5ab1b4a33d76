"""What robots say of themselves: invariants' results and self-tests, strictly read. Pure.

A value that cannot be read is unknown, never a pass, and is named in `problems`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from identity import strictjson
from identity.robotlog import MAX_NAME, NormalisedEvent, bounded, name_in, parse_moment

MAX_ITEMS = 200
MAX_MESSAGE = 500


@dataclass(frozen=True, slots=True)
class Report:
    """A robot's own IDENTITY_INVARIANTS_STATUS; `passed` None is unknown."""

    passed: bool | None
    violations: tuple[str, ...]
    stream_ids: tuple[str, ...]
    checked_at: datetime
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SelfTest:
    """A CANONICALIZATION_SELF_TEST: execution -> canonical pairs and the streams it made."""

    mappings: tuple[tuple[str, str], ...]
    stream_ids: tuple[str, ...]
    problems: tuple[str, ...]


def read_report(event: NormalisedEvent) -> Report | None:
    """The report in an event; None where it does not say when it was made."""
    data = {**event.record, **event.data}
    checked_at = parse_moment(data.get("checked_at_utc")) or event.occurred_at
    if checked_at is None:
        return None
    problems: list[str] = []
    passed = read_tristate(data.get("pass"))
    if passed is None:
        problems.append("`pass` is neither true nor false.")
    violations = _read_names(data.get("violations"), MAX_MESSAGE, split=False)
    stream_ids = _read_names(data.get("stream_ids"), MAX_NAME, split=True)
    for name, names in (("violations", violations), ("stream_ids", stream_ids)):
        if names is None:
            problems.append(f"`{name}` is not a list.")
    if violations:
        passed = False
    elif passed and (problems or not stream_ids):
        # A pass over nothing, or over what nobody can read, is no pass.
        passed = None
    return Report(passed, violations or (), stream_ids or (), checked_at, tuple(problems))


def read_self_test(event: NormalisedEvent) -> SelfTest:
    """The mappings and streams of a self-test, as far as they can be read."""
    problems: list[str] = []
    data = {**event.record, **event.data}
    mappings = _read_mappings(data.get("instrument_mappings"))
    if mappings is None:
        problems.append("`instrument_mappings` is not a mapping of instruments.")
    stream_ids = _read_names(data.get("canonical_stream_ids"), MAX_NAME, split=True)
    if stream_ids is None:
        problems.append("`canonical_stream_ids` is not a list.")
    return SelfTest(mappings or (), stream_ids or (), tuple(problems))


def read_tristate(value: object) -> bool | None:
    """True or False for a boolean or its name; None, unknown, for anything else."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower())
    return None


def _read_names(value: object, length: int, *, split: bool) -> tuple[str, ...] | None:
    if value is None:
        return ()
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return ()
        if not name_in(text):
            return None
        if text.startswith("["):
            parsed = _parsed(text)
            return _read_names(parsed, length, split=split) if isinstance(parsed, list) else None
        parts = text.replace(";", ",").split(",") if split else [text]
        return tuple(bounded(part.strip(), length) for part in parts if part.strip())[:MAX_ITEMS]
    if isinstance(value, list):
        names = [name_in(item, length) for item in value]
        return tuple(names[:MAX_ITEMS]) if all(names) else None
    return None


def _read_mappings(value: object) -> tuple[tuple[str, str], ...] | None:
    if isinstance(value, str):
        text = value.strip()
        if text.startswith(("{", "[")) and name_in(text):
            return _read_mappings(_parsed(text))
        value = [part for part in text.replace(";", ",").split(",") if part.strip()]
    if isinstance(value, Mapping):
        pairs = [(name_in(key), name_in(inner)) for key, inner in value.items()]
    elif isinstance(value, list):
        pairs = [_read_pair(item) for item in value]
    else:
        return None
    if not pairs or not all(execution and canonical for execution, canonical in pairs):
        return None
    return tuple(pairs[:MAX_ITEMS])


def _read_pair(item: Any) -> tuple[str, str]:
    if isinstance(item, Mapping):
        execution = name_in(item.get("execution_instrument")) or name_in(item.get("execution"))
        canonical = name_in(item.get("canonical_instrument")) or name_in(item.get("canonical"))
        return execution, canonical
    if isinstance(item, str):
        for arrow in ("->", "=>", "→", "=", ":"):
            if arrow in item:
                execution, _, canonical = item.partition(arrow)
                return execution.strip(), canonical.strip()
    return "", ""


def _parsed(text: str) -> object:
    try:
        return strictjson.loads(text)
    except strictjson.NotReadable:
        return None
