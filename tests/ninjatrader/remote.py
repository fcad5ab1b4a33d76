"""The guard for NinjaTrader in the place of the Python one, for the replay of the same vectors.

The names here are those that the replay takes from the Python guard.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from canonical_guard import client, errors
from canonical_guard.taking import Wanted
from tests.guard import found, holder
from tests.guard.staged import NOWHERE, Script, StagedClock
from tests.ninjatrader.driver import Driver, Line, Refused

REFUSALS: dict[str, type[errors.GuardError]] = {
    name: getattr(errors, name)
    for name in (
        "InvalidConfiguration",
        "UnknownInstrument",
        "CanonicalMarketAlreadyActive",
        "LockAuthorityUnavailable",
        "LeaseLost",
        "KillSwitchEngaged",
        "MappingDrift",
    )
}


class Remote:
    """One driver, put where the replay looks for the guard."""

    def __init__(self, driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
        self.driver = driver
        self._script: Script | None = None
        self._clock = StagedClock()
        driver.asked, driver.now = self._asked, lambda: self._clock.now()
        driver.call("stage set")
        monkeypatch.setattr(holder, "take_market", self.take_market)
        monkeypatch.setattr(found, "take_market", self.take_market)
        for module in (holder, found):
            monkeypatch.setattr(module, "HeldMarket", RemoteHold)
        monkeypatch.setattr(holder, "Renewals", RemoteRenewals)

    def take_market(self, wanted: Wanted, report: Callable[[str, str], object]) -> RemoteHold:
        if wanted.server is not None:
            # The replay has put its script's there.
            self._script = client.Authority(wanted.server, wanted.api_key)._script  # type: ignore[attr-defined]
            self._clock = self._script.clock
        told = len(self.driver.told)
        try:
            held = self.call(
                "stage take",
                symbol=wanted.symbol,
                run_id=wanted.run_id,
                root=str(wanted.root),
                server=wanted.server,
                key=wanted.api_key,
                account=wanted.account,
            )
        finally:
            for _, event, sentence in self.driver.told[told:]:
                report(event, sentence)
        return RemoteHold(self, held)

    def call(self, what: str, **more: Any) -> Any:
        try:
            return self.driver.call(what, **more)
        except Refused as refusal:
            raise_as_python(refusal.told)

    def _asked(self, line: Line) -> Line:
        if "wait" in line:
            self.driver.awake = False
            self._clock.advance(line["wait"], lambda: self.driver.awake)
            return {}
        return self._answered(line)

    def _answered(self, line: Line) -> Line:
        """As the Python guard's scripted authority does it, but the request is the driver's."""
        script = self._script
        assert script is not None
        action = line["post"].rpartition("/")[2]
        body, timeout = json.loads(line["body"]), line["timeout"]
        script.requests.append(
            {"on": action, "at": script.clock.seconds, "body": body, "timeout": timeout}
        )
        rule = script.rule_for(action)
        if rule.get("silence") == "unreachable":
            return {"go": NOWHERE}
        takes = float("inf") if "silence" in rule else rule.get("takes", 0)
        script.clock.advance(min(takes, timeout))
        if takes > timeout:
            return {}
        script.prepare(rule["answer"])
        return {"go": script.url}


class RemoteHold:
    """What the driver holds."""

    def __init__(self, remote: Remote, told: Line) -> None:
        self.remote = remote
        self.fencing_token: int | None = told["fencing_token"]
        self.takeover: bool = told["takeover"]
        self.record_path: str = told["record"]

    def release(self, reason: str, report: Callable[[str, str], object]) -> None:
        self.remote.call("stage release", reason=reason)


class RemoteRenewals:
    """The driver's renewing, which runs while `start` does."""

    def __init__(self, held: RemoteHold) -> None:
        self.held = held
        self.on_lost: Callable[[str], object] = print

    @property
    def stop_at(self) -> float:
        return float(self.held.remote.call("stage times")["stop_at"])

    @property
    def kill_at(self) -> float:
        return float(self.held.remote.call("stage times")["kill_at"])

    def start(self) -> None:
        known = len(self.held.remote.driver.lost)
        self.held.remote.driver.call("stage start")
        for lost in self.held.remote.driver.lost[known:]:
            self.on_lost(lost["sentence"])

    def check(self) -> None:
        self.held.remote.call("stage check")

    def end(self) -> None:
        self.held.remote.call("stage end")


def raise_as_python(told: Line) -> NoReturn:
    """The Python guard's own error of that name: code and exit status must be the same."""
    kind = REFUSALS[told["error"]]
    if kind is errors.CanonicalMarketAlreadyActive:
        refusal: errors.GuardError = errors.CanonicalMarketAlreadyActive(
            told["message"], told["active"], told["retry_after"]
        )
    else:
        refusal = kind(told["message"])
    assert (refusal.code, refusal.exit_status) == (told["code"], told["exit"])
    raise refusal
