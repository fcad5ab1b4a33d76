"""Who holds the locks of this host, for people and programs; changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote

from canonical_guard.oslock import is_held
from canonical_guard.project_root import locks_folder
from canonical_guard.record import FoundRecord, lock_name, read_record


def overview(root: Path, market: str | None = None) -> list[dict[str, Any]]:
    """A row per market that is held or has a record, below one project root.

    A row: `market`, `scope`, `state` (`HELD`; `STALE`, its holder died; `LEGACY_ACTIVE` and
    `LEGACY_STALE`, written by software that holds no OS lock), `age_seconds` since the last
    renewal, `record` (the fields as they were found) and `lock_file`. Raises OSError.
    """
    folder = locks_folder(root)
    if not folder.is_dir():
        return []
    names = set()
    for entry in folder.iterdir():
        for start, end in ((".canonical_", ".guard"), ("canonical_", ".lock")):
            if entry.name.startswith(start) and entry.name.endswith(end):
                names.add(entry.name.removeprefix(start).removesuffix(end))
    wanted = None if market is None else lock_name(market)
    rows = [
        _row(folder, name)
        for name in sorted(names)
        if wanted is None or name.partition("@")[0] == wanted
    ]
    return [row for row in rows if row is not None]


def _row(folder: Path, name: str) -> dict[str, Any] | None:
    lock_file = folder / f"canonical_{name}.lock"
    found = read_record(lock_file)
    state = _state(is_held(folder / f".canonical_{name}.guard"), found)
    if state is None:
        return None
    market, _, scope = name.partition("@")
    record = {} if found is None else found.fields
    return {
        "market": unquote(market),
        # A long account's file name is shortened; the record has it whole.
        "scope": record.get("scope") or unquote(scope),
        "state": state,
        "age_seconds": None if found is None else round(found.age, 1),
        "record": record,
        "lock_file": str(lock_file),
    }


def _state(held: bool, found: FoundRecord | None) -> str | None:
    if held:
        return "HELD"
    if found is None:
        return None
    if found.by_protocol:
        return "STALE"
    return "LEGACY_ACTIVE" if found.counts_as_active else "LEGACY_STALE"
