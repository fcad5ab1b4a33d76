"""The guard's end of its keeper: start it, push its deadline forward, hear what it says."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from canonical_guard import wire
from canonical_guard.errors import LockAuthorityUnavailable
from canonical_guard.renewals import Renewals
from canonical_guard.taking import HeldMarket

DEFAULT_KILL_GRACE = 2.0
_BOOT = (
    # Behind the standard library: a site-packages folder may shadow parts of it.
    "import sys; sys.path.append(sys.argv[1]); "
    "from canonical_guard.keeper import main; sys.exit(main(int(sys.argv[2]), int(sys.argv[3])))"
)


def errand_for(
    command: list[str] | None, renewals: Renewals | None, *, ends_robot: bool
) -> wire.Errand:
    """What to tell the keeper; without `renewals` (nothing is held) it only runs the command."""
    if renewals is None:
        return wire.Errand(command, ends_robot, os.getpid(), DEFAULT_KILL_GRACE)
    held: HeldMarket = renewals.held
    where: dict[str, Any] = {
        "sidecar": str(held.host_lock.sidecar_path),
        "descriptor": -1 if sys.platform == "win32" else held.host_lock.descriptor,
        "record": str(held.host_lock.record_path),
        "run_id": held.run_id,
    }
    if held.lease is None:
        return wire.Errand(command, ends_robot, os.getpid(), DEFAULT_KILL_GRACE, **where)
    terms, authority = held.lease.grant.terms, held.lease.authority
    return wire.Errand(
        command,
        ends_robot,
        os.getpid(),
        kill_grace=terms.kill_after - terms.stop_after,
        stop_after=terms.stop_after,
        # A library's process ends itself at kill time; the keeper comes after it, before the TTL.
        kill_after=terms.kill_after
        + (min(0.5, (terms.ttl - terms.kill_after) / 4) if command is None else 0.0),
        ttl=terms.ttl,
        renewed_at=renewals.renewed_at,
        server=authority.server,
        api_key=authority.api_key,
        identity=held.lease.grant.identity(),
        **where,
    )


class KeeperLink:
    """A running keeper. Its messages go to `hear`, from a thread; its end is `{"gone": True}`."""

    def __init__(
        self,
        errand: wire.Errand,
        hear: Callable[[dict[str, Any]], object],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._hear = hear
        self._sending = threading.Lock()
        their_down, self._down = os.pipe()
        self._up, their_up = os.pipe()
        passed = [their_down, their_up]
        if errand.descriptor >= 0:
            passed.append(errand.descriptor)
        try:
            self.process = _spawn(their_down, their_up, passed, errand, environment)
        except (OSError, ValueError) as exc:
            os.close(self._down)
            os.close(self._up)
            raise LockAuthorityUnavailable(f"The keeper could not be started: {exc}.") from exc
        finally:
            os.close(their_down)
            os.close(their_up)
        wire.write_message(self._down, errand.message())
        # A keeper that does not read must not hold up a renewal.
        if sys.platform != "win32":
            os.set_blocking(self._down, False)
        threading.Thread(target=self._listen, name="canonical-guard-keeper", daemon=True).start()

    def renewed(self, sent_at: float) -> None:
        self._send({"renewed_at": sent_at})

    def signal(self, number: int) -> None:
        self._send({"signal": number})

    def stop(self) -> None:
        """End the robot: stop now, kill after its time to flatten."""
        self._send({"stop": True})

    def done(self) -> None:
        """The market is given back, or will be by us; the keeper leaves."""
        self._send({"done": True})
        with self._sending:
            if self._down >= 0:
                os.close(self._down)
                self._down = -1
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _send(self, message: dict[str, Any]) -> None:
        with self._sending:
            if self._down >= 0:
                wire.write_message(self._down, message)

    def _listen(self) -> None:
        try:
            for message in wire.read_messages(self._up):
                self._hear(message)
        except (OSError, ValueError):
            pass  # what cannot be read is no keeper
        self._hear({"gone": True})


def _spawn(
    down: int,
    up: int,
    passed: list[int],
    errand: wire.Errand,
    environment: Mapping[str, str] | None,
) -> subprocess.Popen[bytes]:
    if not sys.executable:
        raise ValueError("this Python does not know its own interpreter (sys.executable is empty)")
    package_root = str(Path(__file__).resolve().parent.parent)
    options: dict[str, Any] = {"env": environment}
    if errand.command is None:
        # A keeper that holds the robot's output open would keep its reader waiting.
        options |= {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    if sys.platform == "win32":
        import msvcrt

        handles = [msvcrt.get_osfhandle(number) for number in passed]
        for handle in handles:
            os.set_handle_inheritable(handle, True)
        options["startupinfo"] = subprocess.STARTUPINFO(lpAttributeList={"handle_list": handles})
        options["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP
        numbers = [str(handle) for handle in handles[:2]]
    else:
        options |= {"pass_fds": passed, "start_new_session": True}
        numbers = [str(down), str(up)]
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _BOOT, package_root, *numbers], **options
    )
