"""From a bare Python to this project's own environment: `up`, `test` and `bench` on a fresh clone.

Standard library only, and never met by who has an environment of his own.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
MINIMUM = (3, 11)
DEVELOPMENT = "requirements-dev.txt"
REQUIREMENTS = {"up": "requirements.txt", "test": DEVELOPMENT, "bench": DEVELOPMENT}


def start_over_in_own_environment(argv: Sequence[str], missing: ImportError) -> NoReturn:
    """Run `argv` again inside `.venv`; `up`, `test` and `bench` make it, the others use what is
    there.

    Exits with one sentence where that cannot help.
    """
    if missing.name != "django":
        sys.exit(f"{missing}: is the environment complete? pip install -r requirements.txt")
    if sys.prefix != sys.base_prefix:
        sys.exit(
            f"Django is not installed in {sys.prefix}: pip install -r requirements.txt "
            "(and requirements-dev.txt for the tests)."
        )
    if sys.version_info < MINIMUM:
        sys.exit(f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}.")
    command = argv[1] if len(argv) > 1 else ""
    if command in REQUIREMENTS:
        prepare(ROOT / REQUIREMENTS[command])
    elif not _python().exists():
        sys.exit("Django is not installed here: run `python3 manage.py up` once, it sees to that.")
    _replace_process([str(_python()), *argv])


def prepare(requirements: Path, environment: Path = ENVIRONMENT) -> None:
    """Make the environment where it is missing, and install where requirements changed."""
    wanted = _digest(requirements)
    stamp = environment / f"{requirements.stem}.installed"
    if _python(environment).exists() and stamp.exists() and stamp.read_text() == wanted:
        return
    if not _python(environment).exists():
        print(f"Making {environment} …", flush=True)
        _make(environment)
    print(f"Installing {requirements.name} (once; about a minute) …", flush=True)
    pip = [str(_python(environment)), "-m", "pip", "install", "--quiet", "--only-binary=:all:"]
    if subprocess.run([*pip, "-r", str(requirements)], check=False).returncode:
        sys.exit(f"{requirements.name} could not be installed; what pip says stands above.")
    stamp.write_text(wanted)


def _make(environment: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(environment)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        said = (made.stdout + made.stderr).strip().splitlines()
        sys.exit(
            "A virtual environment could not be made; on Debian and Ubuntu "
            f"`apt install python3-venv` mends that. ({said[-1] if said else 'no message'})"
        )


def _python(environment: Path = ENVIRONMENT) -> Path:
    if sys.platform == "win32":
        return environment / "Scripts" / "python.exe"
    return environment / "bin" / "python"


def _digest(requirements: Path) -> str:
    """Changes when a pin changes, here or in an included file, and with the Python version."""
    content = hashlib.sha256(f"{sys.version_info[:2]}".encode())
    for path in sorted(requirements.parent.glob("requirements*.txt")):
        content.update(path.read_bytes())
    return content.hexdigest()


def _replace_process(command: list[str]) -> NoReturn:
    sys.stdout.flush()
    if sys.platform == "win32":
        sys.exit(subprocess.run(command, check=False).returncode)
    os.execv(command[0], command)  # noqa: S606 the very point
