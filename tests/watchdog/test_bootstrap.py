"""From a bare Python to an environment of the project's own; real ones, with nothing to install."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
BARE_PYTHON = [str(Path(sys._base_executable).resolve()), "-S"]  # type: ignore[attr-defined]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """As much of a clone as a Python without Django gets to see, with nothing to install."""
    (tmp_path / "watchdog_project").mkdir()
    for name in ("manage.py", "watchdog_project/__init__.py", "watchdog_project/bootstrap.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("requirements.txt", "requirements-dev.txt"):
        (tmp_path / name).write_text("")
    return tmp_path


def manage(clone: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        [*BARE_PYTHON, "manage.py", *arguments],
        cwd=clone,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def only_sentence(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.strip().splitlines()
    return line


def test_other_commands_say_what_to_do_first(clone: Path) -> None:
    assert "run `python3 manage.py up` once" in only_sentence(manage(clone, "sweep"))
    assert not (clone / ".venv").exists()


def test_up_makes_the_environment_once_and_starts_over_inside_it(clone: Path) -> None:
    first = manage(clone, "up")
    assert "Making" in first.stdout
    # Nothing was to be installed, so Django is missing inside too, and that is not tried again.
    assert f"Django is not installed in {clone / '.venv'}" in only_sentence(first)
    again = manage(clone, "up")
    assert again.stdout == ""
    (clone / "requirements.txt").write_text("# a pin changed\n")
    assert "Installing requirements.txt" in manage(clone, "up").stdout


def test_other_commands_use_the_environment_that_is_there(clone: Path) -> None:
    manage(clone, "up")
    assert f"Django is not installed in {clone / '.venv'}" in only_sentence(manage(clone, "sweep"))


def test_an_install_that_failed_is_said_and_tried_again(clone: Path) -> None:
    (clone / "requirements.txt").write_text("no-such-distribution==0\n")
    for _ in range(2):
        done = manage(clone, "up", PIP_NO_INDEX="1", PIP_FIND_LINKS=str(clone))
        assert done.returncode == 1
        assert "requirements.txt could not be installed" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_python_without_the_venv_module_is_told_where_to_get_it(clone: Path) -> None:
    (clone / "venv.py").write_text("raise ModuleNotFoundError(\"No module named 'ensurepip'\")")
    sentence = only_sentence(manage(clone, "up", PYTHONPATH=str(clone)))
    assert "apt install python3-venv" in sentence
    assert "No module named 'ensurepip'" in sentence


def test_anything_else_that_is_missing_is_named(clone: Path) -> None:
    # A broken Django is not a missing one: nothing is installed over it.
    (clone / "django").mkdir()
    (clone / "django" / "__init__.py").write_text("import no_such_module")
    assert "No module named 'no_such_module'" in only_sentence(manage(clone, "up"))
