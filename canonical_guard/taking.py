"""Taking a market: host lock first, then lease; and giving both back in reverse."""

from __future__ import annotations

import os
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from canonical_guard import host, symbols
from canonical_guard.errors import (
    CanonicalMarketAlreadyActive,
    GuardError,
    InvalidConfiguration,
    KillSwitchEngaged,
    LockAuthorityUnavailable,
    Unanswered,
    UnknownInstrument,
)
from canonical_guard.hostlock import HostLock, told_of
from canonical_guard.record import FoundRecord, LockFileRecord
from canonical_guard.switch_file import KillSwitchFile

if TYPE_CHECKING:
    from canonical_guard.client import Authority
    from canonical_guard.lease import Lease

Report = Callable[[str, str], None]
"""Takes a fixed event name and a sentence for people."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a robot asks for; `server` is None for host-only, which alone has a kill switch file."""

    symbol: str
    run_id: str
    root: Path
    server: str | None = None
    api_key: str | None = None
    account: str | None = None
    allow_network: bool = False
    kill_switch: KillSwitchFile | None = None


@dataclass(frozen=True, slots=True)
class HeldMarket:
    """Both guards in one hand; `lease` is None for host-only."""

    run_id: str
    product: symbols.ResolvedSymbol
    host_lock: HostLock
    lease: Lease | None
    found_stale: bool
    kill_switch: KillSwitchFile | None = None

    @property
    def takeover(self) -> bool:
        """The last holder did not leave cleanly: reconcile orders and positions first.

        The authority knows of every host; this host's own marks count where nobody else can tell.
        """
        if self.lease is None:
            return self.host_lock.left_uncleanly
        return self.lease.grant.takeover or self.found_stale

    @property
    def fencing_token(self) -> int | None:
        return None if self.lease is None else self.lease.grant.fencing_token

    def sentence(self) -> str:
        """Who holds what, for people."""
        whose = f"{self.product.canonical_instrument} is held by run {self.run_id}"
        again = " The last holder did not leave cleanly: reconcile." if self.takeover else ""
        if self.lease is None:
            return f"{whose} on this host alone; no other host is kept out.{again}"
        grant = self.lease.grant
        scope = f", account {grant.scope}" if grant.scope else ""
        return (
            f"{whose} ({grant.execution_instrument}{scope}, fencing token "
            f"{grant.fencing_token}).{again}"
        )

    def release(self, reason: str, report: Report) -> None:
        """Give back the lease, then the host lock; `reason` is "clean" or "crashed".

        A lease that cannot be given back is reported and becomes free by itself.
        """
        name = self.product.canonical_instrument
        try:
            if self.lease is not None:
                self.lease.release(reason)
        except Unanswered as exc:
            report(
                "CANONICAL_MARKET_LOCK_FAILED",
                f"The lease of {name} could not be given back ({exc}); it ends by itself.",
            )
        else:
            report("CANONICAL_MARKET_LOCK_RELEASED", f"Run {self.run_id} gave {name} back.")
        finally:
            self.host_lock.release(clean=reason == "clean")

    def release_unused(self, report: Report) -> None:
        """Give both back before any robot ran: who comes next must reconcile as this one had to."""
        self.release("crashed" if self.takeover else "clean", report)


def take_market(wanted: Wanted, report: Report) -> HeldMarket:
    """Take both guards of a market; raises a GuardError, and then holds neither."""
    authority = _authority(wanted)
    product = _resolved(wanted, authority)
    lock = HostLock(wanted.root, product.canonical_instrument, allow_network=wanted.allow_network)
    stale: list[Path] = []

    def note_stale(found: FoundRecord, path: Path) -> None:
        stale.append(path)
        report(
            "CANONICAL_MARKET_LOCK_STALE",
            f"{path} was left behind {told_of(found.active())}, which is gone; going on.",
        )

    record = _record(wanted, product)
    try:
        lock.take(record, note_stale)
    except CanonicalMarketAlreadyActive:
        if authority is not None:
            _tell_of_refusal(authority, _request(wanted, product, lock))
        raise
    lease: Lease | None = None
    try:
        if authority is not None:
            from canonical_guard.lease import acquire

            lease = acquire(authority, _request(wanted, product, lock))
        lock.settle(_settled(record, lease), note_stale)
        if wanted.kill_switch is not None and (why := wanted.kill_switch.engaged_because()):
            raise KillSwitchEngaged(why)
    except BaseException:
        HeldMarket(wanted.run_id, product, lock, lease, bool(stale)).release_unused(_silent)
        raise
    held = HeldMarket(wanted.run_id, product, lock, lease, bool(stale), wanted.kill_switch)
    report("CANONICAL_MARKET_LOCK_ACQUIRED", held.sentence())
    return held


def chosen_run_id(run_id: str | None) -> str:
    """`run_id`, or a fresh one; raises InvalidConfiguration for what no server would take."""
    if run_id is None:
        return uuid.uuid4().hex
    if not run_id or len(run_id) > 128 or not run_id.isprintable():
        raise InvalidConfiguration("A run_id is 1 to 128 printable characters.")
    return run_id


def _silent(event: str, sentence: str) -> None:
    """A refusal tells its own story."""


def _authority(wanted: Wanted) -> Authority | None:
    if wanted.server is None:
        return None
    # Costs a third of the start-up time, which a host-only guard need not pay.
    from canonical_guard.client import Authority

    return Authority(wanted.server, wanted.api_key)


def _resolved(wanted: Wanted, authority: Authority | None) -> symbols.ResolvedSymbol:
    """By the built-in registry; what that does not know, the authority's may."""
    try:
        return symbols.resolve(wanted.symbol)
    except UnknownInstrument:
        if authority is None:
            raise
    why = f"{wanted.symbol!r} is no built-in instrument, and {wanted.server} did not resolve it"
    try:
        answer = authority.get(f"/api/identity/resolve?symbol={quote(wanted.symbol, safe='')}")
    except Unanswered as exc:
        raise LockAuthorityUnavailable(f"{why} ({exc}).") from exc
    execution = answer.body.get("execution_instrument")
    canonical = answer.body.get("canonical_instrument")
    if answer.status == 200 and isinstance(execution, str) and isinstance(canonical, str):
        return symbols.ResolvedSymbol(wanted.symbol, execution, canonical)
    if answer.code == "UNKNOWN_INSTRUMENT":
        raise UnknownInstrument(answer.detail)
    raise LockAuthorityUnavailable(f"{why} ({answer.detail}).")


def _record(wanted: Wanted, product: symbols.ResolvedSymbol) -> LockFileRecord:
    return LockFileRecord(
        run_id=wanted.run_id,
        acquired_at_utc=datetime.now(UTC).isoformat(timespec="microseconds"),
        canonical_instrument=product.canonical_instrument,
        execution_instrument=product.execution_instrument,
        pid=os.getpid(),
        process_start_time=host.process_start_time(),
        boot_id=host.boot_id(),
        host=host.host_name(),
        account=wanted.account,
    )


def _settled(record: LockFileRecord, lease: Lease | None) -> LockFileRecord:
    if lease is None:
        return replace(record, scope="")
    grant = lease.grant
    return replace(
        record,
        execution_instrument=grant.execution_instrument,
        scope=grant.scope,
        fencing_token=grant.fencing_token,
    )


def _request(wanted: Wanted, product: symbols.ResolvedSymbol, lock: HostLock) -> dict[str, Any]:
    request: dict[str, Any] = {
        "execution_instrument": wanted.symbol,
        "canonical_instrument": product.canonical_instrument,
        "run_id": wanted.run_id,
        "nonce": secrets.token_hex(16),
        "host": host.host_name(),
        "boot_id": host.boot_id(),
        "pid": os.getpid(),
        "lock_file_path": str(lock.record_path),
    }
    if wanted.account is not None:
        request["account"] = wanted.account
    return request


def _tell_of_refusal(authority: Authority, request: dict[str, Any]) -> None:
    """Ask the authority too: it says no, and keeps the event that only this host knows of."""
    from canonical_guard.lease import acquire

    try:
        lease = acquire(authority, request)
        lease.release("crashed" if lease.grant.takeover else "clean")
    except (GuardError, Unanswered):
        return
