"""The measuring itself: ratios of rounds, not of machines' moods."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from tests.bench import load
from tests.bench.rounds import Row, against_limit, compare
from tests.server import ROOT
from watchdog_project.management.commands import bench


def moods() -> Iterator[float]:
    yield from (1.0, 10.0, 0.1, 5.0, 0.2, 3.0, 1.0)


def test_a_ratio_is_that_of_a_round_however_the_machine_feels() -> None:
    """Twice as fast in each round is twice as fast, though no two rounds are alike."""
    ours, peers = moods(), moods()
    (row,) = compare(
        "renew",
        lambda seconds: 2000 * next(ours),
        {"peer": (lambda seconds: 1000 * next(peers), 1.5)},
        seconds=0.01,
        rounds=5,
    )
    assert row.ratio == pytest.approx(2.0)
    assert row.met


def test_less_time_is_the_better_ratio() -> None:
    (row,) = compare(
        "start", lambda _: 10.0, {"peer": (lambda _: 30.0, 4.0)}, seconds=0, rounds=5, unit="ms"
    )
    assert (row.ratio, row.met) == (pytest.approx(3.0), False)
    assert against_limit("restart", [100.0, 400.0, 200.0], 250.0, "ms").ratio == 1.25
    assert not against_limit("events", [100.0], 250.0, "/s").met


def test_the_ratio_comes_first_in_a_line() -> None:
    row = Row("renew", "/s", 900.0, 1000.0, "psycopg", 0.9, 0.8, 5)
    assert row.line().split()[:2] == ["0.90", "x"]
    assert "met" in row.line()


def test_percentiles_are_of_what_was_measured() -> None:
    measured = load.Load(10.0, [float(number) for number in range(1, 101)])
    assert (measured.percentile(50), measured.percentile(99)) == (51.0, 100.0)


def test_a_name_that_is_none_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "nonsense"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "there is no nonsense" in done.stderr


def test_without_the_development_packages_the_command_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bench, "NEEDED", ("no_such_package",))
    with pytest.raises(CommandError, match=r"pip install -r requirements-dev\.txt"):
        call_command("bench", "--quick")


def test_what_was_measured_is_written_as_it_was_promised(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    call_command("bench", "leases-sqlite", "--quick", "--json", str(file))
    figures = json.loads(file.read_text())
    assert len(figures) == 2
    for figure in figures.values():
        assert {"ours", "peer", "ratio"} <= set(figure)
        assert figure["ours"] > 0
