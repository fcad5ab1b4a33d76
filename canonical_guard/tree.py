"""The robot and everything it started, as whoever must end it sees it.

On Linux a sub-reaper: what the robot leaves behind becomes our child, so that nothing of it can
hide. Elsewhere on POSIX its process group is all that can be reached. On Windows see windows_job.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


class Subject(Protocol):
    """What a keeper watches and, when time is up, ends."""

    returncode: int | None
    """The robot's own status once it is known; negative for a signal."""

    def is_gone(self) -> bool:
        """Whether nothing of it is left; reaps what has ended."""

    def send(self, signum: int) -> None:
        """Pass a signal on, as a terminal would."""

    def ask_to_stop(self) -> None: ...

    def kill(self) -> None:
        """To be repeated until nothing is left."""


if sys.platform == "win32":
    from canonical_guard.windows_job import ParentProcess as ParentProcess
    from canonical_guard.windows_job import RobotTree as RobotTree
    from canonical_guard.windows_job import start_robot as start_robot

    def become_subreaper() -> None:
        """Windows has Job Objects instead."""

    def orphaned_by_keeper(pid: int) -> RobotTree | None:
        """The system ended it when the keeper's handle on its job went."""
        return None

else:
    from canonical_guard.warden import Warden

    _PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36

    def _prctl(option: int, value: int) -> None:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        unsigned = [ctypes.c_ulong(number) for number in (value, 0, 0, 0)]
        if libc.prctl(ctypes.c_int(option), *unsigned) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def become_subreaper() -> None:
        """Become the parent of whatever our descendants leave behind; Linux alone knows how."""
        if sys.platform == "linux":
            _prctl(_PR_SET_CHILD_SUBREAPER, 1)

    @dataclass(frozen=True, slots=True)
    class _Process:
        pid: int
        parent: int
        group: int
        started: bytes

    def _read_process(pid: int) -> _Process | None:
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            return None
        fields = stat.rpartition(b")")[2].split()
        return _Process(pid, int(fields[1]), int(fields[2]), fields[19])

    def _descendants(root: int) -> list[_Process]:
        """Every process below `root`; empty where /proc does not tell."""
        try:
            pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208
        except OSError:
            return []
        children: dict[int, list[_Process]] = {}
        for process in map(_read_process, pids):
            if process is not None:
                children.setdefault(process.parent, []).append(process)
        found, queue = [], [root]
        while queue:
            below = children.get(queue.pop(), [])
            found += below
            queue += [process.pid for process in below]
        return found

    def _signal(process: _Process, signum: int) -> None:
        """Signal this process, not a later one that was given its number meanwhile."""
        now = _read_process(process.pid)
        if now is not None and now.started == process.started:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, signum)

    class RobotTree:
        """The tree that hangs below this process, whose head is the robot `pid`."""

        def __init__(self, pid: int, warden: Warden | None = None) -> None:
            self.pid = pid
            self._warden = warden
            self.returncode: int | None = None

        def is_gone(self) -> bool:
            while True:
                try:
                    pid, status = os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    # As a sub-reaper, to have no child is to have no descendant.
                    return self._adopts_all() or not self._group_is_there()
                if pid == 0:
                    self._dismiss_warden()
                    return False
                if pid == self.pid:
                    self.returncode = os.waitstatus_to_exitcode(status)

        def send(self, signum: int) -> None:
            # Once the robot is reaped its number may be given to a stranger.
            if self.returncode is None or not self._adopts_all():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.pid, signum)

        def ask_to_stop(self) -> None:
            for signum in (signal.SIGTERM, signal.SIGCONT):
                self._send_to_all(signum)

        def kill(self) -> None:
            self._send_to_all(signal.SIGKILL)

        def _send_to_all(self, signum: int) -> None:
            self.send(signum)
            for process in _descendants(os.getpid()):
                if process.group != self.pid or self.returncode is not None:
                    _signal(process, signum)

        def _dismiss_warden(self) -> None:
            """Where it is the last one left; it ends by itself, and then is_gone sees it."""
            if self._warden is None or self.returncode is None:
                return
            if self._warden.is_alone() or not self._adopts_all():
                self._warden.dismiss()

        def _adopts_all(self) -> bool:
            return sys.platform == "linux"

        def _group_is_there(self) -> bool:
            try:
                os.killpg(self.pid, 0)
            except ProcessLookupError:
                return False
            except PermissionError:
                return True
            return True

    def orphaned_by_keeper(pid: int) -> RobotTree | None:
        """The robot whose keeper died; on Linux it is a child of the guard now, a sub-reaper."""
        return RobotTree(pid)

    def start_robot(
        command: list[str],
        *,
        dies_with_keeper: bool,
        held: int = -1,
        environment: Mapping[str, str] | None = None,
    ) -> RobotTree:
        """Start the robot in a process group of its own; raises OSError where it cannot start.

        With `dies_with_keeper` a warden ends the group when the calling process is killed, and
        on Linux the kernel ends the robot itself with the calling *thread*, which therefore must
        be the main one. The warden keeps the descriptor `held` open. Call it while there is only
        that thread.
        """
        keeper = os.getpid()

        def tie_to_keeper() -> None:
            if sys.platform == "linux" and dies_with_keeper:
                _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() != keeper:
                    os._exit(1)

        options: dict[str, Any] = {"preexec_fn": tie_to_keeper, "process_group": 0}
        robot = subprocess.Popen(command, env=environment, **options)
        tree = RobotTree(robot.pid, Warden.start(robot.pid, held) if dies_with_keeper else None)
        # The tree reaps it; Popen need not know.
        robot.returncode = 0
        return tree

    class ParentProcess:
        """In library use: the process that we are a child of."""

        def __init__(self, pid: int) -> None:
            self.pid = pid
            self.returncode: int | None = None

        def is_gone(self) -> bool:
            return os.getppid() != self.pid

        def send(self, signum: int) -> None:
            """Its signals are its own."""

        def ask_to_stop(self) -> None:
            """It is told by `on_lost`, in its own process."""

        def kill(self) -> None:
            if not self.is_gone():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(self.pid, signal.SIGKILL)
