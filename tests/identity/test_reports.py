"""What a robot says of itself is read strictly: what is not plainly a pass is none."""

from __future__ import annotations

from typing import Any

import pytest

from identity.reports import read_report, read_self_test, read_tristate
from identity.robotlog import NormalisedEvent, read_line
from tests.identity.cast import NOW, line, report

OPAQUE = "System.Collections.Generic.List`1[System.String]"


def said(passed: Any, **more: Any) -> bool | None:
    event = read_line(report(passed, **more))
    assert isinstance(event, NormalisedEvent)
    found = read_report(event)
    assert found is not None
    return found.passed


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (True, True), (False, False), ("True", True), ("False", False), (" false ", False),
        ("TRUE", True), ("[REDACTED]", None), (None, None), ("", None), (1, None), (0, None),
        ("1", None), ("yes", None), ([], None), ({}, None),
    ],
)  # fmt: skip
def test_pass_is_true_false_or_unknown(given: Any, meant: bool | None) -> None:
    assert read_tristate(given) is meant
    assert said(given) is meant


def test_a_pass_over_nothing_or_over_what_nobody_can_read_is_unknown() -> None:
    assert said("True", stream_ids=[]) is None
    assert said("True", stream_ids=OPAQUE) is None
    assert said("True", violations=OPAQUE) is None
    assert said("False", violations=OPAQUE) is False


def test_a_pass_with_violations_is_none() -> None:
    assert said("True", violations=["MES1 is no canonical stream"]) is False


def test_lists_are_read_however_they_are_written() -> None:
    for written in (["ES1", "ES2"], '["ES1", "ES2"]', "ES1, ES2", "ES1;ES2"):
        event = read_line(report(True, stream_ids=written))
        assert isinstance(event, NormalisedEvent)
        found = read_report(event)
        assert found is not None
        assert found.stream_ids == ("ES1", "ES2")


def test_an_ambiguous_time_of_checking_gives_way_to_the_lines_own() -> None:
    event = read_line(report(True, checked_at_utc="01/04/2026 14:00:25 +00:00"))
    assert isinstance(event, NormalisedEvent)
    found = read_report(event)
    assert found is not None
    assert found.checked_at == NOW


@pytest.mark.parametrize(
    "written",
    [
        {"MES": "ES", "MNQ": "NQ"},
        '{"MES": "ES", "MNQ": "NQ"}',
        ["MES->ES", "MNQ->NQ"],
        "MES->ES, MNQ->NQ",
        "MES=ES;MNQ=NQ",
        [
            {"execution_instrument": "MES", "canonical_instrument": "ES"},
            {"execution": "MNQ", "canonical": "NQ"},
        ],
    ],
)
def test_mappings_are_read_however_they_are_written(written: Any) -> None:
    event = read_line(line("CANONICALIZATION_SELF_TEST", data={"instrument_mappings": written}))
    assert isinstance(event, NormalisedEvent)
    assert read_self_test(event).mappings == (("MES", "ES"), ("MNQ", "NQ"))


@pytest.mark.parametrize("written", [OPAQUE, "[REDACTED]", "", None, 7, ["MES"], {"MES": None}])
def test_mappings_that_cannot_be_read_are_a_problem_and_no_mapping(written: Any) -> None:
    event = read_line(line("CANONICALIZATION_SELF_TEST", data={"instrument_mappings": written}))
    assert isinstance(event, NormalisedEvent)
    found = read_self_test(event)
    assert found.mappings == ()
    assert found.problems
