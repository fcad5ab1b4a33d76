"""The server's state folder: what lies in it and who may read it."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


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
