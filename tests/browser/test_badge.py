"""The badge as an operator sees it: true within seconds, and honest when it cannot know."""

from __future__ import annotations

import os
import re
import signal
import time
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.conftest import sign_in
from tests.browser.robot import report_incomplete_order
from tests.server import Server

pytestmark = pytest.mark.browser

RED_WITHIN = 6_000
UNREACHABLE_WITHIN = 20_000


def look(page: Page, name: str, within: int = 5_000) -> None:
    expect(page.locator("#watchdog-badge")).to_have_attribute("data-look", name, timeout=within)


def test_it_turns_red_within_six_seconds_of_a_violation(page: Page, server: Server) -> None:
    sign_in(page, server)
    look(page, "unknown")
    icon_before = page.locator('link[rel="icon"]').get_attribute("href")

    report_incomplete_order(server)

    look(page, "violation", RED_WITHIN)
    expect(page.locator(".wd-badge-label")).to_have_text("IDENTITY VIOLATION")
    expect(page).to_have_title(re.compile("^✖ VIOLATION"))
    assert page.locator('link[rel="icon"]').get_attribute("href") != icon_before
    expect(page.locator("#watchdog-badge [aria-live=polite]")).to_have_text("IDENTITY VIOLATION")


def test_pointing_at_it_lists_the_violations_and_following_it_leads_to_them(
    page: Page, server: Server
) -> None:
    report_incomplete_order(server)
    sign_in(page, server)
    panel = page.locator("#watchdog-badge-panel")
    expect(panel).to_be_hidden()

    page.locator(".wd-badge-face").hover()

    expect(panel).to_be_visible()
    expect(panel.locator("li")).not_to_have_count(0)
    page.locator(".wd-badge-face").press("Enter")
    page.wait_for_url("**/admin/identity/violation/?state=open")
    expect(page.get_by_text("EVENT_IDENTITY_INCOMPLETE").first).to_be_visible()


def test_it_says_unreachable_within_20_s_of_the_servers_death_and_comes_back(
    page: Page, server: Server
) -> None:
    sign_in(page, server)
    look(page, "unknown")

    server.stop(kill=True)

    look(page, "unreachable", UNREACHABLE_WITHIN)
    expect(page.locator(".wd-badge-label")).to_have_text("WATCHDOG UNREACHABLE")
    expect(page).to_have_title(re.compile("UNREACHABLE"))
    assert "data:image" in (page.locator('link[rel="icon"]').get_attribute("href") or "")

    server.start()

    look(page, "unknown", 10_000)


def test_a_server_that_accepts_and_never_answers_is_unreachable_too(
    page: Page, server: Server
) -> None:
    sign_in(page, server)
    look(page, "unknown")
    assert server.process is not None
    os.killpg(server.process.pid, signal.SIGSTOP)
    try:
        look(page, "unreachable", UNREACHABLE_WITHIN)
    finally:
        os.killpg(server.process.pid, signal.SIGCONT)
    look(page, "unknown", 10_000)


@pytest.mark.parametrize("hours", [-3, 3])
def test_a_browser_whose_clock_is_hours_off_still_believes_the_server(
    page: Page, server: Server, hours: int
) -> None:
    page.clock.install(time=datetime.now(UTC) + timedelta(hours=hours))
    sign_in(page, server)

    with page.expect_response("**/api/watchdog/status", timeout=10_000):
        pass

    page.wait_for_timeout(1_500)
    look(page, "unknown")


def test_a_machine_that_slept_doubts_the_badge_until_it_has_asked_again(
    page: Page, server: Server
) -> None:
    sign_in(page, server)
    look(page, "unknown")
    page.route("**/api/watchdog/status", lambda route: None)
    page.clock.install()

    page.clock.fast_forward("01:00")

    look(page, "unreachable")


def test_a_page_that_is_seen_again_asks_at_once(page: Page, server: Server) -> None:
    sign_in(page, server)
    with page.expect_response("**/api/watchdog/status", timeout=10_000):
        pass

    with page.expect_request("**/api/watchdog/status", timeout=1_000):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def test_polls_that_bring_nothing_new_cost_a_304(page: Page, server: Server) -> None:
    sign_in(page, server)
    statuses: list[int] = []
    page.on(
        "response",
        lambda answer: statuses.append(answer.status) if "/status" in answer.url else None,
    )

    deadline = time.monotonic() + 25
    while 304 not in statuses and time.monotonic() < deadline:
        page.wait_for_timeout(500)

    assert set(statuses) == {200, 304}


def test_whose_session_ended_is_told_so_and_shown_no_old_state(
    page: Page, context: BrowserContext, server: Server
) -> None:
    report_incomplete_order(server)
    sign_in(page, server)
    look(page, "violation")
    page.route(
        "**/api/watchdog/status", lambda route: route.fulfill(status=403, body='{"status": 403}')
    )

    look(page, "unknown", 10_000)

    page.locator(".wd-badge-face").hover()
    expect(page.locator("#watchdog-badge-panel")).to_contain_text("no longer signed in")


def test_the_log_in_page_shows_the_state_only_and_keeps_it_true(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/admin/login/")
    look(page, "unknown")

    report_incomplete_order(server)

    look(page, "violation", RED_WITHIN + 2_000)
    assert "ORDER_SUBMITTED" not in page.content()
    server.stop(kill=True)
    look(page, "unreachable", UNREACHABLE_WITHIN)


def test_without_javascript_it_stands_as_of_the_page_with_its_time(
    browser: Browser, server: Server
) -> None:
    report_incomplete_order(server)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    sign_in(page, server, "/admin/identity/violation/")

    expect(page.locator("#watchdog-badge")).to_be_visible()
    expect(page.locator(".wd-badge-label")).to_have_text("IDENTITY VIOLATION")
    expect(page.locator(".wd-badge-time time")).to_have_text(re.compile(r"^\d\d:\d\d:\d\d C[SD]T$"))
    page.locator(".wd-badge-face").click()
    expect(page.get_by_text("EVENT_IDENTITY_INCOMPLETE").first).to_be_visible()
    context.close()
