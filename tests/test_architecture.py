"""The layout's promises, held by tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

import identity
import locks

ROOT = Path(__file__).resolve().parent.parent


def test_identity_and_locks_are_ours_and_not_another_distribution() -> None:
    assert Path(identity.__file__).parent == ROOT / "identity"
    assert Path(locks.__file__).parent == ROOT / "locks"
    assert Path(identity.__file__).read_text() == ""
    assert Path(locks.__file__).read_text() == ""


def test_the_guard_imports_nothing_but_the_standard_library() -> None:
    script = (
        "import sys, pkgutil, importlib, canonical_guard\n"
        "for module in pkgutil.iter_modules(canonical_guard.__path__):\n"
        "    if module.name != '__main__':\n"
        "        importlib.import_module('canonical_guard.' + module.name)\n"
        "allowed = sys.stdlib_module_names | {'canonical_guard', '__main__'}\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} - allowed))\n"
    )
    # -S: without site-packages, so that an import of anything else fails loudly.
    done = subprocess.run(
        [sys.executable, "-S", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_imports_run_one_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert lint_imports(config_filename="pyproject.toml", no_cache=True) == 0
