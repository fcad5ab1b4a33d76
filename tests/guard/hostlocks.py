"""A holder's record, and taking the host's lock with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from canonical_guard.hostlock import HostLock
from canonical_guard.record import FoundRecord, LockFileRecord

RECORD = LockFileRecord(
    run_id="run-1",
    acquired_at_utc="2026-01-02T03:04:05.000000+00:00",
    canonical_instrument="ES",
    execution_instrument="MES",
    pid=4711,
    process_start_time=99,
    boot_id="boot",
    host="trader-1",
)
EVERYWHERE = replace(RECORD, scope="", fencing_token=42)


def nothing_stale(found: FoundRecord, path: Path) -> None:
    pytest.fail(f"{path} counted as stale")


def lock_file(root: Path, name: str = "ES") -> Path:
    return root / "runtime_locks" / f"canonical_{name}.lock"


def sidecar(root: Path) -> Path:
    return root / "runtime_locks" / ".canonical_ES.guard"


def taken(root: Path, record: LockFileRecord = RECORD) -> HostLock:
    lock = HostLock(root, "ES")
    lock.take(record, nothing_stale)
    lock.settle(replace(record, scope="", fencing_token=42), nothing_stale)
    return lock
