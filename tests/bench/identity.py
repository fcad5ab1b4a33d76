"""Ingest and sweep, as identity's own measuring programme has them."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.effort import QUICK, Effort
from tests.bench.rounds import Row, against_limit
from tests.server import ROOT

RATE = "lines per CPU-second"
PEERS = {"parse": "json.loads and a dataclass", "executemany": "executemany of the lines"}


def rows(effort: Effort) -> list[Row]:
    """Per second of this process's CPU time; a sweep in seconds."""
    with tempfile.TemporaryDirectory(prefix="watchdog-bench-") as folder:
        file = Path(folder) / "figures.json"
        only = [word for part in ("ingest", "sweep", *PEERS) for word in ("--only", part)]
        databases = ["--database", "sqlite"] if effort == QUICK else []
        subprocess.run(
            [
                sys.executable, "-m", "tests.identity.measure", *only, *databases,
                "--json", str(file), *(["--quick"] if effort == QUICK else []),
            ],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )  # fmt: skip
        measured = json.loads(file.read_text())
    return [row for database in measured for row in _of(database, measured[database])]


def _of(database: str, figures: dict[str, dict[str, float]]) -> list[Row]:
    by_part = {name.split()[0]: told for name, told in figures.items()}
    ours, both = by_part["ingest"][RATE], sum(1 / by_part[peer][RATE] for peer in PEERS)
    found = [
        against_limit(f"ingest from a file, {database}, one core", [ours], 25_000, "/s"),
        Row(
            f"ingest from a file, {database}, one core", "/s", ours, 1 / both,
            " and ".join(PEERS.values()), ours * both, 0.35, 1,
        ),
    ]  # fmt: skip
    for name, told in figures.items():
        if name.startswith("sweep"):
            runs = int(name.split()[1])
            notes = (f"again {told['again s']:.2f} s, at most {told['MB at most']:.0f} MB",)
            # 3 s is the limit for 10,000 runs; for fewer, in proportion.
            found.append(
                against_limit(
                    f"first sweep of {runs:,} runs, ten streams each, {database}",
                    [told["first s"]], 3 * runs / 10_000, "s", *notes,
                )
            )  # fmt: skip
    return found
