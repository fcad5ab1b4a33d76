"""A kill switch without a server: doubt about the file is no permission to trade."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from canonical_guard import Guard, InvalidConfiguration, KillSwitchEngaged
from canonical_guard.switch_file import KillSwitchFile
from tests.guard.conftest import MakeGuard, Robots, eventually, is_running


@pytest.fixture
def switch(tmp_path: Path) -> Path:
    path = tmp_path / "kill_switch"
    path.write_text("released\n")
    return path


@pytest.fixture
def host_only(guard: MakeGuard, switch: Path) -> Guard:
    return guard(server=None, api_key=None, host_only=True, kill_switch_file=switch)


@pytest.mark.parametrize("said", [b"released", b"released\n", b"  Released \r\n"])
def test_only_the_word_itself_releases(switch: Path, said: bytes) -> None:
    switch.write_bytes(said)
    assert KillSwitchFile(switch).engaged_because() is None


@pytest.mark.parametrize(
    "said", [b"", b"engaged", b"not released", b"released?", b"\xff\xfe\x00", b"released" * 1000]
)
def test_anything_else_is_engaged(switch: Path, said: bytes) -> None:
    switch.write_bytes(said)
    assert str(switch) in (KillSwitchFile(switch).engaged_because() or "")


def test_what_is_no_readable_file_is_engaged_and_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    for name in ("missing", "pipe", "folder", "loop", "n" * 300, "missing/below"):
        assert "cannot be read" in (KillSwitchFile(tmp_path / name).engaged_because() or "")


def test_an_engaged_switch_refuses_the_start_and_leaves_nothing_locked(
    host_only: Guard, switch: Path
) -> None:
    switch.write_text("engaged")
    with pytest.raises(KillSwitchEngaged, match="Write 'released' into it"):
        host_only.acquire()
    switch.write_text("released")
    with host_only as held:
        held.check()
        assert not held.takeover


def test_check_reads_the_file_itself_and_the_market_is_kept(host_only: Guard, switch: Path) -> None:
    with host_only as held:
        held.check()
        switch.unlink()
        with pytest.raises(KillSwitchEngaged):
            held.check()
        assert held.held
        switch.write_text("released")
        held.check()


def test_a_relative_name_means_where_the_guard_was_started(
    guard: MakeGuard, switch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(switch.parent)
    with guard(server=None, api_key=None, host_only=True, kill_switch_file=switch.name) as held:
        monkeypatch.chdir("/")
        held.check()


def test_with_a_server_there_is_one_kill_switch_and_it_is_the_servers(
    guard: MakeGuard, switch: Path
) -> None:
    with pytest.raises(InvalidConfiguration, match="host-only"):
        guard(kill_switch_file=switch).acquire()


def test_a_wrapped_robot_is_told_and_goes_on(host_only_robots: Robots, switch: Path) -> None:
    run, robot = host_only_robots.trading(options=("--kill-switch-file", str(switch)))
    switch.unlink()
    assert eventually(lambda: "KILL_SWITCH_ACTIVE" in run.said, 3)
    switch.write_text("released")
    assert eventually(lambda: "KILL_SWITCH_RELEASED" in run.said, 3)
    assert is_running(robot)


def test_a_wrapped_robot_is_stopped_where_that_was_asked_for(
    host_only_robots: Robots, switch: Path
) -> None:
    options = ("--kill-switch-file", str(switch), "--stop-on-kill-switch")
    run, robot = host_only_robots.trading(options=options)
    began = time.monotonic()
    switch.write_text("engaged")
    assert run.wait() == 128 + signal.SIGTERM
    assert time.monotonic() - began < 5
    assert not is_running(robot)


def test_a_wrapped_robot_does_not_start_under_an_engaged_switch(
    host_only_robots: Robots, tmp_path: Path
) -> None:
    options = ("--kill-switch-file", str(tmp_path / "never written"))
    run = host_only_robots.start("touch", str(tmp_path / "started"), options=options)
    assert run.wait() == 69
    assert "KILL_SWITCH_ACTIVE" in run.said
    assert not (tmp_path / "started").exists()
