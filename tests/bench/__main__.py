"""`python -m tests.bench`: what `manage.py bench` runs; each part in a process of its own."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import importlib.util
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.effort import QUICK, THOROUGH
from tests.bench.rounds import Row
from tests.server import ROOT

# In the order in which they run: module and function.
PARTS = {
    "leases-postgres": ("tests.bench.leases", "on_postgres"),
    "leases-sqlite": ("tests.bench.leases", "on_sqlite"),
    "web": ("tests.bench.web", "rows"),
    "starts": ("tests.bench.starts", "rows"),
    "growth": ("tests.bench.growth", "rows"),
    "identity": ("tests.bench.identity", "rows"),
}
# What a minute is enough for.
QUICK_PARTS = ("leases-postgres", "leases-sqlite", "web")


def main() -> int:
    options = _parsed()
    if options.part:
        return _run_here(options.part, quick=options.quick)
    wanted = options.names or (QUICK_PARTS if options.quick else PARTS)
    found: list[Row] = []
    began, failed = time.monotonic(), False
    for name in wanted:
        rows = _run_apart(name, quick=options.quick)
        failed |= rows is None
        for row in rows or []:
            print(row.line(), flush=True)
            for note in row.notes:
                print(f"{'':12}{note}", flush=True)
            found.append(row)
    met = sum(row.met for row in found)
    for line in _absent():
        print(line)
    print(f"{met} of {len(found)} targets met; {time.monotonic() - began:.0f} s in all.")
    if options.json:
        options.json.write_text(json.dumps(_told(found), indent=2) + "\n")
    return 1 if failed else 0


def _absent() -> list[str]:
    """What could not be compared with, and how to have it."""
    lines = []
    if shutil.which("redis-server") is None:
        lines.append("redis-server is not here (Debian: redis-server), so it was left out.")
    if shutil.which("etcd") is None or importlib.util.find_spec("etcd3gw") is None:
        lines.append(
            "etcd is not here (Debian: etcd-server; pip install etcd3gw), so it was left out."
        )
    return [*lines, "Healthchecks is not installed from a registry, so it was left out."]


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="manage.py bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PARTS)}")
    parser.add_argument(
        "--quick", action="store_true", help=f"in under a minute: {', '.join(QUICK_PARTS)}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = set(options.names) - set(PARTS)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; there is {', '.join(PARTS)}")
    return options


def _run_here(name: str, *, quick: bool) -> int:
    module, function = PARTS[name]
    rows = getattr(importlib.import_module(module), function)(QUICK if quick else THOROUGH)
    json.dump([dataclasses.asdict(row) for row in rows], sys.stdout)
    return 0


def _run_apart(name: str, *, quick: bool) -> list[Row] | None:
    command = [sys.executable, "-m", "tests.bench", "--part", name]
    done = subprocess.run(
        command + (["--quick"] if quick else []),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.stderr.strip() and not done.returncode:
        print(f"{name}: {done.stderr.strip()}")
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        print(f"{name}: could not be measured: {last[0]}", flush=True)
        return None
    return [Row(**{**row, "notes": tuple(row["notes"])}) for row in json.loads(done.stdout or "[]")]


def _told(rows: list[Row]) -> dict[str, dict[str, object]]:
    return {
        f"{row.name} / {row.peer_name}": {
            "ours": row.ours,
            "peer": row.peer,
            "ratio": row.ratio,
            "target": row.target,
            "unit": row.unit,
            "rounds": row.rounds,
        }
        for row in rows
    }


if __name__ == "__main__":
    sys.exit(main())
