"""A command that never outlives who started it: `python -m watchdog_project.leash COMMAND…`.

Its standard input is the leash: when that closes, because the owner let go or was killed, the
command's whole process group is asked to stop, and killed after a grace. Standard library only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress

GRACE_SECONDS = 8.0


def run(command: Sequence[str]) -> int:
    """Run `command` until it ends or the leash is cut; its exit status, 128+n for a signal."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # The owner says stop by closing the pipe; a signal to everybody must not orphan the child.
        # A handler, not SIG_IGN: the child would inherit that and could not be asked to stop.
        signal.signal(number, lambda *_: None)
    child = subprocess.Popen(list(command), stdin=subprocess.DEVNULL, start_new_session=True)
    threading.Thread(target=_stop_when_cut, args=(child,), daemon=True).start()
    status = child.wait()
    _signal_group(child, kill=True)
    return status if status >= 0 else 128 - status


def _stop_when_cut(child: subprocess.Popen[bytes]) -> None:
    while os.read(0, 1024):
        pass
    _signal_group(child, kill=False)
    with suppress(subprocess.TimeoutExpired):
        child.wait(GRACE_SECONDS)
    _signal_group(child, kill=True)


def _signal_group(child: subprocess.Popen[bytes], *, kill: bool) -> None:
    if sys.platform == "win32":
        if child.poll() is None:
            child.terminate()
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL if kill else signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
