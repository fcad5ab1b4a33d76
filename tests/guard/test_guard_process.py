"""A Python robot as a process: killed, stopped, forked, lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from canonical_guard import (
    CanonicalMarketAlreadyActive,
    Guard,
)
from tests.guard.authority import KEY, TERMS, LockAuthority
from tests.guard.conftest import REPOSITORY, eventually, is_running


def lock_file(root: Path) -> Path:
    return root / "runtime_locks" / "canonical_ES.lock"


ROBOT = """
import sys, time
from canonical_guard import Guard
guard = Guard("MES", project_root=sys.argv[1], on_lost=lambda: print("flatten", flush=True), {})
guard.acquire()
print("trading", flush=True)
{}
"""


def robot(
    authority: LockAuthority, root: Path, options: str = "", then: str = "time.sleep(60)"
) -> subprocess.Popen[str]:
    environment = dict(os.environ, WATCHDOG_URL=authority.url, WATCHDOG_API_KEY=KEY)
    process = subprocess.Popen(
        [sys.executable, "-c", ROBOT.format(options, then), str(root)],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "trading\n"
    return process


def test_a_lost_robot_may_flatten_and_then_ends_itself(
    authority: LockAuthority, root: Path
) -> None:
    process = robot(authority, root)
    authority.leases["ES"]["fencing_token"] += 1
    output, _ = process.communicate(timeout=5)
    assert output == "flatten\n"
    assert process.returncode == 70


def test_a_robot_that_takes_care_itself_is_left_alone(authority: LockAuthority, root: Path) -> None:
    process = robot(authority, root, "end_process_when_lost=False", "time.sleep(2.5); print('me')")
    authority.leases["ES"]["fencing_token"] += 1
    output, _ = process.communicate(timeout=10)
    assert output == "flatten\nme\n"
    assert process.returncode == 0


def test_a_robot_that_released_after_a_loss_lives_on(authority: LockAuthority, root: Path) -> None:
    then = "time.sleep(1); guard.release('crashed'); time.sleep(2); print('log sent')"
    authority.terms.update(stop_after=4.3, kill_after=6.3, ttl=8)
    process = robot(authority, root, "", then)
    authority.leases["ES"]["fencing_token"] += 1
    output, _ = process.communicate(timeout=10)
    assert output == "flatten\nlog sent\n"
    assert process.returncode == 0


def test_a_stopped_robot_is_killed_before_its_lease_ends(
    authority: LockAuthority, root: Path
) -> None:
    process = robot(authority, root)
    os.kill(process.pid, signal.SIGSTOP)
    started = time.monotonic()
    assert process.wait(TERMS["ttl"] + 1) == -signal.SIGKILL
    assert time.monotonic() - started < TERMS["ttl"]
    assert eventually(lambda: authority.holder() is None and not lock_file(root).exists(), 3)
    process.communicate()


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "os._exit(3)", "sys.exit(0)"])
def test_a_robot_that_ends_without_a_release_frees_its_market_at_once(
    authority: LockAuthority, root: Path, end: str
) -> None:
    process = robot(authority, root, then=f"import os; {end}")
    process.communicate(timeout=5)
    assert eventually(lambda: authority.holder() is None and not lock_file(root).exists(), 1)
    assert authority.made("release")[-1]["reason"] == "crashed"


def test_a_robot_without_its_keeper_is_lost(authority: LockAuthority, root: Path) -> None:
    process = robot(authority, root)
    psutil.Process(process.pid).children()[0].kill()
    output, _ = process.communicate(timeout=5)
    assert (output, process.returncode) == ("flatten\n", 70)


def test_a_fork_of_the_robot_may_neither_trade_nor_release(
    authority: LockAuthority, root: Path
) -> None:
    then = (
        "import os\nif os.fork() == 0:\n    try:\n        guard.check()\n"
        "    except Exception as error:\n        print(type(error).__name__, flush=True)\n"
        "    guard.release()\n    os._exit(0)\n"
        "os.wait(); guard.check(); print('parent trades', flush=True); time.sleep(60)"
    )
    process = robot(authority, root, then=then)
    assert process.stdout is not None
    assert process.stdout.readline() == "LeaseLost\n"
    assert process.stdout.readline() == "parent trades\n"
    assert authority.made("release") == []
    process.kill()
    process.communicate()


def test_a_worker_forked_from_a_dead_robot_keeps_the_host_locked(
    authority: LockAuthority, root: Path
) -> None:
    then = (
        "import os, signal\nworker = os.fork()\nif worker == 0:\n    time.sleep(60)\n"
        "print(worker, flush=True)\ntime.sleep(60)"
    )
    process = robot(authority, root, then=then)
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    process.kill()
    process.wait()
    # Long enough for a keeper that forgets the worker to let go.
    time.sleep(1)
    with pytest.raises(CanonicalMarketAlreadyActive):
        Guard("ES", project_root=root, host_only=True).acquire()
    assert is_running(worker)
    os.kill(worker, signal.SIGKILL)
    assert eventually(lambda: not lock_file(root).exists(), 3)
    process.stdout.close()


def test_a_released_guard_leaves_no_process_and_no_thread(
    authority: LockAuthority, root: Path
) -> None:
    others = set(psutil.Process().children())
    with Guard("MES", server=authority.url, api_key=KEY, project_root=root) as held:
        (keeper,) = set(psutil.Process().children()) - others
    assert not held.held
    assert not keeper.is_running()
    assert eventually(
        lambda: not [one for one in threading.enumerate() if one.name.startswith("canonical-guard")]
    )
