"""No guard that stops, hangs or dies leaves a robot trading."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil

from canonical_guard.oslock import is_held
from tests.guard.authority import TERMS, LockAuthority
from tests.guard.conftest import Robots, eventually, is_running

STUBBORN = ("sh", "-c", 'trap "" TERM; while :; do sleep 0.05; done')


def record(root: Path) -> Path:
    return root / "runtime_locks" / "canonical_ES.lock"


def test_a_killed_guard_takes_its_robot_along_and_the_market_is_free_at_once(
    robots: Robots, authority: LockAuthority, root: Path
) -> None:
    run, robot = robots.trading()
    os.kill(run.pid, signal.SIGKILL)
    killed_at = time.monotonic()
    assert eventually(lambda: not is_running(robot), 2)
    assert eventually(lambda: authority.holder() is None, 2)
    assert eventually(lambda: not record(root).exists(), 2)
    assert time.monotonic() - killed_at < 2
    assert [body["reason"] for body in authority.made("release")] == ["crashed"]


def test_the_robot_of_a_killed_guard_may_flatten_until_kill_time(
    robots: Robots, authority: LockAuthority, tmp_path: Path
) -> None:
    flattened = tmp_path / "flattened"
    run, robot = robots.trading(
        "sh", "-c", f"trap 'sleep 1; touch {flattened}; exit 0' TERM; while :; do sleep 0.05; done"
    )
    os.kill(run.pid, signal.SIGKILL)
    assert eventually(lambda: not is_running(robot), 4)
    assert flattened.exists()


def test_a_robot_that_ignores_the_request_is_killed_at_kill_time(
    robots: Robots, authority: LockAuthority
) -> None:
    run, robot = robots.trading(*STUBBORN)
    os.kill(run.pid, signal.SIGKILL)
    time.sleep(TERMS["stop_after"] - 1.5)
    assert is_running(robot)
    assert eventually(lambda: not is_running(robot), 4)
    assert eventually(lambda: authority.holder() is None, 2)


def test_a_stopped_guard_leaves_no_robot_trading_after_kill_time(
    robots: Robots, authority: LockAuthority, root: Path
) -> None:
    run, robot = robots.trading(*STUBBORN)
    os.kill(run.pid, signal.SIGSTOP)
    stopped_at = time.monotonic()
    assert eventually(lambda: not is_running(robot), TERMS["ttl"])
    assert time.monotonic() - stopped_at < TERMS["ttl"]
    # The guard cannot give the market back, so its keeper does.
    assert eventually(lambda: not record(root).exists(), 10)
    os.kill(run.pid, signal.SIGCONT)
    assert run.wait() == 70


def test_the_market_of_a_stopped_guard_goes_to_the_next_once_its_robot_is_dead(
    robots: Robots, authority: LockAuthority
) -> None:
    run, robot = robots.trading()
    os.kill(run.pid, signal.SIGSTOP)
    assert eventually(lambda: not is_running(robot), TERMS["ttl"])
    assert eventually(lambda: authority.holder() is None, 10)
    successor, _ = robots.trading(market="ES")
    assert authority.made("acquire")[-1]["pid"] == successor.pid
    os.kill(run.pid, signal.SIGCONT)
    assert run.wait() == 70
    # What the late one gives back is not the successor's.
    assert record(robots.root).exists()
    assert authority.holder() is not None
    assert successor.process.poll() is None


def test_a_dead_keeper_ends_the_robot_and_the_guard(
    robots: Robots, authority: LockAuthority, root: Path
) -> None:
    run, robot = robots.trading(*STUBBORN)
    run.keeper().kill()
    assert run.wait() == 70
    assert not is_running(robot)
    assert authority.holder() is None
    assert not record(root).exists()
    assert "keeper is gone" in run.said


def test_a_robot_dies_when_guard_and_keeper_are_killed_together(robots: Robots) -> None:
    run, robot = robots.trading(*STUBBORN)
    keeper = run.keeper()
    os.kill(run.pid, signal.SIGSTOP)
    keeper.kill()
    os.kill(run.pid, signal.SIGKILL)
    assert eventually(lambda: not is_running(robot), 2)


def family(tmp_path: Path) -> tuple[list[str], Path]:
    """A robot that leaves the work to a child in its own group, which only SIGKILL ends."""
    child = tmp_path / "child.pid"
    ignore = 'trap "" TERM HUP INT'
    work = f"sh -c '{ignore}; echo $$ > {child}; while :; do sleep 0.1; done' & {ignore}; wait"
    return ["sh", "-c", work], child


def test_the_robots_whole_group_dies_when_guard_and_keeper_are_killed_together(
    robots: Robots, root: Path, tmp_path: Path
) -> None:
    command, child = family(tmp_path)
    run, robot = robots.trading(*command)
    assert eventually(lambda: child.exists() and child.read_text().strip())
    robots.remember(run)
    keeper = run.keeper()
    os.kill(run.pid, signal.SIGSTOP)
    keeper.kill()
    os.kill(run.pid, signal.SIGKILL)
    assert eventually(lambda: not is_running(int(child.read_text())), 2)
    assert not is_running(robot)
    assert eventually(lambda: not is_held(root / "runtime_locks" / ".canonical_ES.guard"), 2)


def is_stopped(process: psutil.Process) -> bool:
    try:
        return process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_a_stopped_group_dies_as_well_when_guard_and_keeper_are_killed_together(
    robots: Robots, tmp_path: Path
) -> None:
    command, child = family(tmp_path)
    run, robot = robots.trading(*command)
    assert eventually(lambda: child.exists() and child.read_text().strip())
    robots.remember(run)
    keeper = run.keeper()
    os.killpg(robot, signal.SIGSTOP)
    assert eventually(lambda: all(is_stopped(one) for one in keeper.children(recursive=True)))
    os.kill(run.pid, signal.SIGSTOP)
    keeper.kill()
    os.kill(run.pid, signal.SIGKILL)
    assert eventually(lambda: not is_running(int(child.read_text())), 2)


def test_a_stopped_keeper_is_no_way_to_trade_on(robots: Robots, authority: LockAuthority) -> None:
    run, robot = robots.trading(*STUBBORN)
    run.keeper().suspend()
    authority.leases["ES"]["fencing_token"] += 1
    assert run.wait(TERMS["ttl"]) == 70
    assert not is_running(robot)


def test_grandchildren_that_left_the_group_end_with_the_robot(
    robots: Robots, authority: LockAuthority, tmp_path: Path
) -> None:
    stray = tmp_path / "stray.pid"
    run, robot = robots.trading(
        "sh",
        "-c",
        f"setsid sh -c 'trap \"\" TERM; echo $$ > {stray}; while :; do sleep 0.1; done' & "
        "sleep 300",
    )
    assert eventually(lambda: stray.exists() and stray.read_text().strip())
    os.kill(run.pid, signal.SIGKILL)
    assert eventually(lambda: not is_running(int(stray.read_text())), TERMS["ttl"])
    assert not is_running(robot)
    assert eventually(lambda: authority.holder() is None, 2)


def test_what_a_robot_leaves_behind_is_ended_before_the_market_is_free(
    robots: Robots, authority: LockAuthority, tmp_path: Path
) -> None:
    stray = tmp_path / "stray.pid"
    run = robots.start(
        "sh",
        "-c",
        f"setsid sh -c 'trap \"\" TERM; echo $$ > {stray}; while :; do sleep 0.1; done' & "
        f"while ! [ -s {stray} ]; do sleep 0.01; done; exit 5",
    )
    assert run.wait() == 5
    assert not is_running(int(stray.read_text()))
    assert authority.holder() is None


def test_a_crashed_robot_is_replaced_in_under_a_second(
    robots: Robots, authority: LockAuthority, root: Path
) -> None:
    run, robot = robots.trading()
    os.kill(robot, signal.SIGKILL)
    died_at = time.monotonic()
    assert eventually(lambda: authority.holder() is None and not record(root).exists(), 2)
    assert time.monotonic() - died_at < 1
    assert run.wait() == 128 + signal.SIGKILL
    successor = robots.start("sh", "-c", "exit $WATCHDOG_TAKEOVER")
    assert successor.wait() == 1


def test_the_host_stays_locked_until_the_robot_of_a_dead_guard_is_gone(
    robots: Robots, authority: LockAuthority
) -> None:
    run, robot = robots.trading(*STUBBORN)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    contender = robots.start("true", market="ES")
    assert contender.wait() == 75
    assert is_running(robot)
    assert run.said.count("CANONICAL_MARKET_LOCK_ACQUIRED") == 1


def test_the_keeper_has_no_network_while_the_robot_lives(robots: Robots) -> None:
    run, _ = robots.trading()
    assert run.keeper().net_connections() == []
    mapped = [entry.path for entry in run.keeper().memory_maps()]
    assert not any("_socket" in path or "_ssl" in path for path in mapped)


def test_the_robot_inherits_neither_lock_nor_pipes(robots: Robots) -> None:
    _, robot = robots.trading()
    held = {str(link.readlink()) for link in Path(f"/proc/{robot}/fd").iterdir()}
    assert not any(".guard" in target or "pipe:" in target for target in held), held
    assert psutil.Process(robot).parent() is not None
