"""Whatever is wrong, `canonical_guard` says so in a sentence and starts nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.guard.authority import KEY, LockAuthority
from tests.guard.conftest import REPOSITORY, Robots


def record(robots: Robots) -> Path:
    return robots.root / "runtime_locks" / "canonical_ES.lock"


def test_a_kill_switch_at_the_start_starts_nothing(
    robots: Robots, authority: LockAuthority, tmp_path: Path
) -> None:
    authority.kill_switch = True
    run = robots.start("touch", str(tmp_path / "started"))
    assert run.wait() == 69
    assert "KILL_SWITCH_ACTIVE" in run.said
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(
    ("surroundings", "says"),
    [
        ({"WATCHDOG_URL": "http://127.0.0.1:1"}, "Connection refused"),
        ({"WATCHDOG_URL": ""}, "No lock authority is configured"),
        ({"WATCHDOG_API_KEY": ""}, "no API key"),
        ({"WATCHDOG_API_KEY": "wrong.key"}, "does not accept the API key"),
    ],
)
def test_without_an_authority_nothing_is_started(
    robots: Robots, tmp_path: Path, surroundings: dict[str, str], says: str
) -> None:
    run = robots.start("touch", str(tmp_path / "started"), environment=surroundings)
    assert run.wait() == 69
    assert says in run.said
    assert "Traceback" not in run.said
    assert not (tmp_path / "started").exists()
    assert not record(robots).exists()


@pytest.mark.parametrize(
    ("command", "status"), [("no-such-robot", 127), ("/etc/passwd", 126), ("/tmp", 126)]
)
def test_a_command_that_cannot_start_frees_the_market(
    robots: Robots, authority: LockAuthority, command: str, status: int
) -> None:
    run = robots.start(command)
    assert run.wait() == status
    assert command in run.said
    assert "Traceback" not in run.said
    assert authority.holder() is None
    assert authority.made("release")[-1]["reason"] == "clean"
    assert not record(robots).exists()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["run"],
        ["run", "MES"],
        ["run", "MES", "--"],
        ["run", "--", "true"],
        ["run", "MES", "--no-such-option", "--", "true"],
        ["run", "MES", "--host-only", "--server", "http://x", "--", "true"],
        ["run", "MES", "--server", "nonsense", "--", "true"],
        ["run", "MES", "--api-key-file", "/nonexistent", "--", "true"],
        ["run", "MES", "--api-key-file", "/dev/null", "--", "true"],
        ["run", "MES", "--host-only", "--account", "", "--", "true"],
        ["run", "QQQQ", "--host-only", "--", "true"],
        ["run", "MES", "--host-only", "--project-root", "", "--", "true"],
        ["status", "--", "true"],
        ["status", "QQQQ"],
        ["nonsense"],
    ],
)
def test_a_usage_error_is_64_and_one_clear_sentence(arguments: list[str], root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "canonical_guard", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "WATCHDOG_API_KEY": KEY, "WATCHDOG_PROJECT_ROOT": str(root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 64
    assert done.stderr.splitlines()[-1].startswith("canonical_guard: ")
    assert "Traceback" not in done.stderr


def test_a_file_in_place_of_the_folder_is_69_and_starts_nothing(
    robots: Robots, tmp_path: Path
) -> None:
    robots.root.write_text("in the way")
    run = robots.start("touch", str(tmp_path / "started"))
    assert run.wait() == 69
    assert str(robots.root) in run.said
    assert "Traceback" not in run.said
    assert not (tmp_path / "started").exists()
