"""A holder as the client vectors see it: it asks, lives for a while, and is looked at."""

from __future__ import annotations

import json
import math
import os
import time
from functools import partial
from pathlib import Path

import pytest

from canonical_guard import client, clock, renewals
from canonical_guard.errors import (
    CanonicalMarketAlreadyActive,
    GuardError,
    KillSwitchEngaged,
    LeaseLost,
)
from canonical_guard.oslock import is_held
from canonical_guard.renewals import Renewals
from canonical_guard.taking import HeldMarket, Wanted, take_market
from tests.guard.staged import START, Script, StagedClock
from tests.vectors import Vector, assert_like

PROMPT = 0.3
"""Seconds within which a loss is told."""
KEY = "robot.secret"


class Holder:
    """One run of the guard's own code, below a real host lock."""

    def __init__(self, case: Vector, asks: Vector, script: Script, root: Path) -> None:
        self._case = case
        self._life = case.get("life", [])
        self._asks = asks
        self._script = script
        self._clock = script.clock
        self._root = root
        self._folder = root / "runtime_locks"
        self._told: list[float] = []
        self._ended_at = math.inf
        self._renewals: Renewals | None = None

    def take(self) -> HeldMarket | GuardError:
        wanted = Wanted(
            symbol=self._asks["symbol"],
            run_id=self._asks["run_id"],
            root=self._root,
            server=self._script.url,
            api_key=KEY,
            account=self._asks["account"],
        )
        for moment in self._life:
            if "stopped_until" in moment:
                until = moment["stopped_until"]
                self._clock.at(moment["at"], partial(self._clock.stop_process, until))
        try:
            return take_market(wanted, lambda event, sentence: None)
        except GuardError as refusal:
            return refusal

    def live(self, held: HeldMarket) -> None:
        """From the grant to the last moment that the case tells of."""
        self._renewals = Renewals(held)
        self._renewals.on_lost = lambda sentence: self._told.append(self._clock.seconds)
        for moment in self._life:
            self._clock.at(moment["at"], partial(self._happen, moment))
        last = max((moment["at"] for moment in self._life), default=0) + 0.05
        self._clock.at(last, self._renewals.end)
        self._renewals.start()
        self._clock.advance(max(last - self._clock.seconds, 0))

    def assert_taken(self, came: HeldMarket | GuardError) -> None:
        expected = self._case["acquire"]
        if not expected["held"]:
            assert isinstance(came, GuardError), f"held, but should be {expected['error']}"
            assert (came.code, came.exit_status) == (expected["error"], expected["exit"]), came
            if isinstance(came, CanonicalMarketAlreadyActive):
                assert_like(expected.get("active", {}), came.active, 0, "active")
                assert came.retry_after == expected.get("retry_after")
            self.assert_nothing_left()
            return
        assert isinstance(came, HeldMarket), came
        assert came.fencing_token == expected["fencing_token"]
        assert came.takeover is expected["takeover"]

    def assert_nothing_left(self) -> None:
        assert not is_held(self._sidecar)
        assert not self._record.exists()

    def assert_told(self) -> None:
        if "told_lost_at" not in self._case:
            return
        expected = self._case["told_lost_at"]
        if expected is None:
            assert self._told == []
            return
        earliest, latest = (
            expected["between"] if isinstance(expected, dict) else (expected, expected + PROMPT)
        )
        (told,) = self._told
        assert earliest - 0.001 <= told <= latest, f"told at {told}"

    def assert_requests(self, asked: list[Vector]) -> None:
        """Those that the case names, in their order; and what holds of all of them."""
        left = iter(asked)
        for expected in self._case.get("requests", []):
            found = next((made for made in left if _is_that(expected, made)), None)
            assert found is not None, f"{expected} was not sent, but {asked}"
            assert_like(expected.get("body", {}), found["body"], 0, expected["on"])
        acquires = [made["body"] for made in asked if made["on"] == "acquire"]
        assert all(body == acquires[0] for body in acquires)
        assert len(acquires[0]["nonce"]) >= 32
        over = min(
            [*self._told, *([] if self._ended_at is None else [self._ended_at])], default=1e9
        )
        for made in asked:
            assert made["timeout"] <= 2.0
            if made["on"] != "acquire":
                assert made["body"]["fencing_token"] == 42
                assert made["body"]["nonce"] == acquires[0]["nonce"]
                assert {"kind", "name", "scope", "run_id"} <= set(made["body"])
            assert made["on"] != "renew" or made["at"] <= over, "renewed what was lost"

    @property
    def _sidecar(self) -> Path:
        return self._folder / ".canonical_ES.guard"

    @property
    def _record(self) -> Path:
        return self._folder / "canonical_ES.lock"

    def _happen(self, moment: Vector) -> None:
        if "host" in moment:
            self._meddle(moment["host"], moment)
        if "release" in moment:
            self._release(moment["release"])
        if "check" in moment:
            says = self._check()
            assert says == moment["check"], f"{says} at {moment['at']}"
        self._assert_moment(moment)

    def _check(self) -> str:
        assert self._renewals is not None, "nothing is held yet"
        try:
            self._renewals.check()
        except LeaseLost:
            return "lost"
        except KillSwitchEngaged:
            return "kill switch"
        return "held"

    def _assert_moment(self, moment: Vector) -> None:
        if self._renewals is not None:
            for name in {"stop_at", "kill_at"} & set(moment):
                assert getattr(self._renewals, name) - START == pytest.approx(moment[name]), name
        if "record" in moment:
            assert_like(moment["record"], json.loads(self._record.read_text()), 0, "record")
        if "record_younger_than" in moment:
            age = time.time() - self._record.stat().st_mtime
            assert age < moment["record_younger_than"]

    def _release(self, reason: str) -> None:
        assert self._renewals is not None
        self._ended_at = self._clock.seconds
        self._renewals.end()
        self._renewals.held.release(reason, lambda event, sentence: None)
        self.assert_nothing_left()

    def _meddle(self, what: str, moment: Vector) -> None:
        if what in ("remove the sidecar", "replace the sidecar"):
            self._sidecar.unlink()
            if what == "replace the sidecar":
                self._sidecar.touch()
        elif what == "remove the record":
            self._record.unlink()
        elif what == "spoil the record":
            self._record.write_bytes(b"\x00\xff{")
        elif what == "another run's record":
            self._record.write_text(json.dumps({"run_id": "run-9", "canonical_instrument": "ES"}))
        elif what == "age the record":
            os.utime(self._record, (time.time() - moment["by"],) * 2)
        else:
            raise AssertionError(f"no vector knows {what!r}")


def _is_that(expected: Vector, made: Vector) -> bool:
    at_that_time = "at" not in expected or abs(made["at"] - expected["at"]) < 0.05
    return bool(made["on"] == expected["on"] and at_that_time)


def play(case: Vector, setting: Vector, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replay one client vector; raises AssertionError where the guard concludes otherwise."""
    staged = StagedClock()
    with Script(staged, case.get("authority", []), setting["otherwise"]) as script:
        monkeypatch.setattr(clock, "now", staged.now)
        monkeypatch.setattr(renewals, "threading", staged.threading())
        monkeypatch.setattr(client, "Authority", script.authority)
        holder = Holder(case, setting["asks"], script, root)
        came = holder.take()
        holder.assert_taken(came)
        try:
            if isinstance(came, HeldMarket):
                holder.live(came)
            staged.assert_nothing_failed()
            holder.assert_told()
            holder.assert_requests(list(script.requests))
        finally:
            if isinstance(came, HeldMarket):
                came.release("clean", lambda event, sentence: None)
