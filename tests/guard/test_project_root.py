"""One folder per host, whatever the working directory and the shell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from canonical_guard.errors import InvalidConfiguration
from canonical_guard.project_root import project_root
from tests.guard.conftest import REPOSITORY


def test_an_argument_wins_over_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_PROJECT_ROOT", "/from/environment")
    assert project_root() == Path("/from/environment")
    assert project_root(tmp_path) == tmp_path


def test_a_relative_folder_is_taken_from_here_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert project_root("robots/../root") == tmp_path / "root"


@pytest.mark.parametrize("chosen", ["", "a\0b"])
def test_a_folder_that_cannot_be_is_refused(chosen: str) -> None:
    with pytest.raises(InvalidConfiguration):
        project_root(chosen)


def test_an_empty_variable_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    default = project_root()
    monkeypatch.setenv("WATCHDOG_PROJECT_ROOT", "")
    assert project_root() == default


def test_working_directory_home_and_shell_do_not_change_the_default(tmp_path: Path) -> None:
    script = "from canonical_guard.project_root import project_root; print(project_root())"
    surroundings = [
        {},
        {"HOME": str(tmp_path)},
        {"XDG_STATE_HOME": str(tmp_path), "TMPDIR": str(tmp_path), "USER": "somebody"},
    ]
    found = {
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), **more},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for folder in (tmp_path, REPOSITORY)
        for more in surroundings
    }
    assert len(found) == 1
    assert Path(found.pop().strip()).is_absolute()
