"""The guard inside a Python robot's own process."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from canonical_guard import clock, symbols
from canonical_guard.errors import (
    EX_LEASE_LOST,
    GuardError,
    InvalidConfiguration,
    KillSwitchEngaged,
    LeaseLost,
    LockAuthorityUnavailable,
)
from canonical_guard.hostlock import ALLOW_NETWORK_VARIABLE
from canonical_guard.keeper_link import DEFAULT_KILL_GRACE, KeeperLink, errand_for
from canonical_guard.project_root import project_root as chosen_root
from canonical_guard.renewals import Renewals
from canonical_guard.switch_file import KillSwitchFile
from canonical_guard.taking import Report, Wanted, chosen_run_id, take_market

_KEEPER_STARTS_WITHIN = 10.0


def wanted_market(
    market: str,
    *,
    server: str | None,
    api_key: str | None,
    account: str | None,
    project_root: str | os.PathLike[str] | None,
    host_only: bool,
    run_id: str | None,
    kill_switch_file: str | os.PathLike[str] | None = None,
) -> Wanted:
    """What to ask for, by arguments and environment.

    Raises LockAuthorityUnavailable where there is nobody to ask and `host_only` was not said.
    """
    if host_only and server is not None:
        raise InvalidConfiguration("Host-only means without a server; name one or the other.")
    if kill_switch_file is not None and not host_only:
        raise InvalidConfiguration(
            "A kill switch file is for host-only; with a server its own kill switch counts."
        )
    server = server or os.environ.get("WATCHDOG_URL") or None
    api_key = api_key or os.environ.get("WATCHDOG_API_KEY") or None
    if not host_only and server is None:
        raise LockAuthorityUnavailable(
            "No lock authority is configured: name one (WATCHDOG_URL), or say host-only to guard "
            "this host alone."
        )
    if not host_only and api_key is None:
        raise LockAuthorityUnavailable(
            "There is no API key for the lock authority: set WATCHDOG_API_KEY."
        )
    if account is not None and not (0 < len(account) <= 128 and account.isprintable()):
        raise InvalidConfiguration("An account is 1 to 128 printable characters.")
    return Wanted(
        symbol=symbols.normalise(market),
        run_id=chosen_run_id(run_id),
        root=chosen_root(project_root),
        server=None if host_only else server,
        api_key=None if host_only else api_key,
        account=account,
        allow_network=os.environ.get(ALLOW_NETWORK_VARIABLE) == "1",
        kill_switch=_switch_file(kill_switch_file),
    )


def _switch_file(path: str | os.PathLike[str] | None) -> KillSwitchFile | None:
    if path is None:
        return None
    if not os.fspath(path):
        raise InvalidConfiguration("The kill switch file needs a name.")
    # The robot may change its working directory.
    return KillSwitchFile(Path(path).absolute())


class Guard:
    """At most one executor per canonical market, for the robot that this process is.

    Fails closed: without both the host's lock and the authority's lease `acquire` raises
    (CanonicalMarketAlreadyActive, LockAuthorityUnavailable, KillSwitchEngaged, UnknownInstrument,
    InvalidConfiguration, MappingDrift). Call `check()` right before every order.

    When the market is lost, `on_lost()` is called from another thread, at stop time or as soon as
    it is known; at kill time this process ends itself with status 70. A robot that takes care of
    that itself says `end_process_when_lost=False`.

    `kill_switch_file`, for host-only, is read by every `check()`: anything but the word `released`
    in it means no orders. With `observe` nothing is ever refused: what would have happened is
    reported, to `report(event, sentence)` or else to the log `canonical_guard`.
    """

    def __init__(
        self,
        market: str,
        *,
        server: str | None = None,
        api_key: str | None = None,
        account: str | None = None,
        project_root: str | os.PathLike[str] | None = None,
        host_only: bool = False,
        observe: bool = False,
        on_lost: Callable[[], object] | None = None,
        run_id: str | None = None,
        end_process_when_lost: bool = True,
        kill_switch_file: str | os.PathLike[str] | None = None,
        report: Report | None = None,
    ) -> None:
        self._market = market
        self._options: dict[str, Any] = {
            "server": server,
            "api_key": api_key,
            "account": account,
            "project_root": project_root,
            "host_only": host_only,
            "kill_switch_file": kill_switch_file,
        }
        self._observe = observe
        self._on_lost = on_lost
        self._end_process = end_process_when_lost and not observe
        self._report: Report = report or _log
        self._renewals: Renewals | None = None
        self._keeper: KeeperLink | None = None
        self.run_id = chosen_run_id(run_id)
        self._told: set[str] = set()

    @property
    def canonical_instrument(self) -> str:
        """`ES` for `MES 03-26`; raises UnknownInstrument where only a server may know it."""
        if self._renewals is not None:
            return self._renewals.held.product.canonical_instrument
        return symbols.resolve(self._market).canonical_instrument

    @property
    def fencing_token(self) -> int | None:
        """The lease's token; None for host-only, or when nothing is held."""
        return None if self._renewals is None else self._renewals.held.fencing_token

    @property
    def takeover(self) -> bool:
        """Reconcile orders and positions first: the last holder did not leave cleanly."""
        return self._renewals is not None and self._renewals.held.takeover

    @property
    def held(self) -> bool:
        """Whether the market is held at this moment, kill switch or not; never raises."""
        try:
            if self._renewals is None:
                return False
            self._renewals.check()
        except KillSwitchEngaged:
            return True
        except LeaseLost:
            return False
        return True

    @property
    def seconds_left(self) -> float:
        """Until stop time unless a renewal succeeds; 0 when not held, infinite for host-only."""
        if self._renewals is None or not self.held:
            return 0.0
        return max(self._renewals.stop_at - clock.now(), 0.0)

    def acquire(self) -> None:
        """Take the market, or raise; see the class."""
        if self._renewals is not None:
            raise InvalidConfiguration("This guard holds its market already.")
        try:
            self._take()
        except GuardError as exc:
            if not self._observe:
                raise
            self._report(exc.code, f"Observing, so going on regardless: {exc}")

    def release(self, reason: str = "clean") -> None:
        """Give the market back; again and again. In a fork of the robot it does nothing.

        `reason` "crashed" has the next holder told to reconcile.
        """
        renewals, keeper = self._renewals, self._keeper
        if renewals is None or renewals.is_forked:
            return
        self._renewals = self._keeper = None
        renewals.end()
        try:
            renewals.held.release(reason, self._report)
        finally:
            if keeper is not None:
                keeper.done()

    def check(self) -> None:
        """Raise LeaseLost or KillSwitchEngaged unless an order may be sent at this very moment."""
        try:
            if self._renewals is None:
                raise LeaseLost(f"{self._market} is not held.")
            self._renewals.check()
        except (LeaseLost, KillSwitchEngaged) as exc:
            if not self._observe:
                raise
            if str(exc) not in self._told:
                self._told.add(str(exc))
                self._report(exc.code, f"Observing, so going on regardless: {exc}")

    def __enter__(self) -> Guard:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release("clean" if _is_orderly(error) else "crashed")

    def _take(self) -> None:
        wanted = wanted_market(self._market, run_id=self.run_id, **self._options)
        self._report("PROJECT_ROOT", f"Lock files are below {wanted.root}.")
        held = take_market(wanted, self._report)
        renewals = Renewals(held)
        try:
            self._keeper = self._start_keeper(renewals)
        except BaseException:
            held.release_unused(self._report)
            raise
        renewals.on_renewed = self._keeper.renewed
        renewals.on_lost = self._lost
        renewals.on_kill_switch = self._kill_switch
        self._renewals = renewals
        renewals.start()

    def _start_keeper(self, renewals: Renewals) -> KeeperLink:
        heard: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

        def hear(message: dict[str, Any]) -> None:
            heard.put(message)
            if "gone" in message:
                renewals.lose("The keeper is gone, so nothing would end a robot that hangs.")

        keeper = KeeperLink(errand_for(None, renewals, ends_robot=self._end_process), hear)
        with contextlib.suppress(queue.Empty):
            if "started" in heard.get(timeout=_KEEPER_STARTS_WITHIN):
                return keeper
        keeper.done()
        raise LockAuthorityUnavailable("The keeper did not start; without it nothing is started.")

    def _lost(self, sentence: str) -> None:
        renewals = self._renewals
        if renewals is None:
            return
        self._report(LeaseLost.code, sentence)
        if self._end_process:
            lease = renewals.held.lease
            grace = DEFAULT_KILL_GRACE
            if lease is not None:
                grace = lease.grant.terms.kill_after - lease.grant.terms.stop_after
            end_by = min(renewals.kill_at, clock.now() + grace)
            threading.Thread(
                target=_end_process_at,
                args=(end_by, renewals),
                name="canonical-guard-end",
                daemon=True,
            ).start()
        if self._on_lost is not None:
            self._on_lost()

    def _kill_switch(self, engaged: bool) -> None:
        if engaged:
            self._report(KillSwitchEngaged.code, "The kill switch is engaged: no orders.")
        else:
            self._report("KILL_SWITCH_RELEASED", "The kill switch is released.")


def _end_process_at(moment: float, renewals: Renewals) -> None:
    while (left := moment - clock.now()) > 0:
        time.sleep(min(left, 1.0))
    # A robot that released meanwhile has stopped trading and may live on.
    if not renewals.is_over:
        os._exit(EX_LEASE_LOST)


def _is_orderly(error: BaseException | None) -> bool:
    """Whether the robot left because it was done or was asked to."""
    if isinstance(error, SystemExit):
        return error.code in (None, 0)
    return error is None or isinstance(error, KeyboardInterrupt | GeneratorExit)


def _log(event: str, sentence: str) -> None:
    import logging

    quiet = event.endswith(("_ACQUIRED", "_RELEASED")) or event == "PROJECT_ROOT"
    logging.getLogger("canonical_guard").log(
        logging.INFO if quiet else logging.WARNING, "%s: %s", event, sentence
    )
