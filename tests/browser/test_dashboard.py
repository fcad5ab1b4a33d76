"""The dashboard keeps itself fresh under the reader's eyes, and moves nothing he holds."""

from __future__ import annotations

import re
from typing import Literal

import pytest
from playwright.sync_api import Page, expect

from tests.browser.accessibility import faults_of
from tests.browser.conftest import sign_in
from tests.browser.robot import report_incomplete_order
from tests.server import Server

pytestmark = pytest.mark.browser


def test_an_empty_one_shows_the_first_steps_with_commands_to_copy(
    page: Page, server: Server
) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    sign_in(page, server)

    expect(page.get_by_role("heading", name="First steps")).to_be_visible()
    page.get_by_role("button", name="Copy").nth(1).click()

    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("python -m canonical_guard run MES --server " + server.url)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_the_pages_of_an_empty_console(
    page: Page, server: Server, scheme: Literal["light", "dark"]
) -> None:
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{server.url}/admin/login/")
    assert faults_of(page) == set()
    sign_in(page, server)

    for address in ("/admin/", "/admin/market/ES/", "/admin/identity/violation/", "/admin/nowhere"):
        page.goto(f"{server.url}{address}")
        assert faults_of(page) == set(), address


def test_a_market_that_breaks_appears_on_top_by_itself(page: Page, server: Server) -> None:
    report_incomplete_order(server, "MNQ", "NQ1")
    sign_in(page, server)
    rows = page.locator(".wd-markets tbody tr")
    expect(rows).to_have_count(1)

    report_incomplete_order(server, "MES", "ES1")
    report_incomplete_order(server, "MES", "ES1")

    expect(rows).to_have_count(2, timeout=8_000)
    expect(rows.first).to_have_attribute("data-key", "ES@")
    expect(rows.first).to_contain_text("seen 2×")


def test_what_the_reader_holds_stays_in_his_hands_while_rows_change(
    page: Page, server: Server
) -> None:
    report_incomplete_order(server, "MES", "ES1")
    sign_in(page, server)
    row = page.locator('tr[data-key="ES@"]')
    row.locator("a.wd-market").focus()

    report_incomplete_order(server, "MES", "ES1")
    report_incomplete_order(server, "MNQ", "NQ1")

    expect(page.locator('tr[data-key="NQ@"]')).to_be_visible(timeout=8_000)
    expect(row).to_contain_text("seen 2×", timeout=8_000)
    expect(row.locator("a.wd-market")).to_be_focused()


def test_a_lease_counts_down_between_two_refreshes(page: Page, server: Server) -> None:
    status, answer = server.request(
        "POST",
        "/api/locks/acquire",
        {
            "execution_instrument": "MES",
            "canonical_instrument": "ES",
            "run_id": "run-1",
            "nonce": "ab" * 16,
            "host": "trader-1",
            "boot_id": "boot-1",
            "pid": 4711,
        },
    )
    assert status == 200, answer
    sign_in(page, server)
    lease = page.locator("[data-wd-expires-in]")
    expect(lease).to_have_text(re.compile(r"^1[0-4] s left$"))
    expect(page.locator('tr[data-key="ES@"]')).to_contain_text("MES on trader-1")
    page.route("**/admin/", lambda route: route.abort())

    expect(lease).to_have_text(re.compile(r"^[5-9] s left$"), timeout=9_000)
