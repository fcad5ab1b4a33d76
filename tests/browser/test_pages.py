"""Every page of the admin in a real browser: the badge, nothing from elsewhere, nothing cut off."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from tests.browser.accessibility import faults_of
from tests.browser.conftest import DESK, PHONE, sign_in
from tests.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

LINKS = """[...document.querySelectorAll('a[href]')].map((a) => a.href)"""
SQUEEZED = """() => {
    const badge = document.querySelector('.wd-badge-face')?.getBoundingClientRect();
    const seen = badge && badge.left >= 0 && badge.right <= innerWidth && badge.top >= 0
        && badge.bottom <= innerHeight && badge.height > 20;
    return {seen: Boolean(seen), overflow: document.documentElement.scrollWidth - innerWidth};
}"""
# One page of a kind is enough: rows and filters lead to the same page again.
KIND = re.compile(r"/\d+/")
# Popups are the same pages with less around them; every history and removal is like a group's.
SAME_AGAIN = re.compile(r"_popup|/(?!auth/group/)\w+/\w+/\d+/(history|delete)/")
NO_PAGE = re.compile("/logout|/admin/csv/")


def kind_of(address: str) -> str:
    path = address.partition("?")[0].partition("#")[0]
    return KIND.sub("/N/", path) + ("?popup" if "_popup" in address else "")


def pages_of(page: Page, server: Server, leave_out: re.Pattern[str]) -> Iterator[str]:
    """Go to a page of every kind that links lead to, every other one in the dark."""
    sign_in(page, server)
    start = f"{server.url}/admin/"
    waiting, seen, count = deque([start]), {kind_of(start)}, 0
    while waiting:
        address = waiting.popleft()
        page.emulate_media(color_scheme="dark" if count % 2 else "light")
        answer = page.goto(address)
        assert answer is not None
        assert answer.status == 200, address
        count += 1
        yield address.removeprefix(server.url)
        for link in sorted({link.partition("#")[0] for link in page.evaluate(LINKS)}):
            listed = link.rstrip("/").rpartition("/")[2]
            also = [f"{link}?_popup=1"] if listed in ("add", "change") else []
            for found in (link, *also):
                ours = found.startswith(start) and not leave_out.search(found)
                if ours and kind_of(found) not in seen:
                    seen.add(kind_of(found))
                    waiting.append(found)
    assert count > 60


def test_every_page_shows_the_badge_whole_and_loads_nothing_from_elsewhere(
    page: Page, full_server: Server
) -> None:
    strangers: set[str] = set()
    errors: list[str] = []
    here = full_server.url
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith((f"{here}/", "data:")) else strangers.add(request.url)
        ),
    )
    page.on("pageerror", lambda error: errors.append(f"{page.url}: {error}"))
    wrong = []

    for address in pages_of(page, full_server, NO_PAGE):
        for view in (PHONE, DESK):
            page.set_viewport_size(view)  # type: ignore[arg-type]
            state = page.evaluate(SQUEEZED)
            if not state["seen"] or state["overflow"] > 0:
                wrong.append((address, view["width"], state))

    assert wrong == []
    assert strangers == set()
    assert errors == []


def test_everybody_can_use_every_page(page: Page, full_server: Server) -> None:
    leave_out = re.compile(f"{NO_PAGE.pattern}|{SAME_AGAIN.pattern}")

    faults = {
        address: found
        for address in pages_of(page, full_server, leave_out)
        if (found := faults_of(page))
    }

    assert faults == {}
