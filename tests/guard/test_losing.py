"""When a market that was held is held no more, and who notices."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from canonical_guard import LeaseLost, clock
from tests.guard.authority import TERMS, LockAuthority
from tests.guard.conftest import MakeGuard, eventually


def test_a_revoked_lease_is_lost_at_once_and_for_good(
    guard: MakeGuard, authority: LockAuthority
) -> None:
    lost = threading.Event()
    with guard(on_lost=lost.set) as held:
        authority.leases["ES"]["fencing_token"] += 1
        assert lost.wait(2)
        authority.leases["ES"]["fencing_token"] -= 1
        with pytest.raises(LeaseLost, match="Another token"):
            held.check()
        assert not held.held


def test_silence_until_stop_time_is_a_loss_and_not_earlier(
    guard: MakeGuard, authority: LockAuthority
) -> None:
    lost_at: list[float] = []
    with guard(on_lost=lambda: lost_at.append(time.monotonic())) as held:
        assert eventually(lambda: authority.made("renew"))
        authority.interfere = lambda path, body: (503, {})
        silent_since = time.monotonic()
        while time.monotonic() - silent_since < TERMS["stop_after"] - 0.8:
            held.check()
            time.sleep(0.05)
        assert eventually(lambda: lost_at, 2)
        assert lost_at[0] - silent_since < TERMS["stop_after"] + 0.3
        with pytest.raises(LeaseLost):
            held.check()


def test_a_slow_renewal_counts_from_when_it_was_sent(
    guard: MakeGuard, authority: LockAuthority
) -> None:
    def slow(path: str, body: Any) -> None:
        time.sleep(1.5 if path.endswith("/renew") else 0)

    authority.interfere = slow
    with guard() as held:
        started = time.monotonic()
        most = 0.0
        while time.monotonic() - started < 2.3:
            if time.monotonic() - started > 1.6:
                most = max(most, held.seconds_left)
            time.sleep(0.01)
        assert 0 < most < TERMS["stop_after"] - 1.4


def test_a_machine_that_slept_past_stop_time_has_lost_though_its_renewal_succeeds(
    guard: MakeGuard, authority: LockAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    awake, asleep = clock.now, [0.0]

    def sleep_during_the_renewal(path: str, body: Any) -> None:
        # Past the stop time so far, and before that of the renewal under way.
        asleep[0] = TERMS["stop_after"] - 0.15 if path.endswith("/renew") else 0.0

    authority.interfere = sleep_during_the_renewal
    monkeypatch.setattr(clock, "now", lambda: awake() + asleep[0])
    lost = threading.Event()
    with guard(on_lost=lost.set) as held:
        assert lost.wait(3)
        asleep[0] = 0.0
        with pytest.raises(LeaseLost, match="No renewal succeeded in time"):
            held.check()
        assert authority.leases["ES"]["renewals"] == 1


def test_a_removed_sidecar_is_a_loss_the_next_check_sees(guard: MakeGuard, root: Path) -> None:
    with guard() as held:
        (root / "runtime_locks" / ".canonical_ES.guard").unlink()
        with pytest.raises(LeaseLost, match="removed or replaced"):
            held.check()
