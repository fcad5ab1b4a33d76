"""The shared record of a history: what each process believed and when. Append only.

One line a write, by any number of processes; times are `canonical_guard.clock`'s, which is the same
for every process of a host. The kinds of line and their fields:

granted   lock, token, who, run, pid, at, takeover, through
act       lock, token, who, at        an order could have been sent: `check()` passed after `at`
ended     lock, token, who, at, how   what the holder says of its own end
verified  lock, token, asked, answered, ok
renewed   lock, token, sent, answered, ttl
waited    lock, since, until, granted
fault     fault, at, until, pid, run  what was done, and to whom where it was one; `counted` where
                                      another line tells of the same stroke
refused   code                        counted, not judged
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Line = dict[str, Any]


class Record:
    """A file that every process of a history appends to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, kind: str, **fields: Any) -> None:
        """One line in one write; it starts a line of its own, whatever a killed writer left."""
        fields["kind"] = kind
        os.write(self._descriptor, f"\n{json.dumps(fields, separators=(',', ':'))}\n".encode())

    def lines(self) -> Iterator[Line]:
        """Every whole line; what a writer was killed in the middle of is left out."""
        with self.path.open("rb") as file:
            for raw in file:
                if len(raw) > 1:
                    try:
                        yield json.loads(raw)
                    except ValueError:
                        continue
