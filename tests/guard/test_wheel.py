"""The wheel for robots' hosts: built, installed into a clean environment, and used from there."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def run(*command: str | Path, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("WATCHDOG_", "PYTHON"))}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
        "--wheel-dir", folder, ROOT, cwd=folder,
    )  # fmt: skip
    (built,) = folder.glob("canonical_guard-*-py3-none-any.whl")
    return built


def test_it_holds_the_guard_alone_and_asks_for_nothing(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        names = content.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        assert "Requires-Dist" not in content.read(metadata).decode()
    packages = {name.partition("/")[0] for name in names if ".dist-info" not in name}
    assert packages == {"canonical_guard"}
    assert "canonical_guard/instruments.csv" in names
    assert "canonical_guard/py.typed" in names


def test_it_guards_a_command_from_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    clean = tmp_path / "clean"
    run(sys.executable, "-m", "venv", "--without-pip", clean, cwd=tmp_path)
    scripts = clean / ("Scripts" if sys.platform == "win32" else "bin")
    python = scripts / Path(sys.executable).name
    run(
        sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index",
        wheel, cwd=tmp_path,
    )  # fmt: skip
    where = run(
        python, "-c", "import canonical_guard; print(canonical_guard.__file__)", cwd=tmp_path
    )
    assert Path(where.strip()).is_relative_to(clean)
    said = run(
        scripts / "canonical-guard", "run", "MES 03-27", "--host-only",
        "--project-root", tmp_path, "--",
        python, "-c", "import os; print(os.environ['WATCHDOG_CANONICAL_INSTRUMENT'])",
        cwd=tmp_path,
    )  # fmt: skip
    assert said == "ES\n"
    assert not (tmp_path / "runtime_locks" / "canonical_ES.lock").exists()
