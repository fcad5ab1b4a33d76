"""Where the lock files of a host lie: one folder, whatever the working directory."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from canonical_guard.errors import InvalidConfiguration

ENVIRONMENT_VARIABLE = "WATCHDOG_PROJECT_ROOT"
LOCKS_FOLDER = "runtime_locks"


def project_root(chosen: str | os.PathLike[str] | None = None) -> Path:
    """The folder whose `runtime_locks` is used, absolute; it need not exist yet.

    `chosen`, else the environment's WATCHDOG_PROJECT_ROOT, else one folder of the host. Two robots
    exclude each other on a host only if they use the same one.
    """
    text = os.fspath(chosen) if chosen is not None else os.environ.get(ENVIRONMENT_VARIABLE, "")
    if "\0" in text:
        raise InvalidConfiguration("The project root's name contains a zero byte.")
    if text:
        return Path(os.path.abspath(text))  # noqa: PTH100 resolve() would follow links
    if chosen is not None:
        raise InvalidConfiguration("The project root must not be empty.")
    return _default()


def locks_folder(root: Path) -> Path:
    """The folder of lock files below a project root."""
    return root / LOCKS_FOLDER


if sys.platform == "win32":

    def _default() -> Path:
        return Path(os.environ.get("PROGRAMDATA", r"C:\ProgramData")) / "Watchdog"

else:

    def _default() -> Path:
        """The host's shared folder where this user may write to it, else the user's own.

        From the password database, not from $HOME or $XDG_STATE_HOME: those differ between a
        shell, cron and a service, and two roots are no exclusion.
        """
        import pwd

        mac = sys.platform == "darwin"
        shared = Path("/Library/Application Support/Watchdog" if mac else "/var/lib/watchdog")
        if os.geteuid() == 0 or os.access(shared, os.W_OK | os.X_OK):
            return shared
        try:
            home = Path(pwd.getpwuid(os.geteuid()).pw_dir)
        except KeyError:
            raise InvalidConfiguration(
                f"User {os.geteuid()} has no home folder; name a folder with --project-root or "
                f"{ENVIRONMENT_VARIABLE}."
            ) from None
        return home / ("Library/Application Support/Watchdog" if mac else ".local/state/watchdog")
