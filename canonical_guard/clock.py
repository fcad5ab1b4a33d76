"""The holder's own clock: seconds that go on in suspend and mean the same in every process here."""

from __future__ import annotations

import sys
import time

if sys.platform == "win32":
    import ctypes

    _tick_count = ctypes.windll.kernel32.GetTickCount64
    _tick_count.restype = ctypes.c_ulonglong

    def now() -> float:
        """Seconds since the host started, time asleep included."""
        return float(_tick_count()) / 1000.0

else:
    # Python's monotonic() stands still while the machine sleeps; a lease does not.
    # On macOS it is CLOCK_MONOTONIC that counts the time asleep.
    _CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def now() -> float:
        """Seconds since the host started, time asleep included."""
        return time.clock_gettime(_CLOCK)
