"""The host's own lock on a canonical market: an OS lock, and a record that people can read.

Guards this host under this project root alone. A folder deleted by hand takes the exclusion with
it; the holder notices (`is_intact`), a newcomer in between does not.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from canonical_guard import mounts
from canonical_guard.errors import (
    CanonicalMarketAlreadyActive,
    InvalidConfiguration,
    LockAuthorityUnavailable,
)
from canonical_guard.oslock import OsLock, is_held
from canonical_guard.project_root import locks_folder
from canonical_guard.record import (
    FoundRecord,
    LockFileRecord,
    lock_name,
    read_record,
    write_record,
)

ALLOW_NETWORK_VARIABLE = "WATCHDOG_ALLOW_NETWORK_FILE_SYSTEM"
_TRIES, _PAUSE = 5, 0.03
_SCOPE_KNOWN_WITHIN = 6.0

NoteStale = Callable[[FoundRecord, Path], None]


class HostLock:
    """One market's lock below one project root; `take`, then `settle`, at last `release`."""

    def __init__(self, root: Path, market: str, *, allow_network: bool = False) -> None:
        self.folder = locks_folder(root)
        self.market = market
        self._allow_network = allow_network
        self._lock: OsLock | None = None
        self._name = lock_name(market)
        self.record: LockFileRecord | None = None
        self.left_uncleanly = False
        """After `take`: whether the last holder on this host crashed, or was killed."""

    @property
    def record_path(self) -> Path:
        """The readable record, `runtime_locks/canonical_ES.lock` or `canonical_ES@ACCOUNT.lock`."""
        return self._record_path(self._name)

    @property
    def sidecar_path(self) -> Path:
        return self._sidecar_path(self._name)

    @property
    def descriptor(self) -> int:
        """The descriptor that carries the lock, for a keeper to inherit; -1 when not held."""
        return -1 if self._lock is None else self._lock.descriptor

    def take(self, record: LockFileRecord, note_stale: NoteStale) -> None:
        """Lock the market on this host and say so in its record; a dead holder's is noted.

        Raises CanonicalMarketAlreadyActive where another holds it, LockAuthorityUnavailable where
        nobody can tell. The record's scope stays None until `settle`: who comes now with an
        account waits for it, because the market may turn out to be another account's only.
        """
        try:
            self._prepare_folder()
            self._lock = self._locked(self._name, patient=record.account is not None)
            self._take_record(self._lock, self._name, record, note_stale)
        except OSError as exc:
            self.release(clean=False)
            raise self._unavailable(exc) from exc
        except BaseException:
            self.release(clean=False)
            raise

    def settle(self, record: LockFileRecord, note_stale: NoteStale) -> None:
        """Write down what the authority granted; for a scope, go on with that account's lock.

        Raises like `take`; the caller then releases.
        """
        try:
            if record.scope:
                self._narrow(record, note_stale)
            else:
                self._refuse_beside_accounts()
                self._write(record)
        except OSError as exc:
            raise self._unavailable(exc) from exc

    def is_intact(self) -> bool:
        """Whether the lock still excludes anybody: its path names the file that is locked."""
        return self._lock is not None and self._lock.is_intact()

    def refresh(self) -> None:
        """Renew the record's time, and the record where it is missing or unreadable.

        Raises OSError where that fails (the lock itself is untouched by it), and
        CanonicalMarketAlreadyActive where another run's record has taken its place: software
        that knows no OS lock believes that the market is its own.
        """
        if self.record is None:
            return
        found = read_record(self.record_path)
        if found is not None and found.fields.get("run_id") == self.record.run_id:
            os.utime(self.record_path)
        elif found is not None and found.fields.get("run_id"):
            raise self._already_active(found)
        else:
            write_record(self.record_path, self.record)

    def release(self, *, clean: bool = True) -> None:
        """Remove the record, then let others in; again and again. Never raises OSError.

        Not `clean`: the next holder finds `left_uncleanly`.
        """
        lock, self._lock = self._lock, None
        if lock is None:
            return
        run_id = None if self.record is None else self.record.run_id
        self.record = None
        InheritedLock(lock, self.record_path, run_id).release(clean=clean)

    def _prepare_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._allow_network:
            return
        hint = f"set {ALLOW_NETWORK_VARIABLE}=1 if its locks are known to exclude other hosts"
        try:
            kind = mounts.network_file_system(self.folder)
        except (OSError, ValueError) as exc:
            raise LockAuthorityUnavailable(
                f"Whether {self.folder} is on a network file system cannot be told ({exc}); "
                f"choose another project root, or {hint}."
            ) from exc
        if kind is not None:
            raise LockAuthorityUnavailable(
                f"{self.folder} is on a network file system ({kind}), where a lock may exclude "
                f"nobody; choose a local project root, or {hint}."
            )

    def _locked(self, name: str, *, patient: bool) -> OsLock:
        """The sidecar of `name`, locked and in its place; raises CanonicalMarketAlreadyActive."""
        path = self._sidecar_path(name)
        started, tries = time.monotonic(), 0
        while True:
            lock = OsLock.open(path)
            try:
                # Between open and lock somebody may have put another file in its place.
                if lock.take() and lock.is_intact():
                    return lock
                lock.close()
            except BaseException:
                lock.close()
                raise
            tries += 1
            found = read_record(self._record_path(name))
            undecided = (
                found is not None and found.by_protocol and found.fields.get("scope") is None
            )
            waited = time.monotonic() - started
            # `status` asks with a lock of a moment, and a holder may be about to write its record.
            if tries >= _TRIES and not (patient and undecided and waited < _SCOPE_KNOWN_WITHIN):
                raise self._already_active(found)
            time.sleep(_PAUSE)

    def _take_record(
        self, lock: OsLock, name: str, record: LockFileRecord, note_stale: NoteStale
    ) -> None:
        path = self._record_path(name)
        found = read_record(path)
        if found is not None:
            if found.counts_as_active:
                raise self._already_active(found, path)
            note_stale(found, path)
        self.left_uncleanly = found is not None or lock.is_marked()
        self._name = name
        self._write(record)
        lock.mark()

    def _write(self, record: LockFileRecord) -> None:
        write_record(self.record_path, record)
        self.record = record

    def _narrow(self, record: LockFileRecord, note_stale: NoteStale) -> None:
        """From the whole market's lock to one account's; never without one of the two."""
        narrow_name = lock_name(self.market, record.scope or "")
        market_lock, market_record, ours = self._lock, self.record_path, self.record
        if market_lock is None or ours is None:
            raise InvalidConfiguration("Only a host lock that is held can be settled.")
        narrow_lock = self._locked(narrow_name, patient=False)
        try:
            self._take_record(narrow_lock, narrow_name, record, note_stale)
        except BaseException:
            narrow_lock.unlock()
            raise
        self._lock = narrow_lock
        InheritedLock(market_lock, market_record, ours.run_id).release(clean=True)

    def _refuse_beside_accounts(self) -> None:
        """A market that is exclusive everywhere does not start beside one account's run of it."""
        prefix = f".canonical_{self._name}@"
        for entry in sorted(self.folder.iterdir()):
            if not (entry.name.startswith(prefix) and entry.name.endswith(".guard")):
                continue
            if is_held(entry):
                name = entry.name.removeprefix(".canonical_").removesuffix(".guard")
                raise self._already_active(read_record(self._record_path(name)))

    def _already_active(
        self, found: FoundRecord | None, legacy: Path | None = None
    ) -> CanonicalMarketAlreadyActive:
        active = {} if found is None else found.active()
        message = f"{self.market} is already executed on this host {told_of(active)}"
        if legacy is not None and found is not None:
            message = (
                f"{legacy} was written {max(found.age, 0):.0f} s ago by software that holds no OS "
                f"lock, so {self.market} counts as executed {told_of(active)}; stop it, or wait "
                "until the file is 10 minutes old"
            )
        return CanonicalMarketAlreadyActive(f"{message}; nothing was started.", active)

    def _unavailable(self, exc: OSError) -> LockAuthorityUnavailable:
        what = exc.strerror or str(exc)
        return LockAuthorityUnavailable(
            f"The host lock of {self.market} below {self.folder} cannot be taken "
            f"({what}: {exc.filename or self.sidecar_path}); make that folder usable or choose "
            "another with --project-root."
        )

    def _record_path(self, name: str) -> Path:
        return self.folder / f"canonical_{name}.lock"

    def _sidecar_path(self, name: str) -> Path:
        return self.folder / f".canonical_{name}.guard"


class InheritedLock:
    """A held OS lock with its record, as the last one to leave gives them up."""

    def __init__(self, lock: OsLock, record_path: Path, run_id: str | None) -> None:
        self._lock = lock
        self._record_path = record_path
        self._run_id = run_id

    def take_over(self) -> None:
        self._lock.take_over()

    def release(self, *, clean: bool) -> None:
        """Remove the record if it is this run's and the lock still protects it; then unlock."""
        try:
            if self._run_id is not None and self._lock.is_intact():
                if clean:
                    self._lock.unmark()
                found = read_record(self._record_path)
                if found is not None and found.fields.get("run_id") == self._run_id:
                    self._record_path.unlink(missing_ok=True)
        except OSError:
            pass  # a record that stays is stale to the next holder
        finally:
            # Closed is unlocked too, as soon as nobody else shares it.
            with contextlib.suppress(OSError):
                self._lock.unlock()


def told_of(active: dict[str, object]) -> str:
    """`by run R on host H (MES, since T)`, as far as it is known."""
    run, host = active.get("run_id"), active.get("host")
    details = [str(active["execution_instrument"])] if active.get("execution_instrument") else []
    if active.get("since"):
        details.append(f"since {active['since']}")
    return (
        (f"by run {run}" if run else "by a run that is not named")
        + (f" on host {host}" if host else "")
        + (f" ({', '.join(details)})" if details else "")
    )
