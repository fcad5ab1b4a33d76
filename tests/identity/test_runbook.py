"""Every code that can wake somebody has its section in the runbook."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from identity import batch, ingest
from identity.invariants import CODES, ROBOT_REPORTED_VIOLATION
from identity.runbook import RUNBOOK, section_of
from identity.status import IdentityStatus
from tests.identity.cast import leases, open_violations, post, tenure
from watchdog_project.alerts.kinds import Kind

ROOT = Path(__file__).resolve().parents[2]
INGEST_CODES = {
    *re.findall(
        r'Unreadable\(\s*"([A-Z_]+)"',
        "".join(p.read_text() for p in sorted((ROOT / "identity").glob("*.py"))),
    ),
    batch.REPORT_UNREADABLE,
    ingest.TRUNCATED,
}
VIOLATIONS = (*CODES, ROBOT_REPORTED_VIOLATION)


def sections() -> dict[str, str]:
    """Anchor -> text, as a Markdown reader makes them of the headings."""
    parts = re.split(r"^## (.+)$", (ROOT / RUNBOOK).read_text(), flags=re.MULTILINE)[1:]
    found = dict(zip(parts[::2], parts[1::2], strict=True))
    return {heading.lower(): text for heading, text in found.items()}


def test_the_codes_of_lines_that_cannot_be_read_are_found() -> None:
    assert {"UNREADABLE", "NO_EVENT_NAME", "TIME_UNREADABLE", "TRUNCATED"} < INGEST_CODES


@pytest.mark.parametrize("code", [*VIOLATIONS, *IdentityStatus, *sorted(INGEST_CODES), *Kind])
def test_each_code_has_its_section(code: str) -> None:
    path, _, anchor = section_of(code).partition("#")
    assert path == RUNBOOK
    assert sections()[anchor].strip()


@pytest.mark.parametrize("code", [*VIOLATIONS, *Kind])
def test_the_section_of_what_wakes_somebody_says_what_to_do(code: str) -> None:
    assert "\n1. " in sections()[code.lower()]


@pytest.mark.django_db
@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("code", VIOLATIONS)
def test_the_lines_that_a_section_shows_are_that_violation(code: str) -> None:
    now = datetime(2026, 3, 2, 15, 0, 5, tzinfo=UTC)
    (block,) = re.findall(r"```\n(\{.+?)```", sections()[code.lower()], re.DOTALL)
    lines = [json.loads(one) for one in block.splitlines()]
    over = tenure(41, ended_at=now.replace(hour=14), acquired_at=now.replace(hour=13))
    outcome = post(*lines, now=now, tenures=leases(over))
    assert outcome.accepted == len(lines)
    assert code in {found for _, found, _, _ in open_violations()}


def test_there_is_no_section_of_a_code_that_is_gone() -> None:
    known = {code.lower() for code in (*VIOLATIONS, *IdentityStatus, *INGEST_CODES, *Kind)}
    assert set(sections()) == known
