"""Reads a file in children that kill themselves before their n-th statement, for every n.

Arguments: a folder. After each kill the file is read again to its end, and what came of it is
printed as a line of JSON: the statement, whether the child was killed, events, breaches counted.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import django

django.setup()

from django.db import connection  # noqa: E402 models need a configured Django

from identity import ingest  # noqa: E402
from identity.ingest import ingest_file  # noqa: E402
from identity.models import IdentityEvent, Violation  # noqa: E402
from tests.identity.cast import HERE, NOW, incomplete, write_lines  # noqa: E402

LINES = 5


def kill_before(statement: int) -> Any:
    count = 0

    def wrapper(execute: Any, *call: Any) -> Any:
        nonlocal count
        count += 1
        if count == statement:
            os.kill(os.getpid(), signal.SIGKILL)
        return execute(*call)

    return connection.execute_wrapper(wrapper)


def read(path: Path, statement: int) -> None:
    with kill_before(statement):
        ingest_file(path, HERE, NOW)


def look(run: str) -> dict[str, Any]:
    events = IdentityEvent.objects.filter(run_id=run, origin="robot").count()
    rows = Violation.objects.filter(run_id=run)
    return {"events": events, "breaches": sum(row.count for row in rows)}


def main(folder: Path) -> None:
    # Several commits for one file.
    ingest.LINES_A_BATCH = {"sqlite": 2, "postgresql": 2}
    statement, killed = 0, True
    while killed:
        statement += 1
        run = f"run-{statement}"
        name = f"INTENT_{statement}"
        lines = [incomplete(name, run=run, seq=number) for number in range(LINES)]
        path = write_lines(folder / f"robot_{statement}.jsonl", lines)
        child = os.fork()
        if not child:
            read(path, statement)
            os._exit(0)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        heir = os.fork()
        if not heir:
            ingest_file(path, HERE, NOW)
            print(json.dumps({"statement": statement, "killed": killed, **look(run)}), flush=True)
            os._exit(0)
        assert os.waitpid(heir, 0)[1] == 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
