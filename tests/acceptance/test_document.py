"""The acceptance document and the tests say the same."""

from __future__ import annotations

import re

from tests.server import ROOT

DOCUMENT = ROOT / "docs" / "phase3_1_acceptance_tests.md"


def test_every_scenario_of_the_document_names_a_test_that_exists() -> None:
    text = DOCUMENT.read_text("utf-8")
    scenarios = re.split(r"^## (?=\d)", text, flags=re.MULTILINE)[1:]
    assert len(scenarios) >= 8
    for scenario in scenarios:
        named = re.findall(r"^- `(tests/\S+\.py)::(\w+)`$", scenario.partition("\n## ")[0], re.M)
        assert named, f"no test for: {scenario.splitlines()[0]}"
        for path, test in named:
            assert f"def {test}(" in (ROOT / path).read_text("utf-8"), f"{path}::{test}"
