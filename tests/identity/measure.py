"""How fast identity is, beside peers that do a part of the same, in one run on one machine.

    python -m tests.identity.measure [--quick] [--only ingest] [--database sqlite] [--json FILE]

Every figure is taken in a process of its own; rates are per second of that process's CPU time, on
PostgreSQL without the server's own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# What a part is asked for, and how much of it: the whole, and with --quick.
PLAN: list[tuple[str, list[int], list[int]]] = [
    ("parse", [20_000], [4_000]),
    ("executemany", [20_000], [4_000]),
    ("copy", [20_000], [4_000]),
    ("bulk_create", [20_000], [4_000]),
    ("ingest", [20_000], [4_000]),
    ("memory", [10, 100, 1_000], [2, 10]),
    ("post", [20], [3]),
    ("sweep", [100, 1_000, 10_000], [100, 1_000]),
    ("prune", [200_000], [20_000]),
    ("latency", [10], [3]),
]
# Which database a peer is for, where not for both.
PEER_ON = {"executemany": "sqlite", "copy": "postgres"}


def main() -> None:
    options = _options()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="watchdog-measure-") as folder:
        for database in options.database or ("sqlite", "postgres"):
            found[database] = _measure_on(database, Path(folder), options)
    _compare(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", action="append", choices=[name for name, _, _ in PLAN])
    parser.add_argument("--database", action="append", choices=["sqlite", "postgres"])
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _measure_on(database: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    print(f"{database}", flush=True)
    server, url = None, ""
    if database == "postgres":
        from tests.postgres import PostgresServer

        server = PostgresServer()
        server.start()
        url = server.url
    try:
        found: dict[str, Any] = {}
        for name, whole, quick in PLAN:
            if options.only and name not in options.only:
                continue
            if PEER_ON.get(name, database) != database:
                continue
            for amount in quick if options.quick else whole:
                home = folder / f"{database}-{name}-{amount}"
                home.mkdir()
                found[f"{name} {amount}"] = told = _in_a_child(name, amount, home, url)
                shown = ", ".join(f"{key} {value:,.4g}" for key, value in told.items())
                print(f"  {name} {amount:,}: {shown}", flush=True)
        return found
    finally:
        if server is not None:
            server.remove()


def _in_a_child(name: str, amount: int, home: Path, url: str) -> dict[str, float]:
    environment = os.environ | {
        "WATCHDOG_HOME": str(home),
        "WATCHDOG_LOG_LEVEL": "ERROR",
        "DJANGO_SETTINGS_MODULE": "watchdog_project.settings",
    }
    environment.pop("DATABASE_URL", None)
    if url:
        environment["DATABASE_URL"] = url
    done = subprocess.run(
        [sys.executable, "-m", "tests.identity.measured", name, str(amount), str(home)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=900,
    )
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def _compare(found: dict[str, Any]) -> None:
    for database, figures in found.items():
        for unit in ("lines per CPU-second", "lines per second"):
            rates = {name.split()[0]: told[unit] for name, told in figures.items() if unit in told}
            ours = rates.get("ingest")
            for peer in ("parse", "executemany", "copy", "bulk_create"):
                if ours and peer in rates:
                    print(f"{database}, {unit}: ours is {ours / rates[peer]:.2f} times {peer}")


if __name__ == "__main__":
    main()
