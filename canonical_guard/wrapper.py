"""`canonical_guard run`: a robot in any language, started only while its market is held."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import queue
import signal
import time
from collections.abc import Mapping
from typing import Any

from canonical_guard import clock, tree
from canonical_guard.errors import EX_LEASE_LOST, EX_UNAVAILABLE, GuardError, LeaseLost
from canonical_guard.keeper_link import DEFAULT_KILL_GRACE, KeeperLink, errand_for
from canonical_guard.renewals import Renewals
from canonical_guard.taking import Report, Wanted, chosen_run_id, take_market

CANNOT_EXECUTE, NOT_FOUND = 126, 127
_KEEPER_IS_LATE_AFTER = 0.5
_POLL_WHILE_ENDING = 0.05
_FORWARDED = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGBREAK")
_STOPS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGBREAK")


class Wrapper:
    """One run of a command under a guard; `run` returns the exit status.

    `wanted` is None where an observer found nothing that could be asked for.
    """

    def __init__(
        self,
        wanted: Wanted | None,
        command: list[str],
        report: Report,
        *,
        observe: bool = False,
        stop_on_kill_switch: bool = False,
    ) -> None:
        self._wanted = wanted
        self._run_id = chosen_run_id(None) if wanted is None else wanted.run_id
        self._command = command
        self._report = report
        self._observe = observe
        self._stop_on_kill_switch = stop_on_kill_switch
        self._inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._renewals: Renewals | None = None
        self._asked: set[int] = set()
        self._lost = False
        self._end_by = math.inf
        self._robot: int | None = None

    def run(self) -> int:
        """Hold the market, run the command, give the market back. Raises GuardError at the start.

        Signals are handled from here on; call it in the main thread.
        """
        self._take_signals()
        self._take_market()
        if self._asked:
            self._give_back_unused()
            return 128 + min(self._asked)
        try:
            tree.become_subreaper()
            keeper = KeeperLink(
                errand_for(self._command, self._renewals, ends_robot=not self._observe),
                self._inbox.put,
                self._environment(),
            )
        except (GuardError, OSError):
            self._give_back_unused()
            raise
        self._start_renewing(keeper)
        return self._attend(keeper)

    def _take_market(self) -> None:
        if self._wanted is None:
            return
        try:
            self._renewals = Renewals(take_market(self._wanted, self._report))
        except GuardError as exc:
            if not self._observe:
                raise
            self._report(exc.code, f"Observing, so starting regardless: {exc}")

    def _take_signals(self) -> None:
        for number in (getattr(signal, name) for name in _FORWARDED if hasattr(signal, name)):
            # Under nohup a hang-up is ignored on purpose, and the robot inherits that.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: object) -> None:
        if signal.Signals(number).name in _STOPS:
            self._asked.add(number)
        self._inbox.put({"got_signal": number})

    def _environment(self) -> Mapping[str, str]:
        environment = dict(os.environ, WATCHDOG_RUN_ID=self._run_id)
        for name in ("FENCING_TOKEN", "CANONICAL_INSTRUMENT", "TAKEOVER"):
            environment.pop(f"WATCHDOG_{name}", None)
        if self._renewals is not None:
            held = self._renewals.held
            environment["WATCHDOG_CANONICAL_INSTRUMENT"] = held.product.canonical_instrument
            environment["WATCHDOG_TAKEOVER"] = "1" if held.takeover else "0"
            if held.fencing_token is not None:
                environment["WATCHDOG_FENCING_TOKEN"] = str(held.fencing_token)
        return environment

    def _start_renewing(self, keeper: KeeperLink) -> None:
        if self._renewals is None:
            return
        self._renewals.on_renewed = keeper.renewed
        self._renewals.on_lost = lambda sentence: self._inbox.put({"lost": sentence})
        self._renewals.on_kill_switch = lambda engaged: self._inbox.put({"kill_switch": engaged})
        self._renewals.start()

    def _attend(self, keeper: KeeperLink) -> int:
        """Until the robot is gone, one way or the other."""
        while True:
            late = self._end_by + _KEEPER_IS_LATE_AFTER - clock.now()
            try:
                message = self._inbox.get(timeout=max(late, 0.0) if late < math.inf else None)
            except queue.Empty:
                # The kernel kills the robot with it; the rest is ours to end.
                keeper.process.kill()
                self._end_by = math.inf
                continue
            if "failed" in message:
                return self._could_not_start(keeper, message)
            if "ended" in message:
                if message["late"] and not self._lost:
                    self._act(keeper, {"lost": "No renewal succeeded in time."})
                return self._ended(keeper, int(message["ended"]), bool(message["forced"]))
            if "gone" in message:
                return self._keeper_is_gone(keeper)
            self._act(keeper, message)

    def _act(self, keeper: KeeperLink, message: dict[str, Any]) -> None:
        if "started" in message:
            self._robot = int(message["started"])
        elif "got_signal" in message:
            keeper.signal(int(message["got_signal"]))
        elif "lost" in message:
            self._report(LeaseLost.code, f"{message['lost']}{self._consequence()}")
            if not self._observe:
                self._lost = True
                self._stop_robot(keeper)
        elif "kill_switch" in message:
            self._kill_switch(keeper, bool(message["kill_switch"]))

    def _consequence(self) -> str:
        return " Observing, so the robot goes on." if self._observe else " The robot is stopped."

    def _stop_robot(self, keeper: KeeperLink) -> None:
        keeper.stop()
        lease = None if self._renewals is None else self._renewals.held.lease
        grace = DEFAULT_KILL_GRACE
        if lease is not None:
            grace = lease.grant.terms.kill_after - lease.grant.terms.stop_after
        self._end_by = min(self._end_by, clock.now() + grace)

    def _kill_switch(self, keeper: KeeperLink, engaged: bool) -> None:
        if not engaged:
            self._report("KILL_SWITCH_RELEASED", "The kill switch is released.")
            return
        stops = self._stop_on_kill_switch and not self._observe
        what = "the robot is stopped" if stops else "the robot goes on and must see to it"
        self._report("KILL_SWITCH_ACTIVE", f"The kill switch is engaged, no orders: {what}.")
        if stops:
            self._asked.add(signal.SIGTERM)
            self._stop_robot(keeper)

    def _could_not_start(self, keeper: KeeperLink, message: dict[str, Any]) -> int:
        self._give_back_unused()
        keeper.done()
        number = message["failed"]
        self._report("COMMAND_NOT_STARTED", f"{self._command[0]!r}: {message['why']}")
        if number is None:
            return EX_UNAVAILABLE
        return NOT_FOUND if number == errno.ENOENT else CANNOT_EXECUTE

    def _ended(self, keeper: KeeperLink, status: int, forced: bool) -> int:
        asked = status < 0 and -status in self._asked
        asked = asked or (status > 128 and status - 128 in self._asked)
        orderly = (status == 0 or asked) and not forced and not self._lost
        self._give_back("clean" if orderly else "crashed")
        keeper.done()
        if self._lost:
            return EX_LEASE_LOST
        return status if status >= 0 else 128 - status

    def _keeper_is_gone(self, keeper: KeeperLink) -> int:
        """Nobody else would end the robot now, so we do, still holding the market."""
        robot = None if self._robot is None else tree.orphaned_by_keeper(self._robot)
        if robot is not None and self._observe:
            return self._observe_alone(keeper, robot)
        self._report(
            LeaseLost.code, "The keeper is gone, so nothing but this guard could end the robot."
        )
        if robot is not None:
            self._end_alone(robot)
        self._give_back("crashed")
        keeper.done()
        return EX_LEASE_LOST

    def _end_alone(self, robot: tree.RobotTree) -> None:
        robot.ask_to_stop()
        kill_from = clock.now() + DEFAULT_KILL_GRACE
        if self._renewals is not None:
            kill_from = min(kill_from, self._renewals.kill_at)
        while not robot.is_gone():
            if clock.now() >= kill_from:
                robot.kill()
            time.sleep(_POLL_WHILE_ENDING)

    def _observe_alone(self, keeper: KeeperLink, robot: tree.RobotTree) -> int:
        while robot.returncode is None and not robot.is_gone():
            with contextlib.suppress(queue.Empty):
                message = self._inbox.get(timeout=_POLL_WHILE_ENDING)
                if "got_signal" in message:
                    robot.send(int(message["got_signal"]))
        return self._ended(keeper, robot.returncode or 0, forced=False)

    def _give_back(self, reason: str) -> None:
        if self._renewals is not None:
            self._renewals.end()
            self._renewals.held.release(reason, self._report)

    def _give_back_unused(self) -> None:
        if self._renewals is not None:
            self._renewals.end()
            self._renewals.held.release_unused(self._report)
