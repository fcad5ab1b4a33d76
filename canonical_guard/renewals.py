"""Keeping a market that is held: renewing in a thread, and judging at any moment.

Whoever asks with `check` has the clock read for him: a thread alone loses to a stopped process.
Not guaranteed: a process that is stopped between `check()` and its order.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from canonical_guard import clock
from canonical_guard.errors import (
    CanonicalMarketAlreadyActive,
    KillSwitchEngaged,
    LeaseLost,
    Unanswered,
)
from canonical_guard.taking import HeldMarket

if TYPE_CHECKING:
    from canonical_guard.lease import Lease

INTACT_EVERY = 5.0
SWITCH_FILE_EVERY = 0.5


def _nobody(*_: object) -> None:
    """A listener that does not care."""


class Renewals:
    """The hold's life from `start` to `end`.

    Listeners are called from the renewing thread: `on_renewed(sent_at)`, `on_lost(sentence)` once,
    `on_kill_switch(engaged)` at every change. Set them before `start`.
    """

    def __init__(self, held: HeldMarket) -> None:
        self.held = held
        self.lost: str | None = None
        self._engaged_because: str | None = None
        self.on_renewed: Callable[[float], object] = _nobody
        self.on_lost: Callable[[str], object] = _nobody
        self.on_kill_switch: Callable[[bool], object] = _nobody
        self.renewed_at = math.inf if held.lease is None else held.lease.grant.asked_at
        self._look_every = INTACT_EVERY if held.kill_switch is None else SWITCH_FILE_EVERY
        self._owner = os.getpid()
        self._losing = threading.Lock()
        self._wake = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="canonical-guard-renewals", daemon=True
        )

    @property
    def stop_at(self) -> float:
        """When to stop trading, by our clock; infinite where no lease bounds it."""
        lease = self.held.lease
        return math.inf if lease is None else self.renewed_at + lease.grant.terms.stop_after

    @property
    def kill_at(self) -> float:
        """When to be dead, by our clock; infinite where no lease bounds it."""
        lease = self.held.lease
        return math.inf if lease is None else self.renewed_at + lease.grant.terms.kill_after

    @property
    def is_forked(self) -> bool:
        """Whether this is a copy in a fork: the market belongs to the process that took it."""
        return os.getpid() != self._owner

    @property
    def is_over(self) -> bool:
        """Whether the holder let go of the market."""
        return self._over.is_set()

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Renew no more; a request on its way may still be answered, to nobody."""
        self._over.set()
        self._wake.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(0.2)

    def check(self) -> None:
        """Raise LeaseLost or KillSwitchEngaged unless orders may be sent at this very moment."""
        if self.is_forked:
            raise LeaseLost("The market is held by the process that acquired it, not by its forks.")
        if self._over.is_set():
            raise LeaseLost("The market is not held any more.")
        self._look()
        if self.lost is not None:
            raise LeaseLost(self.lost)
        if why := self._kill_switch():
            raise KillSwitchEngaged(why)

    def lose(self, sentence: str) -> None:
        """It is over for good; the renewing thread tells the listener."""
        with self._losing:
            if self.lost is None:
                self.lost = sentence
        self._wake.set()

    def _run(self) -> None:
        try:
            self._keep()
        except BaseException as exc:
            self.lose(f"Renewing failed: {exc!r}.")
        if self.lost is not None and not self._over.is_set():
            self.on_lost(self.lost)

    def _keep(self) -> None:
        lease = self.held.lease
        due = math.inf if lease is None else self.renewed_at + lease.grant.terms.renew_every
        while not self._over.is_set():
            self._look()
            if self.lost is not None:
                return
            self._refresh_record()
            if lease is not None and clock.now() >= due:
                due = self._renew(lease)
            if self.held.kill_switch is not None:
                self._hear_kill_switch(self.held.kill_switch.engaged_because())
            until = min(due, self.stop_at, clock.now() + self._look_every)
            self._wake.wait(max(until - clock.now(), 0.0))

    def _look(self) -> None:
        """Lose what cannot be proved to be held at this moment."""
        if self.lost is not None:
            return
        if clock.now() >= self.stop_at:
            self.lose("No renewal succeeded in time; trading had to stop.")
        elif not self.held.host_lock.is_intact():
            self.lose("The host lock's file was removed or replaced; it excludes nobody any more.")

    def _renew(self, lease: Lease) -> float:
        """One renewal; returns when the next is due."""
        terms = lease.grant.terms
        timeout = min(terms.request_timeout, max(self.stop_at - clock.now(), 0.001))
        try:
            renewal = lease.renew(timeout)
        except Unanswered:
            return clock.now() + min(1.0, terms.renew_every / 5)
        except LeaseLost as exc:
            self.lose(str(exc))
            return math.inf
        # A reply that comes after stop time is too late: the robot was told to stop by then.
        self._look()
        if self.lost is None and not self._over.is_set():
            self.renewed_at = renewal.sent_at
            self.on_renewed(renewal.sent_at)
            engaged = "The kill switch is engaged: no orders."
            self._hear_kill_switch(engaged if renewal.kill_switch_active else None)
        return renewal.sent_at + terms.renew_every

    def _kill_switch(self) -> str | None:
        """Why no orders may be sent: the file as it is now, or the authority's last word."""
        switch = self.held.kill_switch
        return self._engaged_because if switch is None else switch.engaged_because()

    def _hear_kill_switch(self, engaged_because: str | None) -> None:
        was_engaged, is_engaged = self._engaged_because is not None, engaged_because is not None
        self._engaged_because = engaged_because
        if was_engaged != is_engaged:
            self.on_kill_switch(is_engaged)

    def _refresh_record(self) -> None:
        try:
            self.held.host_lock.refresh()
        except CanonicalMarketAlreadyActive as exc:
            self.lose(f"Software that holds no OS lock wrote its own record: {exc}")
        except OSError:
            return  # the OS lock excludes, not the record; the next pass tries again
