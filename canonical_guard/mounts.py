"""Is a folder on a network file system? There an OS lock may exclude nobody."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

# 9p and FUSE are judged by name: FUSE as such can be perfectly local.
# fmt: off
NETWORK_TYPES = frozenset(
    (
        "9p", "acfs", "afpfs", "afs", "beegfs", "ceph", "cifs", "coda", "cvmfs", "davfs",
        "fuse.ceph", "fuse.cephfs", "fuse.curlftpfs", "fuse.davfs2", "fuse.gcsfuse",
        "fuse.glusterfs", "fuse.goofys", "fuse.juicefs", "fuse.mfs", "fuse.rclone", "fuse.s3fs",
        "fuse.smbnetfs", "fuse.sshfs", "fuse.vmhgfs-fuse", "gfs2", "glusterfs", "gpfs", "lustre",
        "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "pvfs2", "smb3", "smbfs", "vboxsf",
        "virtiofs", "webdav",
    )
)
# fmt: on
_OCTAL = re.compile(r"\\([0-7]{3})")


def network_file_system(folder: Path) -> str | None:
    """The type of the network file system that `folder` lies on; None where it is local.

    Raises OSError where the host does not tell.
    """
    return _network_type(Path(os.path.realpath(folder)))


def type_in_table(folder: str, table: str) -> str | None:
    """The file system type of `folder` by a table in the form of /proc/self/mounts."""
    best, kind = -1, None
    for line in table.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[1])
        inside = folder == point or folder.startswith(point.rstrip("/") + "/")
        # A later line with the same mount point lies on top of the earlier one.
        if inside and len(point) >= best:
            best, kind = len(point), fields[2]
    return kind


if sys.platform == "win32":
    import ctypes

    _DRIVE_REMOTE = 4

    def _network_type(folder: Path) -> str | None:
        if str(folder).startswith("\\\\") and not str(folder).startswith("\\\\?\\"):
            return "network share"
        kind = ctypes.windll.kernel32.GetDriveTypeW(folder.anchor)
        return "network drive" if kind == _DRIVE_REMOTE else None

elif sys.platform == "linux":

    def _network_type(folder: Path) -> str | None:
        # Mount points are bytes; latin-1 gives every byte one character, as the escapes do.
        table = Path("/proc/self/mounts").read_text("latin-1")
        kind = type_in_table(os.fsencode(folder).decode("latin-1"), table)
        return kind if kind in NETWORK_TYPES else None

else:
    _MOUNT_LINE = re.compile(r".* on (?P<point>/.*) \((?P<type>[^,)]+)")

    def _network_type(folder: Path) -> str | None:
        said = subprocess.run(
            ["/sbin/mount"], capture_output=True, text=True, timeout=5, check=False
        )
        rows = (_MOUNT_LINE.match(line) for line in said.stdout.splitlines())
        table = "\n".join(
            f"- {row['point'].replace(' ', chr(92) + '040')} {row['type']}" for row in rows if row
        )
        kind = type_in_table(str(folder), table)
        return kind if kind in NETWORK_TYPES else None
