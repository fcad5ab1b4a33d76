"""What stands between an operator and his robot: start-up times, a restart, and memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from canonical_guard import CanonicalMarketAlreadyActive, Guard, clock
from canonical_guard.errors import LockAuthorityUnavailable
from tests.acceptance.robot import Robot
from tests.bench.effort import Effort
from tests.bench.rounds import Row, against_limit
from tests.server import ROOT, Server, Template


def rows(effort: Effort) -> list[Row]:
    """On the embedded database, as `up` has it; times in ms, each over a bare interpreter's."""
    os.environ.pop("DATABASE_URL", None)
    with tempfile.TemporaryDirectory(prefix="watchdog-bench-") as folder:
        template_home = Path(folder) / "template"
        template_home.mkdir()
        server = Server(Template(template_home), Path(folder) / "web")
        began = time.perf_counter()
        server.start()
        web_start = (time.perf_counter() - began) * 1000
        try:
            found = [
                _guard_start(effort, Path(folder), 120, "host-only", lambda: ["--host-only"]),
                _guard_start(effort, Path(folder), 200, "with server", lambda: _with(server)),
                _restart(effort, Path(folder), server),
            ]
            processes = _memory(server, Path(folder))
        finally:
            server.stop()
        found.append(
            against_limit("web process, start to the first answer", [web_start], 5000, "ms")
        )
        found += _others(effort, server)
        return [*found, processes]


def _with(server: Server) -> list[str]:
    return ["--server", server.url, "--api-key-file", str(server.key_file)]


def _guard_start(
    effort: Effort, folder: Path, limit: float, name: str, authority: Callable[[], list[str]]
) -> Row:
    """From the command to the moment at which the child is executed, less a bare interpreter."""
    over: list[float] = []
    for number in range(effort.repeats):
        root = folder / f"root-{name}-{number}"
        root.mkdir()
        bare = _seconds([sys.executable, "-c", "pass"])
        command = [
            sys.executable, "-m", "canonical_guard", "run", "ES", *authority(),
            "--project-root", str(root), "--", "/bin/date", "+%s.%N",
        ]  # fmt: skip
        began = time.time()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        executed = float(done.stdout.split()[-1])
        over.append((executed - began - bare) * 1000)
    return against_limit(
        f"canonical_guard run, {name}: start to the child's exec", over, limit, "ms"
    )


def _restart(effort: Effort, folder: Path, server: Server) -> Row:
    """From the death of a holder's robot by SIGKILL to the next check() that passes, same host."""
    root = folder / "restarts"
    root.mkdir()
    waited: list[float] = []
    for _ in range(effort.repeats):
        robot = Robot("MES", root, server).trading()
        try:
            victim = int(robot.told["pid"])
            os.kill(victim, signal.SIGKILL)
            died = clock.now()
            waited.append((_held_again(server, root) - died) * 1000)
        finally:
            robot.close()
    return against_limit("restart on the same host after kill -9 of a robot", waited, 250, "ms")


def _held_again(server: Server, root: Path) -> float:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        guard = Guard("MES", server=server.url, api_key=server.keys["robot"], project_root=root)
        try:
            guard.acquire()
        except (CanonicalMarketAlreadyActive, LockAuthorityUnavailable):
            time.sleep(0.005)
            continue
        try:
            guard.check()
            return clock.now()
        finally:
            guard.release()
    raise RuntimeError("the market stayed closed")


def _others(effort: Effort, server: Server) -> list[Row]:
    """A management command and a Celery worker, from the command to ready."""
    check = [
        _seconds([sys.executable, "manage.py", "check"], server.environment) * 1000
        for _ in range(min(effort.repeats, 5))
    ]
    ready = [_worker_ready(server) * 1000 for _ in range(min(effort.repeats, 3))]
    return [
        against_limit("manage.py check", check, 5000, "ms"),
        against_limit("Celery worker, start to ready", ready, 8000, "ms"),
    ]


def _worker_ready(server: Server) -> float:
    command = [
        sys.executable, "-m", "celery", "-A", "watchdog_project", "worker", "--loglevel", "INFO",
        "--pool", "threads", "--concurrency", "4", "--without-gossip", "--without-mingle",
    ]  # fmt: skip
    began = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=ROOT, env=server.environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if " ready." in line:
                return time.perf_counter() - began
        raise RuntimeError("the worker ended before it was ready")
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def _memory(server: Server, folder: Path) -> Row:
    """MB that each process has for itself and its share of what several have."""
    root = folder / "memory"
    root.mkdir()
    assert server.process is not None
    robot = Robot("MES", root, server).trading()
    try:
        web = psutil.Process(server.process.pid)
        workers = web.children(recursive=True)
        found = {
            "web": max([_megabytes(web), *map(_megabytes, workers)]),
            "guard": _megabytes(psutil.Process(robot.process.pid)),
            "keeper": _megabytes(robot.keeper),
        }
    finally:
        robot.close()
    notes = [f"{name}: {size:.0f} MB" for name, size in found.items()]
    return against_limit(
        "memory of guard and keeper together", [found["guard"] + found["keeper"]], 64, "MB", *notes
    )


def _megabytes(process: psutil.Process) -> float:
    return float(process.memory_full_info().pss) / 1e6


def _seconds(command: list[str], environment: dict[str, str] | None = None) -> float:
    began = time.perf_counter()
    subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
    return time.perf_counter() - began
