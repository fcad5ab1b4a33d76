"""Whether everybody can use a page, as far as axe-core can tell; it comes in a wheel."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

# What keeps somebody from using a page at all; axe calls lesser faults moderate and minor.
SERIOUS = {"critical", "serious"}
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"], "resultTypes": ["violations"]}


def faults_of(page: Page) -> set[str]:
    """Serious faults that axe-core finds: the rule, and the first element that breaks it."""
    found = Axe().run(page, options=RULES).response["violations"]
    return {
        f"{one['id']}: {one['nodes'][0]['html'][:160]}" for one in found if one["impact"] in SERIOUS
    }
