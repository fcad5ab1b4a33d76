"""A real Chromium in front of a real server. Nothing here touches the database of this process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.server import Server, Template

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Chromium looks for Google's hosts at every start unless it is told not to.
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESK = {"width": 1400, "height": 900}
PHONE = {"width": 390, "height": 844}

# With the kill switch engaged a phone's header has to hold the most.
FILL = """
from locks.kill_switch import set_kill_switch
from tests.watchdog import console_rows
console_rows.everything()
set_kill_switch("", engaged=True, reason="a drill", by="operator")
"""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"no Chromium here; one of {', '.join(NAMES)} must be on the path")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        yield chromium
        chromium.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    fresh = browser.new_context(viewport=DESK)  # type: ignore[arg-type]
    yield fresh
    fresh.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


@pytest.fixture(scope="module")
def full_server(
    server_template: Template, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server with a row of every kind, for tests that change nothing."""
    running = Server(server_template, tmp_path_factory.mktemp("full"))
    filled = running.manage("shell", "-v0", "-c", FILL)
    assert filled.returncode == 0, filled.stderr
    running.start()
    yield running
    running.stop()


def sign_in(page: Page, server: Server, then: str = "/admin/") -> None:
    """Log in by hand and land on `then`."""
    page.goto(f"{server.url}/admin/login/?next={then}")
    page.fill("[name=username]", "operator")
    page.fill("[name=password]", "operator")
    page.click("[type=submit]")
    page.wait_for_url(f"{server.url}{then}")
