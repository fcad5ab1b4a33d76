"""The real web process on a database of its own, for tests that speak HTTP from outside."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60.0

PREPARE = """
import django, json, sys
django.setup()
from django.contrib.auth import get_user_model
from django.core.management import call_command
from identity.registry import seed_registry
from watchdog_project.api_keys import create_api_key
call_command("migrate", interactive=False, verbosity=0)
seed_registry()
get_user_model().objects.create_superuser("operator", password="operator")
print(json.dumps({role: create_api_key(role, role) for role in ("robot", "reader", "operator")}))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Template:
    """A migrated, seeded database with one key of each role, copied for each server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.postgres = os.environ.get("DATABASE_URL")
        self.name = f"template_{uuid.uuid4().hex[:12]}"
        if self.postgres:
            self._sql(f'CREATE DATABASE "{self.name}"')
        done = subprocess.run(
            [sys.executable, "-c", PREPARE],
            cwd=ROOT,
            env=self.environment(folder, self.name),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        self.keys: dict[str, str] = json.loads(done.stdout)

    def environment(self, home: Path, database: str) -> dict[str, str]:
        environment = os.environ | {
            "WATCHDOG_HOME": str(home),
            "DJANGO_SETTINGS_MODULE": "watchdog_project.settings",
        }
        environment.pop("DATABASE_URL", None)
        if self.postgres:
            environment["DATABASE_URL"] = f"{self.postgres.rpartition('/')[0]}/{database}"
        return environment

    def copy(self, home: Path) -> str:
        """A new database, and what is needed in `home`; returns the database's name."""
        name = f"server_{uuid.uuid4().hex[:12]}"
        if self.postgres:
            self._sql(f'CREATE DATABASE "{name}" TEMPLATE "{self.name}"')
        else:
            shutil.copy(self.folder / "watchdog.sqlite3", home / "watchdog.sqlite3")
        return name

    def _sql(self, statement: str) -> None:
        import psycopg

        assert self.postgres is not None
        with psycopg.connect(self.postgres, autocommit=True) as connection:
            connection.execute(statement.encode())


class Server:
    """`granian` as `manage.py up` runs it. `url` has no trailing slash."""

    application = "watchdog_project.wsgi:application"

    def __init__(self, template: Template, home: Path) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        self.environment = template.environment(home, template.copy(home))
        self.keys = template.keys
        self.key_file = home / "robot.key"
        self.key_file.write_text(self.keys["robot"])
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = home / "web.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "granian", "--interface", "wsgi", "--no-ws",
                    "--host", "127.0.0.1", "--port", str(self.port),
                    "--workers", "1", "--blocking-threads", "8",
                    self.application,
                ],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while True:
            with (
                suppress(urllib.error.URLError, OSError),
                urllib.request.urlopen(f"{self.url}/healthz", timeout=2),
            ):
                return
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def stop(self, *, kill: bool = False) -> None:
        """End it, and its worker process with it."""
        if self.process is None:
            return
        if kill:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, 9)
        else:
            self.process.terminate()
        self.process.wait(30)
        self.process = None

    def manage(self, *arguments: str, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run a management command beside it, on the same database."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def request(
        self, method: str, path: str, body: Any = None, *, role: str | None = "robot"
    ) -> tuple[int, Any]:
        """Status and decoded answer; no key is sent where `role` is None."""
        headers = {"Content-Type": "application/json"}
        if role is not None:
            headers["Authorization"] = f"Api-Key {self.keys[role]}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.url}{path}", data=data, headers=headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, _decoded(answer.read())
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, _decoded(refusal.read())


def _decoded(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode(errors="replace")
