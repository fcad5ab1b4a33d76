"""Forks contenders, kills and stops them at seeded moments, and forks new ones in their place.

Argument: a file with the configuration (JSON). Says "ready", reads until when it shall go on, and
ends by itself then, and with the process that started it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from canonical_guard import clock
from tests.chaos.contender import KILLED, STOPPED, Authority, Contender, Market
from tests.chaos.record import Record
from tests.chaos.scale import scale_guard, scale_registry


class Nursery:
    def __init__(self, configuration: dict[str, Any], until: float) -> None:
        self._configuration = configuration
        self._name: str = configuration["through"]
        self._ttl: float = configuration["ttl"]
        self._until = until
        self._random = random.Random(configuration["seed"])
        self._record = Record(Path(configuration["record"]))
        self._alive: set[int] = set()
        self._stopped: dict[int, float] = {}
        self._born = 0

    def run(self) -> None:
        """Until the time is over; then nothing of it is left."""
        parent = os.getppid()
        next_fault = self._pause()
        try:
            while clock.now() < self._until and os.getppid() == parent:
                while len(self._alive) < self._configuration["contenders"]:
                    self._fork()
                time.sleep(0.01)
                self._look_after()
                if clock.now() >= next_fault:
                    next_fault = self._pause()
                    self._strike()
        finally:
            self._end()

    def _pause(self) -> float:
        return clock.now() + self._random.expovariate(1 / self._configuration["fault_every"])

    def _fork(self) -> None:
        self._born += 1
        seed = self._random.getrandbits(64)
        pid = os.fork()
        if pid:
            self._alive.add(pid)
            return
        status = 1
        try:
            self._contender(f"{self._name}-{self._born}", seed).run(self._until)
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)

    def _contender(self, name: str, seed: int) -> Contender:
        through = by_services if self._name == "services" else by_http
        configuration = self._configuration
        return Contender(
            name,
            seed,
            Path(configuration["folder"]),
            Record(Path(configuration["record"])),
            [Market(*market) for market in configuration["markets"]],
            self._ttl,
            self._name,
            **through(configuration),
        )

    def _look_after(self) -> None:
        """Bury the dead, and wake who stopped: by us, or by itself."""
        while True:
            with suppress(ChildProcessError):
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
                if pid and os.WIFSTOPPED(status):
                    now = clock.now()
                    self._stopped.setdefault(pid, now + self._random.uniform(0.3, 4) * self._ttl)
                    continue
                if pid:
                    self._alive.discard(pid)
                    self._stopped.pop(pid, None)
                    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
                        raise RuntimeError(f"a contender failed with status {status}")
                    continue
            break
        for pid in [pid for pid, until in self._stopped.items() if clock.now() >= until]:
            del self._stopped[pid]
            os.kill(pid, signal.SIGCONT)

    def _strike(self) -> None:
        victims = sorted(self._alive - set(self._stopped))
        if not victims:
            return
        victim = self._random.choice(victims)
        kills = self._random.random() < 0.5
        at = clock.now()
        self._record.write(
            "fault", fault=KILLED if kills else STOPPED, at=at, until=at, pid=victim, run=None
        )
        os.kill(victim, signal.SIGKILL if kills else signal.SIGSTOP)

    def _end(self) -> None:
        until = clock.now() + 5
        while self._alive and clock.now() < until:
            self._look_after()
            time.sleep(0.02)
        for pid in self._alive:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def by_services(configuration: dict[str, Any]) -> dict[str, Any]:
    """Straight to the services, with connections of one's own and a registry known by heart."""
    from locks import services
    from locks.leases import LockId
    from tests.chaos.services_authority import ServicesAuthority
    from watchdog_project import handover

    resolve_market = cache(handover.resolve_market)

    def operate(identity: dict[str, Any]) -> object:
        lock = LockId(identity["kind"], identity["name"], identity["scope"])
        return services.revoke_lease(
            lock, identity["fencing_token"], reason="chaos", by="an operator"
        )

    return {
        "connect": lambda: ServicesAuthority(resolve_market),
        "operate": operate,
        "reap": services.reap_expired,
    }


def by_http(configuration: dict[str, Any]) -> dict[str, Any]:
    """Through the bad network to the web process."""
    from canonical_guard.client import Authority as HttpAuthority

    operator = HttpAuthority(configuration["url"], configuration["operator_key"])

    def connect() -> Authority:
        return HttpAuthority(configuration["url"], configuration["robot_key"])

    def operate(identity: dict[str, Any]) -> object:
        body = {name: identity[name] for name in ("kind", "name", "scope", "fencing_token")}
        return operator.post("/api/locks/revoke", {**body, "reason": "chaos"})

    return {"connect": connect, "operate": operate, "reap": lambda: None}


def told_until() -> float:
    """Everything is loaded; the storm begins for all at once."""
    print("ready", flush=True)
    return float(sys.stdin.readline())


def main(file: str) -> None:
    configuration = json.loads(Path(file).read_text())
    scale_guard(configuration["ttl"])
    if configuration["through"] == "services":
        import django

        django.setup()
        scale_registry(configuration["ttl"])
    Nursery(configuration, told_until()).run()


if __name__ == "__main__":
    main(sys.argv[1])
