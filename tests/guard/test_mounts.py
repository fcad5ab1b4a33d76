"""A lock on a network file system may exclude nobody."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from canonical_guard import mounts
from canonical_guard.errors import LockAuthorityUnavailable
from canonical_guard.hostlock import HostLock
from tests.guard.hostlocks import RECORD, nothing_stale

MOUNTS = r"""
rootfs / rootfs rw 0 0
/dev/sda1 / ext4 rw 0 0
server:/export /mnt/shared nfs4 rw 0 0
server:/other /mnt/with\040blank cifs rw 0 0
/dev/sdb1 /mnt/shared/local ext4 rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/var/lib/watchdog", "ext4"),
        ("/mnt/shared", "nfs4"),
        ("/mnt/shared/deep/below", "nfs4"),
        ("/mnt/sharedish", "ext4"),
        ("/mnt/with blank/x", "cifs"),
        ("/mnt/shared/local/x", "ext4"),
    ],
)
def test_the_innermost_and_latest_mount_says_the_file_system(folder: str, kind: str) -> None:
    assert mounts.type_in_table(folder, MOUNTS) == kind


def test_a_network_file_system_is_refused_unless_allowed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = mounts.type_in_table(os.path.realpath(root.parent), Path("/proc/mounts").read_text())
    assert local is not None
    monkeypatch.setattr(mounts, "NETWORK_TYPES", frozenset({local}))
    with pytest.raises(LockAuthorityUnavailable, match="network file system"):
        HostLock(root, "ES").take(RECORD, nothing_stale)
    allowed = HostLock(root, "ES", allow_network=True)
    allowed.take(RECORD, nothing_stale)
    assert allowed.is_intact()
    allowed.release()


def test_where_the_mounts_cannot_be_read_the_folder_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(folder: Path) -> str | None:
        raise PermissionError(errno.EACCES, "Permission denied", "/proc/self/mounts")

    monkeypatch.setattr(mounts, "network_file_system", unreadable)
    with pytest.raises(LockAuthorityUnavailable, match="cannot be told"):
        HostLock(root, "ES").take(RECORD, nothing_stale)
