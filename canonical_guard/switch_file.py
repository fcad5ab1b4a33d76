"""A kill switch for hosts without a server: a file that an operator, or his script, writes."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

RELEASED = "released"
_LONGEST = 64


@dataclass(frozen=True, slots=True)
class KillSwitchFile:
    """Released only while the file says `released`; missing, unreadable or anything else is
    engaged."""

    path: Path

    def engaged_because(self) -> str | None:
        """A sentence for people while no orders may be sent, else None; never raises."""
        try:
            said = _first_bytes(self.path)
        except OSError as exc:
            why = f"cannot be read ({exc.strerror or exc})"
        else:
            if said.strip().lower() == RELEASED.encode():
                return None
            why = f"says {said.decode('ascii', 'replace').strip()!r}"
        return (
            f"The kill switch file {self.path} {why}, so it counts as engaged: no orders. "
            f"Write {RELEASED!r} into it to release it."
        )


def _first_bytes(path: Path) -> bytes:
    # A pipe must not hold up whoever asks right before an order.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("it is no regular file")
        return os.read(descriptor, _LONGEST)
    finally:
        os.close(descriptor)
