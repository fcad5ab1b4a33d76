"""No page needs more than the Content-Security-Policy lets it have."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import sign_in
from tests.server import Server

pytestmark = pytest.mark.browser

WATCH = """
window.refusals = [];
document.addEventListener("securitypolicyviolation", (event) => window.refusals.push(
    `${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
"""


def links(page: Page, pattern: str) -> list[str]:
    found = page.eval_on_selector_all("a[href]", "all => all.map(a => a.getAttribute('href'))")
    return sorted({href for href in found if re.fullmatch(pattern, href)})


def test_the_policy_refuses_nothing_that_a_page_of_ours_needs(
    page: Page, full_server: Server
) -> None:
    page.add_init_script(WATCH)
    refused: dict[str, list[str]] = {}

    def look_at(address: str) -> None:
        page.goto(f"{full_server.url}{address}", wait_until="load")
        if told := page.evaluate("window.refusals"):
            refused[address] = told

    sign_in(page, full_server)
    lists = links(page, r"/admin/[a-z_]+/[a-z_]+/(\?[^#]*)?")
    assert len(lists) > 20
    for address in lists:
        look_at(address)
        rows = links(page, r"/admin/[a-z_]+/[a-z_]+/\d+/change/.*")
        adding = links(page, r"/admin/[a-z_]+/[a-z_]+/add/")
        for inner in [*rows[:1], *adding[:1]]:
            look_at(inner)
    for address in ("/admin/", "/admin/login/", "/nothing", "/api/docs"):
        look_at(address)
    # Its script shows what it loaded.
    page.wait_for_selector("#operations-locks-locks_acquire_create")

    assert not refused


def test_the_policy_refuses_what_is_not_ours(page: Page, full_server: Server) -> None:
    page.add_init_script(WATCH)
    sign_in(page, full_server)

    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.injected = true";
            document.body.append(script);
        }"""
    )

    assert page.evaluate("window.injected") is None
    page.wait_for_function("window.refusals.length > 0")
