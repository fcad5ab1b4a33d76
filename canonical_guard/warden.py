"""The last watch over a robot's process group, which ends it when guard and keeper are killed.

A fork of the keeper that joins the robot's group and waits until the keeper's end of a pipe closes.
Being in the group it holds the group's number, so that no stranger can be given it, and with the
inherited descriptor the host's lock, until the group is dead. POSIX only; Windows has Job Objects.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

if sys.platform == "win32":
    raise ImportError("There are no process groups to watch over here; see windows_job.")

_LEAVE = b"x"


class Warden:
    """The keeper's end; its process is `pid`, a child of the keeper."""

    def __init__(self, pid: int, pipe: int) -> None:
        self.pid = pid
        self._pipe = pipe

    @classmethod
    def start(cls, group: int, held: int) -> Warden | None:
        """Watch over `group`; `held` is a descriptor to keep open, or -1.

        None where there can be none. Call it while there is only one thread.
        """
        try:
            theirs, ours = os.pipe()
        except OSError:
            return None
        try:
            pid = os.fork()
        except OSError:
            os.close(theirs)
            os.close(ours)
            return None
        if pid == 0:
            _watch(group, theirs, held)
        os.close(theirs)
        return cls(pid, ours)

    def dismiss(self) -> None:
        """Nothing is left to watch over; again and again."""
        if self._pipe >= 0:
            pipe, self._pipe = self._pipe, -1
            try:
                os.write(pipe, _LEAVE)
            except OSError:
                return
            finally:
                os.close(pipe)

    def is_alone(self) -> bool:
        """Whether the calling process, its keeper, has no other child; in doubt it has."""
        if sys.platform != "linux":
            return False
        try:
            children = [
                child
                for task in Path("/proc/self/task").iterdir()
                for child in (task / "children").read_bytes().split()
            ]
        except OSError:
            return False
        return children == [b"%d" % self.pid]


def _watch(group: int, pipe: int, held: int) -> NoReturn:
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        os.setpgid(0, group)
        # Nobody who reads what the robot writes shall wait for this process.
        for descriptor in _open_descriptors():
            if descriptor not in (pipe, held):
                _close(descriptor)
        if os.read(pipe, 1) != _LEAVE:
            os.killpg(group, signal.SIGKILL)
    finally:
        os._exit(0)


def _open_descriptors() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/dev/fd")]  # noqa: PTH208
    except OSError:
        return list(range(os.sysconf("SC_OPEN_MAX")))


def _close(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError:
        return
