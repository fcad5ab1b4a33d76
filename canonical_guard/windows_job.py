"""Windows: the robot in a Job Object, so that what it starts cannot outlive its keeper.

Written for Windows and type-checked for it, but not yet run there.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

if sys.platform == "win32":
    import ctypes
    import signal
    from ctypes import wintypes

    _KILL_ON_JOB_CLOSE = 0x2000
    _BASIC_ACCOUNTING, _EXTENDED_LIMITS = 1, 9
    _SYNCHRONIZE, _PROCESS_TERMINATE, _WAIT_TIMEOUT = 0x00100000, 0x0001, 0x102
    _kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    _kernel.CreateJobObjectW.restype = wintypes.HANDLE
    _kernel.OpenProcess.restype = wintypes.HANDLE

    class _BasicLimits(ctypes.Structure):
        _fields_ = [
            ("per_process_user_time", ctypes.c_int64),
            ("per_job_user_time", ctypes.c_int64),
            ("limit_flags", wintypes.DWORD),
            ("minimum_working_set", ctypes.c_size_t),
            ("maximum_working_set", ctypes.c_size_t),
            ("active_process_limit", wintypes.DWORD),
            ("affinity", ctypes.c_size_t),
            ("priority_class", wintypes.DWORD),
            ("scheduling_class", wintypes.DWORD),
        ]

    class _ExtendedLimits(ctypes.Structure):
        _fields_ = [
            ("basic", _BasicLimits),
            ("io_counters", ctypes.c_uint64 * 6),
            ("process_memory", ctypes.c_size_t),
            ("job_memory", ctypes.c_size_t),
            ("peak_process_memory", ctypes.c_size_t),
            ("peak_job_memory", ctypes.c_size_t),
        ]

    class _Accounting(ctypes.Structure):
        _fields_ = [
            ("times", ctypes.c_int64 * 4),
            ("page_faults", wintypes.DWORD),
            ("total_processes", wintypes.DWORD),
            ("active_processes", wintypes.DWORD),
            ("terminated_processes", wintypes.DWORD),
        ]

    def _checked(result: int) -> int:
        if not result:
            raise ctypes.WinError(ctypes.get_last_error())
        return result

    class RobotTree:
        """The robot and everything in its job; killed by the system when the last handle goes."""

        def __init__(self, process: subprocess.Popen[bytes], job: int) -> None:
            self.pid = process.pid
            self.returncode: int | None = None
            self._process = process
            self._job = wintypes.HANDLE(job)

        def is_gone(self) -> bool:
            self.returncode = self._process.poll()
            if self.returncode is None:
                return False
            accounting = _Accounting()
            _checked(
                _kernel.QueryInformationJobObject(
                    self._job,
                    _BASIC_ACCOUNTING,
                    ctypes.byref(accounting),
                    ctypes.sizeof(accounting),
                    None,
                )
            )
            return bool(accounting.active_processes == 0)

        def send(self, signum: int) -> None:
            self.ask_to_stop()

        def ask_to_stop(self) -> None:
            if self._process.poll() is None:
                self._process.send_signal(signal.CTRL_BREAK_EVENT)

        def kill(self) -> None:
            _kernel.TerminateJobObject(self._job, 1)

    def start_robot(
        command: list[str],
        *,
        dies_with_keeper: bool,
        held: int = -1,
        environment: Mapping[str, str] | None = None,
    ) -> RobotTree:
        """Start the robot in a process group and a job of its own; raises OSError.

        `held` is for systems whose locks pass to children.
        """
        job = _checked(_kernel.CreateJobObjectW(None, None))
        limits = _ExtendedLimits()
        limits.basic.limit_flags = _KILL_ON_JOB_CLOSE if dies_with_keeper else 0
        _checked(
            _kernel.SetInformationJobObject(
                wintypes.HANDLE(job), _EXTENDED_LIMITS, ctypes.byref(limits), ctypes.sizeof(limits)
            )
        )
        process = subprocess.Popen(
            command, env=environment, creationflags=subprocess.CREATE_NEW_PROCESS_GROUP
        )
        handle = wintypes.HANDLE(int(process._handle))  # type: ignore[attr-defined]
        if not _kernel.AssignProcessToJobObject(wintypes.HANDLE(job), handle):
            error = ctypes.WinError(ctypes.get_last_error())
            process.kill()
            raise error
        return RobotTree(process, job)

    class ParentProcess:
        """In library use: the process that we are a child of."""

        def __init__(self, pid: int) -> None:
            self.pid = pid
            self.returncode: int | None = None
            rights = _SYNCHRONIZE | _PROCESS_TERMINATE
            self._handle = wintypes.HANDLE(_checked(_kernel.OpenProcess(rights, False, pid)))

        def is_gone(self) -> bool:
            return bool(_kernel.WaitForSingleObject(self._handle, 0) != _WAIT_TIMEOUT)

        def send(self, signum: int) -> None:
            """Its signals are its own."""

        def ask_to_stop(self) -> None:
            """It is told by `on_lost`, in its own process."""

        def kill(self) -> None:
            _kernel.TerminateProcess(self._handle, 70)
