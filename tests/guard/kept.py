"""A keeper as the keeper vectors see it: what it hears, and what it does to its robot."""

from __future__ import annotations

import queue
from collections import deque
from functools import partial

import pytest

from canonical_guard import clock
from canonical_guard.keeper import _GUARD_IS_GONE, Keeper, Message
from canonical_guard.wire import Errand
from tests.guard.staged import START, StagedClock
from tests.vectors import Vector

PROMPT = {"asked_to_stop_at": 0.26, "killed_at": 0.3, "gives_back_at": 0.6}
"""Seconds within which a keeper acts: it polls at least every 250 ms."""


class StagedRobot:
    """Its main process and what that leaves behind."""

    def __init__(self, staged: StagedClock, obeys: bool) -> None:
        self._clock = staged
        self._obeys = obeys
        self.returncode: int | None = None
        self._child_lives = False
        self.asked_at: float | None = None
        self.killed_at: float | None = None

    def is_gone(self) -> bool:
        return self.returncode is not None and not self._child_lives

    def send(self, signum: int) -> None:
        raise AssertionError("nobody sent a signal")

    def ask_to_stop(self) -> None:
        self.asked_at = self._clock.seconds
        if self._obeys:
            self.end(-15)

    def kill(self) -> None:
        self.killed_at = self.killed_at or self._clock.seconds
        self._child_lives = False
        self.end(-9)

    def end(self, status: int, *, child_lives: bool = False) -> None:
        if self.returncode is None:
            self.returncode = status
            self._child_lives = child_lives


class StagedInbox(queue.SimpleQueue[Message]):
    """Waiting for a message lets the clock go on."""

    def __init__(self, staged: StagedClock) -> None:
        self._clock = staged
        self._messages: deque[Message] = deque()

    def put(self, item: Message, block: bool = True, timeout: float | None = None) -> None:
        self._messages.append(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Message:
        self._clock.advance(timeout or 0.0, lambda: bool(self._messages))
        if not self._messages:
            raise queue.Empty
        return self._messages.popleft()


def play(case: Vector, lease: Vector | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replay one keeper vector; raises AssertionError where the keeper does otherwise."""
    staged = StagedClock()
    monkeypatch.setattr(clock, "now", staged.now)
    robot = StagedRobot(staged, obeys=case["robot"] == "ends when asked")
    keeper = Keeper(_errand(lease), robot)
    keeper.inbox = inbox = StagedInbox(staged)
    for moment in case["life"]:
        staged.at(moment["at"], partial(_happen, moment, staged, robot, inbox))
    keeper.watch()
    guard_did = keeper.await_guard()
    staged.assert_nothing_failed()
    gave_back_at = None if guard_did else staged.seconds
    came = {
        "asked_to_stop_at": robot.asked_at,
        "killed_at": robot.killed_at,
        "gives_back_at": gave_back_at,
    }
    for name, expected in case["expect"].items():
        if expected is None:
            assert came[name] is None, f"{name}: {came[name]}"
        else:
            at = came[name]
            assert at is not None, f"{name}: never, not {expected}"
            assert expected - 0.001 <= at <= expected + PROMPT[name], f"{name}: {at}"


def _errand(lease: Vector | None) -> Errand:
    if lease is None:
        return Errand(["robot"], ends_robot=True, guard_pid=1, kill_grace=2.0)
    return Errand(
        ["robot"],
        ends_robot=True,
        guard_pid=1,
        kill_grace=lease["time_to_flatten"],
        stop_after=lease["stop_after"],
        kill_after=lease["kill_after"],
        ttl=lease["ttl"],
        renewed_at=START + lease["asked_at"],
    )


def _happen(moment: Vector, staged: StagedClock, robot: StagedRobot, inbox: StagedInbox) -> None:
    if "stopped_until" in moment:
        staged.stop_process(moment["stopped_until"])
    if "renewed_at" in moment:
        inbox.put({"renewed_at": START + moment["renewed_at"]})
    if "guard" in moment:
        said = {"dies": _GUARD_IS_GONE, "says stop": {"stop": True}, "says done": {"done": True}}
        inbox.put(said[moment["guard"]])
    if "robot" in moment:
        robot.end(0, child_lives=moment["robot"] == "ends, a child goes on")
