"""The readable record beside the OS lock: written, read and judged."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

PROTOCOL = 2
LEGACY_ACTIVE_SECONDS = 600.0
MAX_RECORD_BYTES = 65536
_MAX_NAME = 120

if sys.platform == "win32":
    _READ_FLAGS = os.O_RDONLY | os.O_BINARY | os.O_NOINHERIT
    _WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_BINARY | os.O_NOINHERIT
else:
    # O_NONBLOCK: opening a named pipe that somebody put there must not wait for its other end.
    _READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    _WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class LockFileRecord:
    """Who holds a market on this host. `scope` is None until the authority has said it."""

    run_id: str
    acquired_at_utc: str
    canonical_instrument: str
    execution_instrument: str
    pid: int
    process_start_time: int | None
    boot_id: str
    host: str
    account: str | None = None
    scope: str | None = None
    fencing_token: int | None = None
    protocol: int = PROTOCOL

    def encode(self) -> bytes:
        return (json.dumps(asdict(self), indent=2) + "\n").encode()


@dataclass(frozen=True, slots=True)
class FoundRecord:
    """What lies at a record's path: its fields where it is readable, its age in seconds."""

    fields: dict[str, Any]
    age: float

    @property
    def by_protocol(self) -> bool:
        """Written by a guard that holds the OS lock while it lives."""
        said = self.fields.get("protocol")
        return isinstance(said, int) and not isinstance(said, bool)

    @property
    def is_undecided(self) -> bool:
        """Its writer holds the OS lock and still waits for the authority to say the scope."""
        return self.by_protocol and self.fields.get("scope") is None

    @property
    def counts_as_active(self) -> bool:
        """Whether to stay away although nobody holds the OS lock.

        Older software holds none; all there is to go by is the age of its file.
        """
        return not self.by_protocol and self.age < LEGACY_ACTIVE_SECONDS

    def active(self) -> dict[str, object]:
        """The holder as CanonicalMarketAlreadyActive tells of it; None for what is unknown."""
        return {
            "run_id": self._text("run_id"),
            "host": self._text("host"),
            "execution_instrument": self._text("execution_instrument"),
            "since": self._text("acquired_at_utc"),
            "fencing_token": self.fields.get("fencing_token"),
        }

    def _text(self, name: str) -> str | None:
        value = self.fields.get(name)
        return value[:200] if isinstance(value, str) and value else None


def lock_name(market: str, scope: str = "") -> str:
    """`ES` or `ES@ACCOUNT`, safe as a part of a file name: distinct inputs give distinct names."""
    return _safe(market) + (f"@{_safe(scope)}" if scope else "")


def _safe(text: str) -> str:
    name = quote(text, safe="", errors="surrogatepass")
    if len(name) <= _MAX_NAME:
        return name
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]
    return f"{name[: _MAX_NAME - 25]}~{digest}"


def read_record(path: Path) -> FoundRecord | None:
    """What lies at `path`, without following a link; None where nothing does.

    Raises OSError only where the folder itself cannot be looked into.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    age = time.time() - found.st_mtime
    return FoundRecord(_read_fields(path) if stat.S_ISREG(found.st_mode) else {}, age)


def _read_fields(path: Path) -> dict[str, Any]:
    try:
        descriptor = os.open(path, _READ_FLAGS)
        with os.fdopen(descriptor, "rb") as file:
            raw = file.read(MAX_RECORD_BYTES + 1)
        fields = json.loads(raw.decode("utf-8-sig")) if len(raw) <= MAX_RECORD_BYTES else None
    except (OSError, ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def write_record(path: Path, record: LockFileRecord) -> None:
    """Put `record` in place in one step; only who holds the OS lock may call this.

    Raises OSError, and then leaves nothing half-written behind.
    """
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, _WRITE_FLAGS, 0o644)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(record.encode())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
