"""An operator at work, from what he sees to what robots are told; by keyboard alone as well."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import sign_in
from tests.browser.robot import report_incomplete_order
from tests.server import Server

pytestmark = pytest.mark.browser

HOLDER = {
    "execution_instrument": "MES",
    "canonical_instrument": "ES",
    "run_id": "run-1",
    "nonce": "ab" * 16,
    "host": "trader-1",
    "boot_id": "boot-1",
    "pid": 4711,
}
MOST_TABS = 80


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until what `selector` names has the focus."""
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"the keyboard does not reach {selector}")


def acquire(server: Server) -> tuple[int, dict[str, object]]:
    return server.request("POST", "/api/locks/acquire", HOLDER)


def test_orders_are_stopped_and_allowed_again_with_the_keyboard_alone(
    page: Page, server: Server
) -> None:
    sign_in(page, server)

    tab_to(page, "#watchdog-kill-switch")
    page.keyboard.press("Enter")
    page.wait_for_url("**/engage/")
    expect(page.locator("[name=reason]")).to_be_focused()
    page.keyboard.type("fat finger")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    page.wait_for_url("**/killswitch/")
    chip = page.locator("#watchdog-kill-switch")
    expect(chip).to_contain_text("KILL SWITCH")
    assert acquire(server)[0] == 423

    tab_to(page, "#result_list tbody a")
    page.keyboard.press("Enter")
    page.wait_for_url("**/change/**")
    tab_to(page, 'a[href$="/release/"]')
    page.keyboard.press("Enter")
    page.wait_for_url("**/release/")
    expect(page.locator("[name=reason]")).to_be_focused()
    page.keyboard.type("over")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    expect(chip).to_contain_text("Stop")
    expect(page.get_by_text("Released the kill switch for all markets.")).to_be_visible()
    assert acquire(server)[0] == 200


def test_a_lease_is_revoked_on_its_markets_page_and_its_holder_hears_of_it(
    page: Page, server: Server
) -> None:
    status, lease = acquire(server)
    assert status == 200
    sign_in(page, server)
    page.get_by_role("link", name="ES", exact=True).click()
    page.get_by_role("link", name="Revoke the lease").click()
    expect(page.get_by_text("Nobody gets ES for 15 s.")).to_be_visible()

    page.get_by_role("button", name="Revoke the lease").click()
    expect(page.get_by_role("alert")).to_contain_text("Say why")
    page.fill("[name=reason]", "it trades the wrong account")
    page.get_by_role("button", name="Revoke the lease").click()

    expect(page.get_by_text("Revoked the lease of ES, token 1.")).to_be_visible()
    renewal = {key: HOLDER[key] for key in ("run_id", "nonce")} | {
        "kind": "canonical_market",
        "name": "ES",
        "scope": "",
        "fencing_token": lease["fencing_token"],
    }
    status, answer = server.request("POST", "/api/locks/renew", renewal)
    assert (status, answer["code"]) == (409, "CANONICAL_MARKET_LOCK_LOST")


def test_a_violation_is_acknowledged_with_a_reason_and_stays_red(
    page: Page, server: Server
) -> None:
    report_incomplete_order(server)
    sign_in(page, server, "/admin/identity/violation/?state=open")
    page.get_by_role("link", name="EVENT_IDENTITY_INCOMPLETE").first.click()
    page.get_by_role("link", name="Acknowledge").click()
    page.fill("[name=reason]", "the vendor knows")
    page.get_by_role("button", name="Acknowledge").click()

    expect(page.get_by_text("the vendor knows")).to_be_visible()
    expect(page.locator("#watchdog-badge")).to_have_attribute("data-look", "violation")
