"""The keeper: the robot's parent, so that no guard that stops or dies leaves a robot trading.

It needs no network while the robot lives: a deadline, pushed forward by the guard's renewals, is
all that it goes by. Only when nothing of the robot is left and the guard cannot do it does it make
one request, to give the lease back. In library use it watches the process that it is a child of.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from canonical_guard import clock, tree, wire
from canonical_guard.hostlock import InheritedLock
from canonical_guard.oslock import OsLock

POLL_EVERY = 0.25
_WHILE_ENDING = 0.05
# Longer than the guard's own tries at giving the lease back.
_GUARD_LETS_GO_WITHIN = 6.0
_SILENT_GUARD_LETS_GO_WITHIN = 0.5

Message = dict[str, Any]
_GUARD_IS_GONE: Message = {"guard_is_gone": True}
_CHILD_CHANGED: Message = {"child_changed": True}


class Keeper:
    """One robot's keeper, from its start until nothing of it is left."""

    def __init__(self, errand: wire.Errand, subject: tree.Subject) -> None:
        self._errand = errand
        self._subject = subject
        self.inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._renewed_at = math.inf if errand.renewed_at is None else errand.renewed_at
        self._ending_by = math.inf
        self._is_ending = False
        self.was_forced = False
        self.was_late = False
        self._guard_is_gone = False
        self._is_done = False

    def watch(self) -> None:
        """Until nothing of the robot is left, or the guard says that it is done."""
        while True:
            self._hear(self._pause())
            if self._is_done or self._is_over():
                return
            now = clock.now()
            if not self._is_ending and self._must_end():
                self._is_ending = True
                self.was_late = self._is_late
                self._ending_by = self._kill_time(now)
                self._subject.ask_to_stop()
            if self._is_ending and now >= self._ending_by:
                self.was_forced = True
                self._subject.kill()

    def await_guard(self) -> bool:
        """Whether the guard lets go of the market itself; not if it is dead or stopped."""
        lets_go_within = _SILENT_GUARD_LETS_GO_WITHIN if self._is_late else _GUARD_LETS_GO_WITHIN
        until = clock.now() + lets_go_within
        while not self._is_done and not self._guard_is_gone and clock.now() < until:
            self._hear(max(until - clock.now(), 0.0))
        return self._is_done

    def await_end_of_forks(self) -> bool:
        """In library use, like `await_guard`: a fork of the robot shares its pipe and may act."""
        while not self._is_done and not self._guard_is_gone:
            self._hear(POLL_EVERY)
        return self._is_done

    def _is_over(self) -> bool:
        """Who only observes waits for the robot alone, as if there were no guard."""
        gone = self._subject.is_gone()
        return gone or (not self._errand.ends_robot and self._subject.returncode is not None)

    def _must_end(self) -> bool:
        if not self._errand.ends_robot:
            return False
        return self._is_late or self._guard_is_gone or self._subject.returncode is not None

    @property
    def _is_late(self) -> bool:
        """Whether no renewal was heard of until stop time."""
        stop_after = self._errand.stop_after
        return stop_after is not None and clock.now() >= self._renewed_at + stop_after

    def _kill_time(self, now: float) -> float:
        """The lease's kill time; sooner or later only where it is not what ends the robot."""
        by_lease = math.inf
        if self._errand.kill_after is not None:
            by_lease = self._renewed_at + self._errand.kill_after
        if self._guard_is_gone and self._subject.returncode is None and by_lease < math.inf:
            return by_lease
        return min(by_lease, now + self._errand.kill_grace)

    def _pause(self) -> float:
        return _WHILE_ENDING if self._is_ending else POLL_EVERY

    def _hear(self, timeout: float) -> None:
        try:
            message = self.inbox.get(timeout=timeout)
        except queue.Empty:
            return
        if "renewed_at" in message:
            self._renewed_at = float(message["renewed_at"])
        elif "signal" in message:
            self._subject.send(int(message["signal"]))
        elif "stop" in message and not self._is_ending:
            self._is_ending = True
            self._ending_by = min(
                clock.now() + self._errand.kill_grace, self._kill_time(clock.now())
            )
            self._subject.ask_to_stop()
        elif message is _GUARD_IS_GONE:
            self._guard_is_gone = True
        self._is_done = self._is_done or "done" in message


def main(down: int, up: int) -> int:
    """Run as a process of its own: `down` is read, `up` is written (handles on Windows)."""
    if sys.platform == "win32":
        import msvcrt

        down, up = msvcrt.open_osfhandle(down, os.O_RDONLY), msvcrt.open_osfhandle(up, os.O_WRONLY)
    messages = wire.read_messages(down)
    first = next(messages, None)
    if first is None:
        return 1
    errand = wire.Errand(**first)
    lock = _inherited_lock(errand)
    _outlive_the_terminal()
    if errand.command is None:
        return _watch_parent(errand, messages, lock, up)
    return _keep_robot(errand, errand.command, messages, lock, up)


def _keep_robot(
    errand: wire.Errand,
    command: list[str],
    messages: Iterator[Message],
    lock: InheritedLock | None,
    up: int,
) -> int:
    try:
        tree.become_subreaper()
        subject = _start(errand, command)
    except Exception as exc:
        number, why = (exc.errno, exc.strerror) if isinstance(exc, OSError) else (None, None)
        wire.write_message(up, {"failed": number, "why": why or str(exc)})
        if not any("done" in message for message in messages):
            _let_go(errand, lock)
        return 1
    keeper = Keeper(errand, subject)
    if sys.platform != "win32":
        signal.signal(signal.SIGCHLD, lambda *_: keeper.inbox.put(_CHILD_CHANGED))
    wire.write_message(up, {"started": subject.pid})
    _listen(keeper, messages)
    keeper.watch()
    ended = {"ended": subject.returncode, "forced": keeper.was_forced, "late": keeper.was_late}
    wire.write_message(up, ended)
    if not keeper.await_guard():
        _let_go(errand, lock)
    return 0


def _watch_parent(
    errand: wire.Errand, messages: Iterator[Message], lock: InheritedLock | None, up: int
) -> int:
    # The robot's working directory may be unmounted or removed after it.
    os.chdir(Path(sys.executable).anchor)
    keeper = Keeper(errand, tree.ParentProcess(errand.guard_pid))
    wire.write_message(up, {"started": errand.guard_pid})
    _listen(keeper, messages)
    keeper.watch()
    if not keeper.await_end_of_forks():
        _let_go(errand, lock)
    return 0


def _start(errand: wire.Errand, command: list[str]) -> tree.RobotTree:
    renewed_at, stop_after = errand.renewed_at, errand.stop_after
    if renewed_at is not None and stop_after is not None and clock.now() >= renewed_at + stop_after:
        raise TimeoutError("the lease was too old before the robot could start")
    return tree.start_robot(command, dies_with_keeper=errand.ends_robot, held=errand.descriptor)


def _listen(keeper: Keeper, messages: Iterator[Message]) -> None:
    """From here on there is a second thread: the robot was started before it, on purpose."""

    def hear() -> None:
        try:
            for message in messages:
                keeper.inbox.put(message)
        except (OSError, ValueError):
            pass  # a guard that speaks gibberish is as good as gone
        keeper.inbox.put(_GUARD_IS_GONE)

    threading.Thread(target=hear, name="canonical-guard-ear", daemon=True).start()


def _inherited_lock(errand: wire.Errand) -> InheritedLock | None:
    if errand.sidecar is None or errand.record is None:
        return None
    sidecar = Path(errand.sidecar)
    # Windows hands no lock down: there the keeper opens the file and locks a byte of its own.
    carrier = OsLock.open(sidecar) if errand.descriptor < 0 else OsLock(sidecar, errand.descriptor)
    lock = InheritedLock(carrier, Path(errand.record), errand.run_id)
    lock.take_over()
    return lock


def _outlive_the_terminal() -> None:
    """Signals meant for the job reach guard and robot; the keeper stays until they are gone.

    A handler, not SIG_IGN, which the robot would inherit; what is ignored already stays so.
    """
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGBREAK")
    for number in (getattr(signal, name) for name in names if hasattr(signal, name)):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def _let_go(errand: wire.Errand, lock: InheritedLock | None) -> None:
    """Lease, then host lock, because the guard cannot."""
    if errand.server is not None and errand.identity is not None:
        from canonical_guard.client import Authority
        from canonical_guard.errors import Unanswered
        from canonical_guard.lease import give_back

        with contextlib.suppress(Unanswered):
            give_back(Authority(errand.server, errand.api_key), errand.identity, "crashed")
    if lock is not None:
        lock.release(clean=False)
