"""A stage for directed histories: the real services and database, and time that is moved by hand.

To let time pass, everything that the database knows is moved into the past and the holders' clock
into the future, so full durations take no time and every schedule is the same each time.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from canonical_guard import clock, symbols
from canonical_guard.client import Answer
from canonical_guard.errors import GuardError, KillSwitchEngaged, LeaseLost, Unanswered
from canonical_guard.hostlock import HostLock
from canonical_guard.lease import acquire
from canonical_guard.record import LockFileRecord
from canonical_guard.renewals import Renewals
from canonical_guard.taking import HeldMarket
from canonical_guard.terms import LeaseTerms
from locks.leases import LockId
from locks.models import LockRecord, LockState, Tenure
from locks.services import revoke_lease
from tests.chaos.checker import History, TenureFact, Violation, judge
from tests.chaos.services_authority import ServicesAuthority
from tests.locks.cast import ES, pass_time, resolve_market

TERMS = LeaseTerms()


class Line:
    """One robot's line to the authority; it can be cut, and reading an answer can take long."""

    def __init__(self) -> None:
        self._authority = ServicesAuthority(resolve_market)
        self.server, self.api_key = self._authority.server, None
        self.is_cut = False
        self.before_reading: Callable[[], object] | None = None

    def post(self, path: str, body: dict[str, Any], timeout: float = 0.0) -> Answer:
        if self.is_cut:
            raise Unanswered("the line is cut")
        answer = self._authority.post(path, body, timeout)
        if self.before_reading is not None:
            wait, self.before_reading = self.before_reading, None
            wait()
        return answer


class Stage:
    """Where a history is played, and its record."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.lines: list[dict[str, Any]] = []
        self.passed = 0.0
        self.wall_step = 0.0
        real_boot, real_wall = clock.now, time.time
        self._real_boot, self._real_wall = real_boot, real_wall
        monkeypatch.setattr(clock, "now", lambda: real_boot() + self.passed)
        monkeypatch.setattr(time, "time", lambda: real_wall() + self.passed + self.wall_step)

    def now(self) -> float:
        return self._real_boot() + self.passed

    def pass_time(self, seconds: float) -> None:
        pass_time(seconds)
        self.passed += seconds

    def write(self, kind: str, **fields: Any) -> None:
        self.lines.append({"kind": kind, **fields})

    def robot(self, name: str, **other: Any) -> Actor:
        return Actor(self, name, **other)

    def revoke(self, lock: LockId = ES) -> None:
        record = LockRecord.objects.get(name=lock.name, scope=lock.scope)
        revoke_lease(lock, record.fencing_token, reason="as directed", by="operator")

    def is_held(self, lock: LockId = ES) -> bool:
        return LockRecord.objects.get(name=lock.name, scope=lock.scope).state == LockState.HELD

    def tenures(self) -> list[TenureFact]:
        shift = self._real_boot() - self._real_wall() + self.passed
        return [
            TenureFact(
                lock=str(tenure.lock),
                token=tenure.fencing_token,
                run=tenure.run_id,
                acquired=tenure.acquired_at.timestamp() + shift,
                ended=None if tenure.ended_at is None else tenure.ended_at.timestamp() + shift,
                end=tenure.end,
                takeover=tenure.takeover,
                delay=TERMS.lock_delay,
            )
            for tenure in Tenure.objects.select_related("lock")
        ]

    def verdict(self) -> list[Violation]:
        patience = TERMS.ttl + TERMS.lock_delay + 2
        return judge(History.read(self.lines), self.tenures(), patience)


class Actor:
    """A robot with the guard in its process; its renewals are made when the history says so."""

    def __init__(
        self,
        stage: Stage,
        name: str,
        *,
        run: str | None = None,
        nonce: str | None = None,
        host: str | None = None,
        pid: int = 4711,
    ) -> None:
        self._stage = stage
        self.name = name
        self.line = Line()
        self.run = run or f"run-{name}"
        self.nonce = nonce or secrets.token_hex(16)
        self.host = host or f"host-{name}"
        self.pid = pid
        self._renewals: Renewals | None = None

    def acquire(self) -> bool:
        """Ask once; whether the market is held now."""
        request = {
            "execution_instrument": "MES",
            "canonical_instrument": "ES",
            "run_id": self.run,
            "nonce": self.nonce,
            "host": self.host,
            "pid": self.pid,
        }
        try:
            lease = acquire(self.line, request)  # type: ignore[arg-type]
        except GuardError as refused:
            self._stage.write("refused", code=refused.code)
            return False
        held = HeldMarket(self.run, symbols.resolve("MES"), self._host_lock(), lease, False)
        self._renewals = Renewals(held)
        self._stage.write(
            "granted",
            lock=str(ES),
            token=lease.grant.fencing_token,
            who=self.name,
            run=self.run,
            pid=self.pid,
            at=self._stage.now(),
            ttl=lease.grant.terms.ttl,
        )
        return True

    def take_host(self, root: Path) -> bool:
        """Host-only; whether the market is held now."""
        lock = HostLock(root, "ES")
        try:
            self._lock_host(lock)
        except GuardError as refused:
            self._stage.write("refused", code=refused.code)
            return False
        self._renewals = Renewals(HeldMarket(self.run, symbols.resolve("MES"), lock, None, False))
        return True

    def act(self) -> bool:
        """Send an order, if the guard lets it."""
        assert self._renewals is not None, f"{self.name} holds nothing"
        at = self._stage.now()
        try:
            self._renewals.check()
        except (LeaseLost, KillSwitchEngaged):
            return False
        token = self._renewals.held.fencing_token
        self._stage.write("act", lock=str(ES), token=token, who=self.name, at=at)
        return True

    def renew(self) -> None:
        assert self._renewals is not None
        assert self._renewals.held.lease is not None
        self._renewals._renew(self._renewals.held.lease)

    def send_renewal(self, not_before: Callable[[], float] | None = None) -> bool:
        """A renewal as it arrives at the authority, without the holder's own judgement."""
        body = self._identity()
        sent = self._stage.now()
        answer = self.line.post("/api/locks/renew", body)
        if answer.status != 200:
            self._stage.write("refused", code=answer.code)
            return False
        self._stage.write(
            "renewed",
            lock=str(ES),
            token=body["fencing_token"],
            sent=sent if not_before is None else not_before(),
            answered=self._stage.now(),
            ttl=answer.body["ttl"],
        )
        return True

    def write_order(self) -> bool:
        """The sink asks whether the order's token is good."""
        body = self._identity()
        asked = self._stage.now()
        answer = self.line.post("/api/locks/verify", body)
        self._stage.write(
            "verified",
            lock=str(ES),
            token=body["fencing_token"],
            asked=asked,
            answered=self._stage.now(),
            ok=answer.status == 200,
        )
        return answer.status == 200

    def release(self, reason: str = "clean") -> Answer:
        return self.line.post("/api/locks/release", {**self._identity(), "reason": reason})

    def keep_asking(self, seconds: float) -> bool:
        """Once a second; whether it was granted, and the wait goes on record."""
        since = self._stage.now()
        granted = self.acquire()
        while not granted and self._stage.now() < since + seconds:
            self._stage.pass_time(1)
            granted = self.acquire()
        until = self._stage.now()
        self._stage.write("waited", lock=str(ES), since=since, until=until, granted=granted)
        return granted

    def _identity(self) -> dict[str, Any]:
        assert self._renewals is not None
        assert self._renewals.held.lease is not None
        return self._renewals.held.lease.grant.identity()

    def _host_lock(self) -> HostLock:
        lock = HostLock(self._stage.folder / self.name, "ES")
        self._lock_host(lock)
        return lock

    def _lock_host(self, lock: HostLock) -> None:
        record = LockFileRecord(
            run_id=self.run,
            acquired_at_utc="2026-01-01T00:00:00+00:00",
            canonical_instrument="ES",
            execution_instrument="MES",
            pid=self.pid,
            process_start_time=None,
            boot_id="",
            host=self.host,
        )
        lock.take(record, lambda found, path: None)
        lock.settle(LockFileRecord(**{**asdict(record), "scope": ""}), lambda found, path: None)
