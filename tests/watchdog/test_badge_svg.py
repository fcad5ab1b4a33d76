"""The badge as a picture: whole in words, for who cannot see it too."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree

import pytest
import time_machine
from rest_framework.test import APIClient

from tests.watchdog.cast import a_passing_market, a_violation

pytestmark = pytest.mark.django_db

BADGE = "/api/watchdog/badge.svg"
SVG = "{http://www.w3.org/2000/svg}"


def picture(answer: Any) -> ElementTree.Element:
    assert answer.status_code == 200
    assert answer["Content-Type"] == "image/svg+xml; charset=utf-8"
    return ElementTree.fromstring(answer.content)  # noqa: S314 our own


def test_the_badge_says_its_status_and_its_minute_in_words(
    local: APIClient, es_is_executed: None
) -> None:
    with time_machine.travel(datetime(2026, 3, 2, 15, 0, 30, tzinfo=UTC), tick=False):
        drawn = picture(local.get(BADGE))

    title = drawn.find(f"{SVG}title")
    assert title is not None
    assert str(title.text).startswith("IDENTITY OK, as of 2026-03-02 09:00 CST.")
    assert drawn.get("role") == "img"
    assert drawn.get("aria-labelledby") == title.get("id")
    assert [text.text for text in drawn.iter(f"{SVG}text")] == ["IDENTITY", "✔ OK", "09:00 CST"]


def test_the_badge_of_one_market_names_it_and_counts_its_violations(
    local: APIClient, es_is_executed: None
) -> None:
    a_violation("ES")

    drawn = picture(local.get(BADGE, {"market": "MES"}))

    title = drawn.find(f"{SVG}title")
    assert title is not None
    assert str(title.text).startswith("ES IDENTITY VIOLATION, 1 open violation, as of ")


def test_a_market_with_a_strange_name_cannot_break_out_of_the_badge(
    local: APIClient, db: None
) -> None:
    a_passing_market("<SCRIPT>")

    answer = local.get(BADGE, {"market": "<script>"})

    drawn = picture(answer)
    assert "<SCRIPT>" not in answer.content.decode()
    assert next(drawn.iter(f"{SVG}text")).text == "<SCRIPT> IDENTITY"
    assert answer["Content-Security-Policy"] == "default-src 'none'"
