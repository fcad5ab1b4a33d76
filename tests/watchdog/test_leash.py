"""A command on the leash never outlives who started it. Real processes."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress

import psutil

LEASH = [sys.executable, "-m", "watchdog_project.leash"]
TELL_PID = "import os, time; print(os.getpid(), flush=True); "


def start(script: str) -> tuple[subprocess.Popen[str], int]:
    leash = subprocess.Popen(
        [*LEASH, sys.executable, "-c", TELL_PID + script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert leash.stdout is not None
    return leash, int(leash.stdout.readline())


def finish(leash: subprocess.Popen[str]) -> int:
    assert leash.stdin is not None
    assert leash.stdout is not None
    leash.stdin.close()
    status = leash.wait(20)
    leash.stdout.close()
    return status


def gone(pid: int, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
    return True


def test_the_commands_own_exit_status_comes_back() -> None:
    leash, _ = start("raise SystemExit(7)")
    assert leash.wait(20) == 7
    finish(leash)


def test_letting_go_asks_the_command_to_stop() -> None:
    leash, child = start("time.sleep(60)")
    began = time.monotonic()
    assert finish(leash) == 128 + 15
    assert gone(child)
    assert time.monotonic() - began < 5


def test_an_owner_killed_with_sigkill_takes_the_command_with_it() -> None:
    owner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys, time\n"
            f"subprocess.Popen({[*LEASH, sys.executable, '-c', TELL_PID + 'time.sleep(60)']!r},"
            " stdin=subprocess.PIPE)\n"
            "time.sleep(60)",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    child = int(owner.stdout.readline())
    owner.kill()
    owner.wait(10)
    assert gone(child)
    owner.stdout.close()


def test_a_command_that_will_not_stop_is_killed() -> None:
    script = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True);"
        "time.sleep(60)"
    )
    leash = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from watchdog_project import leash; leash.GRACE_SECONDS = 0.3; "
            "sys.exit(leash.run(sys.argv[1:]))",
            sys.executable,
            "-c",
            TELL_PID + script,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert leash.stdout is not None
    child = int(leash.stdout.readline())
    assert leash.stdout.readline() == "deaf\n"
    assert finish(leash) == 128 + 9
    assert gone(child)


def test_what_the_command_left_in_its_group_goes_with_it() -> None:
    script = (
        "import subprocess, sys; "
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid,"
        " flush=True)"
    )
    leash, _ = start(script)
    assert leash.stdout is not None
    grandchild = int(leash.stdout.readline())
    assert leash.wait(20) == 0
    assert gone(grandchild)
    finish(leash)
