"""What tells this process from every other one: host, boot and process start."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path


def host_name() -> str:
    """The host's name as it knows it."""
    return socket.gethostname()


def boot_id() -> str:
    """A value that changes with every start of the host; "" where there is none."""
    if sys.platform == "linux":
        try:
            return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        except OSError:
            return ""
    return ""


def process_start_time(pid: int | None = None) -> int | None:
    """When a process started, in clock ticks since boot; None where that is not known.

    Together with the boot id it tells a process from a later one with the same number.
    """
    if sys.platform != "linux":
        return None
    try:
        stat = Path(f"/proc/{os.getpid() if pid is None else pid}/stat").read_bytes()
        return int(stat.rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None
