"""Nobody holds a market together with another, whatever befalls robots, guards and servers."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.causes import count
from tests.chaos.checker import History, judge
from tests.chaos.scaled_server import own_template
from tests.chaos.storm import Force, Storm
from tests.server import Template

SECONDS = 20.0
# A long storm: more who contend, as far as one writer lets them, and servers that live longer.
LONG = {
    "postgres": Force(services=20, http=6, server_fault_every=25.0),
    "sqlite": Force(services=8, http=4, server_fault_every=25.0),
}


@pytest.mark.timeout(0)
def test_in_a_storm_of_faults_no_two_hold_one_market(
    request: pytest.FixtureRequest,
    server_template: Template,
    tmp_path: Path,
    tell: Callable[[str], None],
) -> None:
    minutes = request.config.getoption("--chaos-minutes")
    seconds = minutes * 60 if minutes else SECONDS
    seed = request.config.getoption("--chaos-seed") or random.randrange(2**32)
    database = request.config.getoption("--database")
    with own_template(tmp_path / "template", postgres=database == "postgres") as (template, server):
        storm = Storm(template, server, tmp_path, seed, LONG[database] if minutes else Force())
        storm.run(seconds)
        tenures = storm.tenures()
    history = History.read(storm.record.lines())
    counts = count(history, tenures)
    tell("\n".join([f"storm on {database}, {seconds:.0f} s, seed {seed}", *counts.table()]))
    violations = judge(history, tenures)
    assert not violations, "\n".join(map(str, violations[:20]))
    assert counts.after_a_fault > seconds / 4
    ways = set(counts.acquisitions)
    assert ways >= {"services", "http"}
    assert ways & {"canonical_guard run", "Guard in a library"}
