"""The pictures of docs/images, taken anew: `python -m tests.browser.screenshots [FOLDER]`.

From a real server with an invented desk, in the system's Chromium; nothing of this installation is
touched.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.browser.conftest import DESK, NAMES, PHONE, QUIET, sign_in
from tests.server import ROOT, Server, Template

FILL = "from tests.browser.showcase import a_desk; a_desk()"
# File, page, is it the phone, is it dark.
PICTURES = (
    ("dashboard", "/admin/", False, False),
    ("dashboard-dark", "/admin/", False, True),
    ("market", "/admin/market/ES/", False, False),
    ("violation", "/admin/identity/violation/1/change/", False, False),
    ("phone", "/admin/", True, False),
)


def main(folder: Path) -> None:
    """Take all six."""
    folder.mkdir(parents=True, exist_ok=True)
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        sys.exit(f"No Chromium here; one of {', '.join(NAMES)} must be on the path.")
    # SQLite, whatever this shell is set to: the leases are kept fresh by hand.
    os.environ.pop("DATABASE_URL", None)
    with tempfile.TemporaryDirectory(prefix="watchdog-pictures-") as made:
        home = Path(made)
        (home / "template").mkdir()
        template = Template(home / "template")
        full, empty = Server(template, home / "full"), Server(template, home / "empty")
        filled = full.manage("shell", "-v0", "-c", FILL)
        if filled.returncode:
            sys.exit(filled.stderr)
        try:
            full.start()
            empty.start()
            with sync_playwright() as playwright:
                chromium = playwright.chromium.launch(executable_path=path, args=list(QUIET))
                for name, address, phone, dark in PICTURES:
                    _take(chromium, full, address, folder / f"{name}.png", phone, dark)
                _take(chromium, empty, "/admin/", folder / "first-steps.png", False, False)
                chromium.close()
        finally:
            full.stop()
            empty.stop()


def _take(
    chromium: Browser, server: Server, address: str, picture: Path, phone: bool, dark: bool
) -> None:
    context = chromium.new_context(
        viewport=PHONE if phone else DESK,  # type: ignore[arg-type]
        color_scheme="dark" if dark else "light",
    )
    page = context.new_page()
    _renew(server.home / "watchdog.sqlite3")
    sign_in(page, server)
    page.goto(f"{server.url}{address}")
    page.wait_for_load_state("networkidle")
    page.screenshot(path=picture)
    context.close()
    print(f"{picture} {picture.stat().st_size // 1024} kB")


def _renew(database: Path) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    with sqlite3.connect(database) as connection:
        connection.execute(
            "UPDATE locks_lockrecord SET renewed_at = ?, expires_at = ? WHERE state = 'HELD'",
            (now.isoformat(" "), (now + timedelta(seconds=15)).isoformat(" ")),
        )
    connection.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images")
