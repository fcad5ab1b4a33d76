"""Where the runbook tells of a code: its place in this checkout. Pure."""

from __future__ import annotations

RUNBOOK = "docs/runbook.md"


def section_of(code: str) -> str:
    """`docs/runbook.md#unknown_instrument`; a section's heading is its code, and stays."""
    return f"{RUNBOOK}#{code.lower()}"
