"""The lock of the operating system that excludes, on a file that is never deleted.

Not O_EXCL, which is stale after a crash; not POSIX locks, which are gone when any descriptor of
the file is closed.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    _FLAGS = os.O_RDWR | os.O_CREAT | os.O_BINARY | os.O_NOINHERIT
    # Far behind the content, because a locked byte cannot be written by anybody else.
    _GUARDS_BYTE, _KEEPERS_BYTE = 1 << 30, (1 << 30) + 1

    def _lock_byte(descriptor: int, offset: int) -> bool:
        os.lseek(descriptor, offset, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as exc:
            if exc.errno in (errno.EACCES, errno.EDEADLK):
                return False
            raise
        return True

    def _unlock_byte(descriptor: int, offset: int) -> None:
        os.lseek(descriptor, offset, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

    def _lock(descriptor: int) -> bool:
        """Locks do not pass to a child here, so a keeper holds a byte of its own meanwhile."""
        if not _lock_byte(descriptor, _GUARDS_BYTE):
            return False
        if not _lock_byte(descriptor, _KEEPERS_BYTE):
            _unlock_byte(descriptor, _GUARDS_BYTE)
            return False
        _unlock_byte(descriptor, _KEEPERS_BYTE)
        return True

    def _unlock(descriptor: int) -> None:
        for offset in (_GUARDS_BYTE, _KEEPERS_BYTE):
            try:
                _unlock_byte(descriptor, offset)
            except OSError:
                continue

    def _held_elsewhere(descriptor: int) -> bool:
        if _lock(descriptor):
            _unlock_byte(descriptor, _GUARDS_BYTE)
            return False
        return True

else:
    import fcntl

    # O_NONBLOCK: a device or pipe in the file's place must not make us wait.
    _FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

    def _flock(descriptor: int, operation: int) -> bool:
        try:
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _lock(descriptor: int) -> bool:
        return _flock(descriptor, fcntl.LOCK_EX)

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)

    def _held_elsewhere(descriptor: int) -> bool:
        """Asked with a shared lock of a moment; who takes the lock tries more than once."""
        return not _flock(descriptor, fcntl.LOCK_SH)


class OsLock:
    """One sidecar file and this process's descriptor of it. Raises OSError throughout."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor

    @classmethod
    def open(cls, path: Path) -> OsLock:
        """The sidecar at `path`, made where it is missing, not yet locked."""
        descriptor = os.open(path, _FLAGS, 0o600)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return cls(path, descriptor)

    def take(self) -> bool:
        """Lock it now; False where somebody else holds it."""
        return _lock(self.descriptor)

    def take_over(self) -> None:
        """In a keeper that got the descriptor: hold the lock for as long as this process lives."""
        if sys.platform == "win32":
            _lock_byte(self.descriptor, _KEEPERS_BYTE)

    def is_intact(self) -> bool:
        """Whether the path still names the very file that is locked; never raises."""
        try:
            ours, there = os.fstat(self.descriptor), os.lstat(self.path)
        except OSError:
            return False
        return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)

    def is_marked(self) -> bool:
        """Whether the last holder left the mark in the file: it did not leave cleanly."""
        return os.fstat(self.descriptor).st_size > 0

    def mark(self) -> None:
        """Leave a mark that only a clean end removes."""
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        os.write(self.descriptor, b"held\n")

    def unmark(self) -> None:
        os.ftruncate(self.descriptor, 0)

    def unlock(self) -> None:
        """Let others in, for every process that shares the descriptor, and close it."""
        if self.descriptor < 0:
            return
        try:
            _unlock(self.descriptor)
        finally:
            self.close()

    def close(self) -> None:
        """Close this process's descriptor; a process that shares it goes on holding the lock."""
        if self.descriptor >= 0:
            descriptor, self.descriptor = self.descriptor, -1
            os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether some process holds the sidecar at `path`; raises OSError but for a missing file."""
    try:
        descriptor = os.open(path, _FLAGS & ~os.O_CREAT)
    except FileNotFoundError:
        return False
    try:
        return _held_elsewhere(descriptor)
    finally:
        os.close(descriptor)
