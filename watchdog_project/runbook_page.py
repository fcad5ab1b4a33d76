"""The runbook as a page, so that what to do is one click from what is wrong."""

from __future__ import annotations

import re
from functools import cache

import markdown
from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe

from identity.runbook import RUNBOOK

OTHER_DOCUMENT = re.compile(r'<a href="(?!#|https?:)([^"]+)">(.*?)</a>', re.DOTALL)


def runbook_url(section: str) -> str:
    """The page's address of what identity names `docs/runbook.md#unknown_instrument`."""
    return f"{reverse('runbook')}#{section.partition('#')[2]}"


def runbook_page(request: HttpRequest) -> HttpResponse:
    """The whole runbook; each section's anchor is its code."""
    context = {
        **admin.site.each_context(request),
        "title": "Runbook",
        "runbook": _as_html(),
    }
    return TemplateResponse(request, "watchdog/runbook.html", context)


@cache
def _as_html() -> SafeString:
    path = settings.BASE_DIR / RUNBOOK
    if not path.exists():
        return SafeString(f"<p>There is no {RUNBOOK} in this installation.</p>")
    text = path.read_text(encoding="utf-8").partition("\n")[2]
    html = markdown.markdown(text, extensions=["fenced_code", "toc", "sane_lists"])
    # Other documents are files of this installation and no pages: they are named instead.
    html = OTHER_DOCUMENT.sub(r"\2 (<code>docs/\1</code>)", html)
    # A line of a log is as wide as it is: who has no mouse scrolls it with the keyboard.
    return mark_safe(html.replace("<pre>", '<pre tabindex="0">'))  # noqa: S308 our own file
