"""`canonical_guard run`: what a shell, a supervisor and a robot see of it."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.guard.authority import KEY, TERMS, LockAuthority
from tests.guard.conftest import REPOSITORY, Robots, eventually, is_running


def record(robots: Robots) -> Path:
    return robots.root / "runtime_locks" / "canonical_ES.lock"


def host_only(root: Path) -> list[str]:
    guard = [sys.executable, "-m", "canonical_guard", "run", "MES"]
    return [*guard, "--host-only", "--project-root", str(root), "--"]


@pytest.mark.parametrize("status", [0, 1, 42, 75, 255])
def test_the_exit_status_is_the_commands_own(robots: Robots, status: int) -> None:
    assert robots.start("sh", "-c", f"exit {status}").wait() == status
    assert not record(robots).exists()


def test_a_command_that_dies_of_a_signal_gives_128_and_the_signal(robots: Robots) -> None:
    assert robots.start("sh", "-c", "kill -SEGV $$").wait() == 128 + signal.SIGSEGV


def test_the_robot_is_told_run_token_market_and_takeover(
    robots: Robots, authority: LockAuthority, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    run = robots.start("sh", "-c", f"env > {told}", environment={"WATCHDOG_TAKEOVER": "stale"})
    assert run.wait() == 0
    lines = dict(line.split("=", 1) for line in told.read_text().splitlines() if "=" in line)
    assert lines["WATCHDOG_RUN_ID"] == authority.made("acquire")[0]["run_id"]
    assert lines["WATCHDOG_FENCING_TOKEN"] == "1"
    assert lines["WATCHDOG_CANONICAL_INSTRUMENT"] == "ES"
    assert lines["WATCHDOG_TAKEOVER"] == "0"


def test_a_key_from_a_file_does_not_reach_the_robot(
    robots: Robots, authority: LockAuthority, tmp_path: Path
) -> None:
    file = tmp_path / "robot.key"
    file.write_text(f"  {KEY}\n")
    keys = tmp_path / "seen"
    script = f"env > {keys}; cat /proc/$PPID/environ /proc/$PPID/cmdline >> {keys}"
    run = robots.start(
        "sh",
        "-c",
        script,
        options=("--api-key-file", str(file)),
        environment={"WATCHDOG_API_KEY": ""},
    )
    assert run.wait() == 0, run.said
    assert KEY not in keys.read_text()
    assert authority.made("acquire")


def test_standard_streams_and_arguments_pass_through(root: Path) -> None:
    done = subprocess.run(
        [*host_only(root), "sh", "-c", 'cat; echo "$1" >&2', "sh", "--live -- \udcff"],
        cwd=REPOSITORY,
        input=b"orders\n\xff",
        capture_output=True,
    )
    assert done.stdout == b"orders\n\xff"
    assert b"--live -- \xff\n" in done.stderr
    assert done.returncode == 0


def test_the_robot_reads_the_terminal_that_the_guard_was_started_on(root: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*host_only(root), "sh", "-c", "read line; echo got $line; test -t 0 && exit 7"],
        cwd=REPOSITORY,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(theirs)
    os.write(ours, b"hello\n")
    output, _ = process.communicate(timeout=10)
    os.close(ours)
    assert output == b"got hello\n"
    assert process.returncode == 7


def test_a_second_instance_is_refused_and_starts_nothing(robots: Robots, tmp_path: Path) -> None:
    first, _ = robots.trading()
    before = record(robots).read_bytes()
    run_id = json.loads(before)["run_id"]
    second = robots.start("touch", str(tmp_path / "started"), market="ES")
    assert second.wait() == 75
    sentences = [line for line in second.said.splitlines() if "ALREADY_ACTIVE" in line]
    assert len(sentences) == 1
    assert f"run {run_id} on host" in sentences[0]
    assert re.search(r"\(MES, since \d{4}-\d\d-\d\dT[0-9:.]+\+00:00\)", sentences[0])
    assert not (tmp_path / "started").exists()
    assert record(robots).read_bytes() == before
    assert first.process.poll() is None


def test_of_many_started_at_once_exactly_one_trades(robots: Robots, tmp_path: Path) -> None:
    roots = [robots.root, tmp_path / "other"]
    runs = [
        robots.start("sh", "-c", "sleep 60", market=("MES", "ES")[turn % 2], root=roots[turn % 2])
        for turn in range(6)
    ]
    assert eventually(lambda: [run.process.poll() for run in runs].count(75) == 5, 20)
    winner = next(run for run in runs if run.process.poll() is None)
    assert "LOCK_ACQUIRED" in winner.said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_wrapper_stops_the_robot_and_frees_the_market(
    robots: Robots, authority: LockAuthority, number: signal.Signals
) -> None:
    run, robot = robots.trading()
    run.process.send_signal(number)
    assert run.wait() == 128 + number
    assert not is_running(robot)
    assert not record(robots).exists()
    assert authority.holder() is None
    assert authority.made("release")[-1]["reason"] == "clean"


def test_a_robot_may_take_its_time_to_stop_while_its_market_stays_held(
    robots: Robots, authority: LockAuthority
) -> None:
    script = "trap 'sleep 6; exit 3' TERM; while :; do sleep 0.05; done"
    run, _ = robots.trading("sh", "-c", script)
    run.process.terminate()
    time.sleep(TERMS["ttl"])
    assert authority.holder() is not None
    assert run.wait() == 3
    assert authority.made("release")[-1]["reason"] == "crashed"


def test_other_signals_reach_the_robot(robots: Robots, tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    run, _ = robots.trading("sh", "-c", f"trap 'touch {heard}' USR1; while :; do sleep 0.05; done")
    time.sleep(0.2)
    run.process.send_signal(signal.SIGUSR1)
    assert eventually(heard.exists)
    assert run.process.poll() is None


def test_what_is_ignored_on_purpose_stays_ignored(robots: Robots) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run, robot = robots.trading()
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    run.process.send_signal(signal.SIGHUP)
    os.kill(robot, signal.SIGHUP)
    time.sleep(0.3)
    assert is_running(robot)


def test_a_lost_lease_ends_the_robot_and_then_the_guard(
    robots: Robots, authority: LockAuthority
) -> None:
    run, robot = robots.trading()
    authority.leases["ES"]["fencing_token"] += 1
    assert run.wait() == 70
    assert not is_running(robot)
    assert "CANONICAL_MARKET_LOCK_LOST" in run.said
    assert not record(robots).exists()


def test_an_authority_that_falls_silent_ends_the_robot_at_stop_time_and_not_before(
    robots: Robots, authority: LockAuthority
) -> None:
    run, robot = robots.trading()
    assert eventually(lambda: authority.made("renew"))
    authority.interfere = lambda path, body: (503, {})
    silent_since = time.monotonic()
    time.sleep(TERMS["stop_after"] - 0.8)
    assert is_running(robot)
    assert eventually(lambda: not is_running(robot), 2)
    assert time.monotonic() - silent_since < TERMS["kill_after"] + 0.3
    assert run.wait() == 70


def test_an_authority_that_comes_back_in_time_costs_nothing(
    robots: Robots, authority: LockAuthority
) -> None:
    run, robot = robots.trading()
    authority.interfere = lambda path, body: (503, {})
    time.sleep(2)
    authority.interfere = lambda path, body: None
    time.sleep(TERMS["stop_after"])
    assert is_running(robot)
    assert run.process.poll() is None


def test_a_removed_lock_folder_ends_the_robot(robots: Robots) -> None:
    run, robot = robots.trading()
    (robots.root / "runtime_locks").rename(robots.root / "gone")
    assert run.wait() == 70
    assert not is_running(robot)


def test_a_kill_switch_leaves_the_robot_to_flatten(
    robots: Robots, authority: LockAuthority
) -> None:
    run, robot = robots.trading()
    authority.kill_switch = True
    assert eventually(lambda: "KILL_SWITCH_ACTIVE" in run.said)
    time.sleep(0.5)
    assert is_running(robot)


def test_a_kill_switch_stops_the_robot_where_that_was_asked_for(
    robots: Robots, authority: LockAuthority
) -> None:
    run, robot = robots.trading(options=("--stop-on-kill-switch",))
    authority.kill_switch = True
    assert run.wait() == 128 + signal.SIGTERM
    assert not is_running(robot)
    assert authority.holder() is None


def test_a_dead_holders_record_is_noted_and_the_robot_told_to_reconcile(
    host_only_robots: Robots,
) -> None:
    folder = host_only_robots.root / "runtime_locks"
    folder.mkdir(parents=True)
    (folder / "canonical_ES.lock").write_text('{"run_id": "dead-run", "protocol": 2}')
    run = host_only_robots.start("sh", "-c", "exit $WATCHDOG_TAKEOVER")
    assert run.wait() == 1
    assert "CANONICAL_MARKET_LOCK_STALE" in run.said
    assert "dead-run" in run.said


def test_status_shows_who_holds_what(host_only_robots: Robots) -> None:
    run, _ = host_only_robots.trading()
    root = str(host_only_robots.root)
    base = [sys.executable, "-m", "canonical_guard", "status", "--project-root", root]
    options = {"cwd": REPOSITORY, "capture_output": True, "text": True, "check": True}
    rows = json.loads(subprocess.run([*base, "--json", "MES"], **options).stdout)["locks"]  # type: ignore[call-overload]
    assert [(row["market"], row["state"]) for row in rows] == [("ES", "HELD")]
    assert rows[0]["record"]["pid"] == run.pid
    assert "ES: HELD, by run" in subprocess.run(base, **options).stdout  # type: ignore[call-overload]
    assert json.loads(subprocess.run([*base, "--json", "NQ"], **options).stdout)["locks"] == []  # type: ignore[call-overload]
    run.process.kill()
    run.wait()


def test_the_start_is_quick(host_only_robots: Robots) -> None:
    host_only_robots.start("true").wait()
    started = time.monotonic()
    assert host_only_robots.start("true").wait() == 0
    assert time.monotonic() - started < 3


def test_a_crash_is_told_to_the_next_robot_even_without_a_server(host_only_robots: Robots) -> None:
    told = ("sh", "-c", "exit $WATCHDOG_TAKEOVER")
    assert host_only_robots.start("sh", "-c", "kill -9 $$").wait() == 137
    assert host_only_robots.start("no-such-robot").wait() == 127
    assert host_only_robots.start(*told).wait() == 1
    assert host_only_robots.start("true").wait() == 0
    assert host_only_robots.start(*told).wait() == 0


def test_a_robot_that_never_ran_leaves_the_reconciling_to_the_next(
    robots: Robots, authority: LockAuthority
) -> None:
    assert robots.start("sh", "-c", "exit 1").wait() == 1
    assert robots.start("no-such-robot").wait() == 127
    assert robots.start("sh", "-c", "exit $WATCHDOG_TAKEOVER").wait() == 1
    assert authority.made("release")[-2]["reason"] == "crashed"
