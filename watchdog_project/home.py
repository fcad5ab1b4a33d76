"""The server's state folder: what lies in it and who may read it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from canonical_guard.oslock import OsLock


class HomeInUse(Exception):
    """Another `up` runs on this state folder; two beats would sweep twice."""


@contextmanager
def hold_home(home: Path) -> Iterator[None]:
    """Keep the state folder to this process for as long as the block runs; raises HomeInUse."""
    lock = OsLock.open(home / ".up.guard")
    try:
        if not lock.take():
            raise HomeInUse(f"`up` is running already on {home}; WATCHDOG_HOME names another.")
        yield
        lock.unlock()
    finally:
        lock.close()


def write_private(path: Path, text: str) -> None:
    """Write `text` to a new file that only its owner can read; FileExistsError if it is there."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    descriptor = os.open(path, flags, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def local_secret(home: Path) -> str:
    """The signing secret of an embedded installation: made once, kept in its state folder."""
    path = home / "secret_key"
    draft = home / f".secret_key.{os.getpid()}"
    if not path.exists():
        draft.unlink(missing_ok=True)
        write_private(draft, secrets.token_urlsafe(64))
        try:
            # Whole or not at all: another process that starts now reads the same secret.
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text("utf-8")
