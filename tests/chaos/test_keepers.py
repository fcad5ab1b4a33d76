"""A keeper ends its robot before the market can be granted; each duty left out is seen."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import checker
from tests.chaos.checker import History, Violation, judge
from tests.chaos.keeper_histories import CASES, KeeperHistory
from tests.chaos.record import Record
from tests.chaos.scaled_server import ScaledServer, tenures_of, wall_offset
from tests.server import Template

TTL = 3.0
KEPT = ["ES", "NQ", "RTY", "YM", "HG"]
NOT_KEPT = ["CL", "NG", "GC", "SI", "PL"]


@pytest.fixture
def scaled_server(server_template: Template, tmp_path: Path) -> Iterator[ScaledServer]:
    server = ScaledServer(server_template, tmp_path / "web", TTL)
    server.start()
    yield server
    server.stop()


def test_a_keeper_ends_its_robot_in_time_and_each_duty_left_out_is_seen(
    scaled_server: ScaledServer, tmp_path: Path
) -> None:
    histories = [
        KeeperHistory(case, mutant, market, scaled_server, tmp_path)
        for case, kept, not_kept in zip(CASES, KEPT, NOT_KEPT, strict=True)
        for mutant, market in (("-", kept), (case.mutant, not_kept))
    ]
    _play_all(histories)
    lines = Record(tmp_path / "record").lines()
    tenures = tenures_of(scaled_server, TTL, wall_offset())
    violations = judge(History.read(lines), tenures)
    for case, kept, not_kept in zip(CASES, KEPT, NOT_KEPT, strict=True):
        assert _of(kept, violations) == []
        assert checker.OVERLAP in {violation.kind for violation in _of(not_kept, violations)}, case
        late = {checker.NOT_STOOD_DOWN, checker.ALIVE_WHEN_GRANTABLE}
        assert late <= {violation.kind for violation in _of(not_kept, violations)}, case


def _of(market: str, violations: list[Violation]) -> list[Violation]:
    return [found for found in violations if found.sentence.startswith(f"{market}: ")]


def _play_all(histories: list[KeeperHistory]) -> None:
    """At once: most of their time they wait."""
    failures: list[BaseException] = []

    def play(history: KeeperHistory) -> None:
        try:
            history.play()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=play, args=(history,)) for history in histories]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
        assert not thread.is_alive()
    assert failures == []
