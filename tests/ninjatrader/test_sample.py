"""The sample strategy, stepped through a chart's states in a stand-in for NinjaTrader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.guard.authority import KEY
from tests.ninjatrader.conftest import DEPLOYED, GUARD, HERE, ShortAuthority, compiled
from tests.ninjatrader.driver import Driver, Line
from tests.server import Server

# A guard does not see which database its server has.
pytestmark = pytest.mark.sqlite_only

SAMPLE = DEPLOYED / "SampleGuardedStrategy.cs"


@pytest.fixture(scope="session")
def chart_program(mono: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("chart") / "chart.exe"
    done = compiled(f"-out:{made}", GUARD, SAMPLE, HERE / "StandIn.cs", HERE / "Chart.cs")
    assert done.returncode == 0, done.stdout + done.stderr
    return made


class NinjaTrader:
    """One process with strategies in it."""

    def __init__(self, program: Path, root: str) -> None:
        self.driver = Driver(program, {"WATCHDOG_PROJECT_ROOT": root})
        self.options: dict[str, Any] = {}

    def put_on(self, strategy: str, instrument: str, **more: Any) -> Line:
        """As NinjaTrader does with an enabled strategy, up to live bars."""
        self.driver.call("put on", strategy=strategy, instrument=instrument, **self.options, **more)
        for state in ("Configure", "DataLoaded", "Historical"):
            self.state(strategy, state)
        self.bars(strategy, 1, 2, 3)
        self.state(strategy, "Transition")
        return self.state(strategy, "Realtime")

    def state(self, strategy: str, to: str) -> Line:
        done: Line = self.driver.call("state", strategy=strategy, to=to)
        return done

    def bars(self, strategy: str, *closes: float) -> Line:
        done: Line = {}
        for close in closes:
            done = self.driver.call("bar", strategy=strategy, close=close)
        return done


@pytest.fixture
def ninjatrader(chart_program: Path, root: str) -> Iterator[NinjaTrader]:
    running = NinjaTrader(chart_program, root)
    yield running
    running.driver.close()


@pytest.fixture
def short(ninjatrader: NinjaTrader, authority: ShortAuthority, tmp_path: Path) -> NinjaTrader:
    """With short leases."""
    (tmp_path / "robot.key").write_text(KEY + "\n")
    ninjatrader.options = {"server": authority.url, "key_file": str(tmp_path / "robot.key")}
    return ninjatrader


def bought(done: Line) -> int:
    return sum(did.startswith("buy") for did in done["did"])


def test_the_market_is_taken_for_live_bars_alone(
    short: NinjaTrader, authority: ShortAuthority
) -> None:
    short.driver.call("put on", strategy="a", instrument="MES 03-26", **short.options)
    for state in ("Configure", "DataLoaded", "Historical"):
        short.state("a", state)
    assert bought(short.bars("a", 1, 2, 3)) == 0
    assert authority.requests == []
    short.state("a", "Transition")
    short.state("a", "Realtime")
    holder = authority.holder()
    assert holder is not None
    assert holder["execution_instrument"] == "MES 03-26"
    assert bought(short.bars("a", 4, 5)) == 1
    short.state("a", "Terminated")
    assert authority.holder() is None


def test_an_instance_that_only_shows_its_properties_takes_nothing(
    short: NinjaTrader, authority: ShortAuthority
) -> None:
    short.driver.call("put on", strategy="a", instrument="MES 03-26", **short.options)
    assert short.state("a", "Terminated")["did"] == []
    assert authority.requests == []


def test_a_second_chart_on_the_market_says_so_and_ends(short: NinjaTrader) -> None:
    short.put_on("a", "MES 03-26")
    refused = short.put_on("b", "ES 03-26")
    assert refused["did"][-1].startswith(
        "log Alert SampleGuardedStrategy does not trade. CANONICAL_MARKET_ALREADY_ACTIVE: "
        "ES is already executed on this host by run"
    )
    ended = short.bars("b", 4, 5)
    assert (ended["state"], bought(ended)) == ("Terminated", 0)
    assert bought(short.bars("a", 4, 5)) == 1


def test_a_lost_market_is_flattened_before_kill_time(
    short: NinjaTrader, authority: ShortAuthority
) -> None:
    authority.terms.update(ttl=90, kill_after=60)
    short.put_on("a", "MES 03-26")
    short.bars("a", 4, 5)
    authority.leases["ES"]["fencing_token"] += 1
    assert short.driver.eventually(lambda: short.bars("a", 5)["state"] == "Terminated")
    did = short.bars("a", 5)["did"]
    assert "close Watchdog" in did
    assert bought({"did": did}) == 1


def test_the_kill_switch_keeps_it_from_buying(
    short: NinjaTrader, authority: ShortAuthority
) -> None:
    short.put_on("a", "MES 03-26")
    authority.kill_switch = True
    said = "print KILL_SWITCH_ACTIVE: The kill switch is engaged: no orders."
    assert short.driver.eventually(lambda: said in short.bars("a", 1)["did"])
    assert bought(short.bars("a", 9)) == 0
    authority.kill_switch = False
    released = "print KILL_SWITCH_RELEASED: The kill switch is released."
    assert short.driver.eventually(lambda: released in short.bars("a", 1)["did"])
    assert bought(short.bars("a", 9)) == 1


def test_a_position_left_open_has_the_next_holder_reconcile(
    short: NinjaTrader, authority: ShortAuthority
) -> None:
    short.put_on("a", "MES 03-26")
    assert bought(short.bars("a", 4, 5)) == 1
    short.state("a", "Terminated")
    short.put_on("b", "MES 03-26")
    short.driver.call("account", strategy="b", position="Long")
    waiting = short.bars("b", 4, 5)
    assert bought(waiting) == 0
    assert "did not leave cleanly, and the account is not flat" in waiting["did"][-1]
    short.driver.call("account", strategy="b", position="Flat")
    assert bought(short.bars("b", 6)) == 1


def test_an_observing_strategy_trades_beside_another(short: NinjaTrader) -> None:
    short.put_on("a", "MES 03-26")
    short.put_on("b", "ES 03-26", observe=True)
    observed = short.bars("b", 4, 5)
    assert bought(observed) == 1
    assert sum("Observing, so going on regardless" in did for did in observed["did"]) == 2


def test_its_badge_is_green_and_red_where_it_names_its_stream_wrongly(
    ninjatrader: NinjaTrader, watchdog: Server
) -> None:
    ninjatrader.options = {"server": watchdog.url, "key_file": str(watchdog.key_file)}
    ninjatrader.put_on("right", "M6A 03-26", stream="6A1")
    ninjatrader.put_on("wrong", "MJY 03-26", stream="MJY1")

    def badges() -> dict[str, str]:
        _, told = watchdog.request("GET", "/api/watchdog/status")
        return {row["market"]: row["identity"]["status"] for row in told["markets"]}

    expected = {"6A": "OK", "6J": "VIOLATION"}
    assert ninjatrader.driver.eventually(lambda: expected.items() <= badges().items()), badges()
    for strategy in ("right", "wrong"):
        ninjatrader.state(strategy, "Terminated")
