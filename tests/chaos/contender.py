"""One executor after another in one process: takes markets, acts, and ends in good and bad ways.

All of it is the robot's own code (host lock, lease, renewals, `check`) without a keeper: what a
keeper adds is tried with real ones in `guarded`. Its ways to end are seeded.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from canonical_guard import clock, host, taking
from canonical_guard.client import Answer
from canonical_guard.errors import (
    CanonicalMarketAlreadyActive,
    GuardError,
    KillSwitchEngaged,
    LeaseLost,
    Unanswered,
)
from canonical_guard.renewals import Renewals
from canonical_guard.taking import HeldMarket, Wanted, take_market
from tests.chaos.record import Record

CRASHED = "robot crashed, its keeper released"
VANISHED = "guard and keeper gone"
CUT_OFF = "cut off from the authority"
KILLED = "SIGKILL of an executor"
STOPPED = "SIGSTOP of an executor"
REVOKED = "revoked by an operator"
STEPPED = "wall clock stepped by an hour"
CLEAN = "clean"
# How a hold ends; anything else that happens comes from outside.
ENDINGS = {CLEAN: 78, CRASHED: 6, VANISHED: 7, CUT_OFF: 3, KILLED: 2, STOPPED: 1, REVOKED: 3}


class Authority(Protocol):
    server: str
    api_key: str | None

    def post(self, path: str, body: dict[str, Any], timeout: float = ...) -> Answer: ...


@dataclass(frozen=True, slots=True)
class Market:
    symbol: str
    account: str | None = None


class Line:
    """The way to the authority, which can be cut."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self.server, self.api_key = authority.server, authority.api_key
        self.is_cut = False

    def post(self, path: str, body: dict[str, Any], *timeout: float) -> Answer:
        if self.is_cut:
            raise Unanswered("the line is cut")
        return self._authority.post(path, body, *timeout)


class Contender:
    """`connect` makes a line to the authority; `operate` is an operator's revocation."""

    def __init__(
        self,
        name: str,
        seed: int,
        folder: Path,
        record: Record,
        markets: list[Market],
        ttl: float,
        through: str,
        connect: Callable[[], Authority],
        operate: Callable[[dict[str, Any]], object],
        reap: Callable[[], object],
    ) -> None:
        self._name = name
        self._random = random.Random(seed)
        self._root = folder / name
        self._record = record
        self._markets = markets
        self._ttl = ttl
        self._through = through
        self._connect = connect
        self._operate = operate
        self._reap = reap
        self._tenures = 0
        self._not_before: dict[Market, float] = {}
        self._line = Line(connect())
        self._wall_step = 0.0

    def run(self, until: float) -> None:
        parent, real_wall = os.getppid(), time.time
        time.time = lambda: real_wall() + self._wall_step
        host.host_name = lambda: f"host-of-{self._name}"
        taking._authority = lambda wanted: self._line  # type: ignore[assignment,return-value]
        while clock.now() < until and os.getppid() == parent:
            if self._random.random() < 0.02:
                self._step_wall_clock()
            if self._random.random() < 0.02:
                with suppress(Exception):
                    self._reap()
            if self._through == "http":
                # A web process that is always behind answers nobody in time.
                time.sleep(0.02 * self._ttl * self._random.random())
            self._line = Line(self._connect())
            held = self._take(self._choose())
            if held is not None:
                self._execute(held)

    def _step_wall_clock(self) -> None:
        self._wall_step = self._random.choice([-3600.0, 0.0, 3600.0])
        self._fault(STEPPED, clock.now(), None)

    def _choose(self) -> Market:
        """Mostly a market that may be free; now and then any, held or not."""
        if self._random.random() < 0.1:
            return self._random.choice(self._markets)
        now = clock.now()
        may_be_free = [
            market for market in self._markets if self._not_before.get(market, 0.0) <= now
        ]
        if may_be_free:
            return self._random.choice(may_be_free)
        time.sleep(0.01 * self._ttl)
        return self._random.choice(self._markets)

    def _take(self, market: Market) -> HeldMarket | None:
        self._tenures += 1
        run = f"{self._name}-{self._tenures}"
        wanted = Wanted(market.symbol, run, self._root, "any", "any", market.account)
        try:
            held = take_market(wanted, lambda event, sentence: None)
        except CanonicalMarketAlreadyActive as refused:
            wait = min(refused.retry_after or 0.0, self._ttl) * self._random.uniform(0.3, 1.1)
            self._not_before[market] = clock.now() + wait
            self._record.write("refused", code=refused.code)
            return None
        except GuardError as refused:
            self._record.write("refused", code=refused.code)
            time.sleep(self._random.uniform(0.0, 0.2) * self._ttl)
            return None
        assert held.lease is not None
        self._record.write(
            "granted",
            **self._which(held),
            run=run,
            pid=os.getpid(),
            at=clock.now(),
            takeover=held.lease.grant.takeover,
            through=self._through,
        )
        return held

    def _which(self, held: HeldMarket) -> dict[str, Any]:
        assert held.lease is not None
        grant = held.lease.grant
        lock = f"{grant.name}@{grant.scope}" if grant.scope else grant.name
        return {"lock": lock, "token": grant.fencing_token, "who": f"{held.run_id}/{os.getpid()}"}

    def _execute(self, held: HeldMarket) -> None:
        assert held.lease is not None
        renewals = Renewals(held)
        renewals.start()
        ending = self._random.choices(list(ENDINGS), list(ENDINGS.values()))[0]
        try:
            if self._act_for(renewals, self._hold_time()):
                self._end(ending, renewals, held.lease.grant.identity())
            else:
                self._ended(held, "lost")
                renewals.end()
            if ending != CLEAN or self._random.random() < 0.1:
                self._verify(held)
        finally:
            renewals.end()
            held.host_lock.release()

    def _hold_time(self) -> float:
        """Mostly a moment, now and then long enough for some renewals."""
        if self._random.random() < 0.03:
            return self._ttl * self._random.uniform(0.4, 2)
        return self._ttl * self._random.uniform(0, 0.01)

    def _act_for(self, renewals: Renewals, seconds: float) -> bool:
        """Send orders until the time is over; whether the market is still held then."""
        until = clock.now() + seconds
        pause = min(0.03 * self._ttl, seconds / 3)
        acted = 0
        while acted < 2 or clock.now() < until:
            if not self._act(renewals):
                return False
            acted += 1
            if self._random.random() < 0.05:
                self._verify(renewals.held)
            time.sleep(pause * self._random.random())
        return True

    def _act(self, renewals: Renewals) -> bool:
        at = clock.now()
        try:
            renewals.check()
        except (LeaseLost, KillSwitchEngaged):
            return False
        self._record.write("act", **self._which(renewals.held), at=at)
        return True

    def _end(self, ending: str, renewals: Renewals, identity: dict[str, Any]) -> None:
        held = renewals.held
        if ending in (CLEAN, CRASHED):
            renewals.end()
            self._ended(held, ending)
            with suppress(Unanswered):
                assert held.lease is not None
                held.lease.release("clean" if ending == CLEAN else "crashed")
        elif ending == VANISHED:
            renewals.end()
            self._ended(held, VANISHED)
        elif ending == CUT_OFF:
            self._ended(held, CUT_OFF)
            self._line.is_cut = True
            self._act_for(renewals, 3 * self._ttl)
        elif ending == REVOKED:
            self._ended(held, REVOKED)
            with suppress(Exception):
                self._operate(identity)
            self._act_for(renewals, self._ttl)
        else:
            self._ended(held, ending)
            os.kill(os.getpid(), signal.SIGKILL if ending == KILLED else signal.SIGSTOP)
            self._act_for(renewals, self._ttl * self._random.random())

    def _ended(self, held: HeldMarket, how: str) -> None:
        self._record.write("ended", **self._which(held), at=clock.now(), how=how)

    def _verify(self, held: HeldMarket) -> None:
        """A sink asks whether the token is still good; no answer is no."""
        assert held.lease is not None
        asked = clock.now()
        body = {
            k: v for k, v in held.lease.grant.identity().items() if k not in ("run_id", "nonce")
        }
        try:
            answer = self._connect().post("/api/locks/verify", body)
        except Unanswered:
            return
        which = self._which(held)
        self._record.write(
            "verified",
            lock=which["lock"],
            token=which["token"],
            asked=asked,
            answered=clock.now(),
            ok=answer.status == 200,
        )

    def _fault(self, fault: str, at: float, run: str | None) -> None:
        self._record.write("fault", fault=fault, at=at, until=at, pid=os.getpid(), run=run)
