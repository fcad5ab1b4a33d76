"""A storm: the real web process and database, a bad network, many executors, and what befalls them.

Everything is started here and ended here; the record is judged when nothing runs any more.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from canonical_guard import clock
from tests.chaos.checker import TenureFact
from tests.chaos.contender import Market
from tests.chaos.record import Record
from tests.chaos.scaled_server import ScaledServer, tenures_of, wall_offset
from tests.postgres import PostgresServer
from tests.server import ROOT, Template, free_port

TTL = 1.5
EVERYWHERE = ["MES", "MNQ", "M2K", "MYM"]
PER_ACCOUNT = ["NG", "GC", "SI"]
ACCOUNTS = [f"account-{number}" for number in range(24)]
# The markets of `guarded` alone, as symbol and lock: many who contend for few.
GUARDED = [("MCL", "CL"), ("HG", "HG")]

WEB_KILLED = "SIGKILL of the web process"
WEB_STOPPED = "SIGSTOP of the web process"
DATABASE_KILLED = "PostgreSQL ended at once and restarted"

PREPARE = f"""
import django
django.setup()
from identity.models import CanonicalInstrument
CanonicalInstrument.objects.filter(symbol__in={PER_ACCOUNT!r}).update(exclusive_per_account=True)
"""


@dataclass(frozen=True, slots=True)
class Force:
    """How many contend, and how often something befalls them; seconds."""

    services: int = 6
    http: int = 4
    guarded: int = 4
    executor_fault_every: float = 0.6
    server_fault_every: float = 6.0
    bad_connections: float = 0.05


class Storm:
    """`run` for a while, then `tenures` and the record tell what happened."""

    def __init__(
        self,
        template: Template,
        database: PostgresServer | None,
        folder: Path,
        seed: int,
        force: Force,
    ) -> None:
        self.folder = folder
        self.record = Record(folder / "record")
        self.server = ScaledServer(template, folder / "web", TTL)
        self._database = database
        self._random = random.Random(seed)
        self._force = force
        self._children: list[subprocess.Popen[bytes]] = []
        self._offset = wall_offset()
        self.server.run(PREPARE)

    def run(self, seconds: float) -> None:
        """The storm lasts for `seconds`; afterwards nothing of it is left running."""
        self.server.start()
        port = free_port()
        try:
            self._start_proxy(port)
            url = f"http://127.0.0.1:{port}"
            forces = [
                self._start_nursery("services", self._force.services, url),
                self._start_nursery("http", self._force.http, url),
                self._start_guarded(url),
            ]
            until = self._begin(forces, seconds)
            self._strike_servers(until)
            for child in forces:
                child.wait(30)
        finally:
            self._end()
        for child in forces:
            assert child.returncode == 0, self._log.read_text()[-4000:]

    def tenures(self) -> list[TenureFact]:
        """As the authority kept them, in the executors' time."""
        assert abs(wall_offset() - self._offset) < 0.001, "the host's wall clock was stepped"
        return tenures_of(self.server, TTL, self._offset)

    @property
    def _log(self) -> Path:
        return self.folder / "log"

    def _start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=ROOT,
                env=self.server.environment,
                stderr=log,
                **options,
            )
        self._children.append(child)
        return child

    def _begin(self, forces: list[subprocess.Popen[bytes]], seconds: float) -> float:
        """When all are ready; returns until when the storm lasts."""
        for child in forces:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n", self._log.read_text()
        until = clock.now() + seconds
        for child in forces:
            assert child.stdin is not None
            child.stdin.write(f"{until}\n".encode())
            child.stdin.close()
        return until

    def _start_proxy(self, port: int) -> None:
        proxy = self._start(
            "tests.chaos.proxy",
            str(port),
            str(self.server.port),
            str(self._random.getrandbits(32)),
            str(TTL),
            str(self._force.bad_connections),
            str(self.record.path),
            stdout=subprocess.PIPE,
        )
        assert proxy.stdout is not None
        assert proxy.stdout.readline() == b"ready\n", self._log.read_text()

    def _configuration(self, through: str, url: str) -> dict[str, Any]:
        return {
            "through": through,
            "ttl": TTL,
            "seed": self._random.getrandbits(64),
            "record": str(self.record.path),
            "folder": str(self.folder),
            "fault_every": self._force.executor_fault_every,
            "url": url,
            "robot_key": self.server.keys["robot"],
            "operator_key": self.server.keys["operator"],
        }

    def _start_nursery(self, through: str, contenders: int, url: str) -> subprocess.Popen[bytes]:
        markets = [Market(symbol) for symbol in EVERYWHERE]
        markets += [Market(symbol, account) for symbol in PER_ACCOUNT for account in ACCOUNTS]
        configuration = self._configuration(through, url) | {
            "contenders": contenders,
            "markets": [[market.symbol, market.account] for market in markets],
        }
        return self._start_force("tests.chaos.nursery", through, configuration)

    def _start_guarded(self, url: str) -> subprocess.Popen[bytes]:
        configuration = self._configuration("guarded", url) | {
            "slots": self._force.guarded,
            "markets": GUARDED,
        }
        return self._start_force("tests.chaos.guarded", "guarded", configuration)

    def _start_force(
        self, module: str, name: str, configuration: dict[str, Any]
    ) -> subprocess.Popen[bytes]:
        file = self.folder / f"{name}.json"
        file.write_text(json.dumps(configuration))
        return self._start(module, str(file), stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def _strike_servers(self, until: float) -> None:
        """Each kind in its turn, so that even a short storm has them all."""
        strikes = [self._kill_web, self._stop_web]
        if self._database is not None:
            strikes.insert(1, self._kill_database)
        turn = 0
        while True:
            pause = self._random.uniform(0.6, 1.4) * self._force.server_fault_every
            # Nothing that is restarted in the last seconds would be met by anybody.
            if clock.now() + pause > until - 3 * TTL:
                break
            time.sleep(pause)
            strikes[turn % len(strikes)]()
            turn += 1
        while clock.now() < until:
            time.sleep(0.1)

    def _kill_web(self) -> None:
        with self._fault(WEB_KILLED):
            self.server.stop(kill=True)
            self.server.start()

    def _stop_web(self) -> None:
        assert self.server.process is not None
        with self._fault(WEB_STOPPED):
            os.killpg(self.server.process.pid, signal.SIGSTOP)
            time.sleep(self._random.uniform(0.3, 3) * TTL)
            os.killpg(self.server.process.pid, signal.SIGCONT)

    def _kill_database(self) -> None:
        assert self._database is not None
        with self._fault(DATABASE_KILLED):
            self._database.stop()
            time.sleep(self._random.uniform(0, 1) * TTL)
            self._database.start("fsync=off")

    @contextmanager
    def _fault(self, fault: str) -> Iterator[None]:
        at = clock.now()
        yield
        # Who lost his lease to it may notice a TTL later.
        self.record.write("fault", fault=fault, at=at, until=clock.now() + TTL, pid=None, run=None)

    def _end(self) -> None:
        for child in self._children:
            if child.poll() is None:
                child.terminate()
                with suppress(subprocess.TimeoutExpired):
                    child.wait(10)
                if child.poll() is None:
                    child.kill()
                    child.wait()
            if child.stdout is not None:
                child.stdout.close()
        self.server.stop()
