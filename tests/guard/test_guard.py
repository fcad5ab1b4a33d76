"""The guard inside a Python robot."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pytest

from canonical_guard import (
    CanonicalMarketAlreadyActive,
    Guard,
    InvalidConfiguration,
    KillSwitchEngaged,
    LeaseLost,
    LockAuthorityUnavailable,
    UnknownInstrument,
)
from tests.guard.authority import KEY, TERMS, LockAuthority
from tests.guard.conftest import MakeGuard, eventually


def lock_file(root: Path) -> Path:
    return root / "runtime_locks" / "canonical_ES.lock"


def test_a_robot_holds_its_market_inside_the_with_block(
    guard: MakeGuard, authority: LockAuthority, root: Path
) -> None:
    with guard(run_id="run-1") as held:
        held.check()
        assert held.held
        assert (held.canonical_instrument, held.fencing_token, held.run_id) == ("ES", 1, "run-1")
        assert held.takeover is False
        assert 0 < held.seconds_left <= TERMS["stop_after"]
        assert json.loads(lock_file(root).read_text())["fencing_token"] == 1
        holder = authority.holder()
        assert holder is not None
        assert holder["pair"][0] == "run-1"
    assert authority.holder() is None
    assert not lock_file(root).exists()
    assert not held.held
    assert held.seconds_left == 0
    with pytest.raises(LeaseLost):
        held.check()


def test_renewals_keep_the_market_beyond_its_ttl(
    guard: MakeGuard, authority: LockAuthority
) -> None:
    with guard() as held:
        time.sleep(TERMS["ttl"] + 0.3)
        held.check()
        assert held.fencing_token == 1
        assert len(authority.made("renew")) > 5


def test_a_second_robot_is_refused_and_told_by_whom(guard: MakeGuard) -> None:
    with guard(run_id="run-1"):
        with pytest.raises(CanonicalMarketAlreadyActive, match="run-1") as refused:
            guard("ES").acquire()
        assert refused.value.active["execution_instrument"] == "MES"


def test_a_refusal_on_this_host_reaches_the_authoritys_events(
    guard: MakeGuard, authority: LockAuthority
) -> None:
    with guard():
        with pytest.raises(CanonicalMarketAlreadyActive):
            guard("ES", run_id="newcomer").acquire()
        assert [body["run_id"] for body in authority.made("acquire")][1:] == ["newcomer"]


def test_a_robot_under_another_project_root_is_refused_by_the_lease(
    guard: MakeGuard, tmp_path: Path
) -> None:
    with guard(run_id="run-1"):
        other = guard("ES", project_root=tmp_path / "other")
        with pytest.raises(CanonicalMarketAlreadyActive, match="run-1"):
            other.acquire()
        assert not lock_file(tmp_path / "other").exists()


def test_the_record_is_untouched_by_a_refused_robot(guard: MakeGuard, root: Path) -> None:
    with guard():
        before = lock_file(root).read_bytes()
        with pytest.raises(CanonicalMarketAlreadyActive):
            guard("ES").acquire()
        assert lock_file(root).read_bytes() == before


def test_without_a_server_nothing_is_held(root: Path) -> None:
    with pytest.raises(LockAuthorityUnavailable, match="host-only"):
        Guard("MES", project_root=root).acquire()
    assert not root.exists()


def test_without_a_key_nothing_is_held(root: Path, authority: LockAuthority) -> None:
    with pytest.raises(LockAuthorityUnavailable, match="WATCHDOG_API_KEY"):
        Guard("MES", server=authority.url, project_root=root).acquire()
    assert authority.requests == []


def test_the_environment_names_server_key_and_root(
    authority: LockAuthority, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_URL", authority.url)
    monkeypatch.setenv("WATCHDOG_API_KEY", KEY)
    monkeypatch.setenv("WATCHDOG_PROJECT_ROOT", str(root))
    with Guard("MES") as held:
        held.check()
        assert lock_file(root).exists()


def test_an_unreachable_authority_leaves_the_host_free(guard: MakeGuard, root: Path) -> None:
    with pytest.raises(LockAuthorityUnavailable):
        guard(server="http://127.0.0.1:1").acquire()
    assert not lock_file(root).exists()
    with guard("ES") as held:
        assert held.held


def test_a_kill_switch_refuses_the_start(guard: MakeGuard, authority: LockAuthority) -> None:
    authority.kill_switch = True
    with pytest.raises(KillSwitchEngaged, match="No orders today"):
        guard().acquire()


def test_a_kill_switch_forbids_orders_but_does_not_cost_the_market(
    guard: MakeGuard, authority: LockAuthority, said: list[str]
) -> None:
    with guard() as held:
        authority.kill_switch = True
        assert eventually(lambda: any("KILL_SWITCH_ACTIVE" in line for line in said))
        with pytest.raises(KillSwitchEngaged):
            held.check()
        assert held.held
        authority.kill_switch = False
        assert eventually(lambda: any("KILL_SWITCH_RELEASED" in line for line in said))
        held.check()


def test_an_instrument_only_the_server_knows_is_resolved_there(
    guard: MakeGuard, root: Path
) -> None:
    with guard("M6E") as held:
        assert held.canonical_instrument == "6E"
        assert (root / "runtime_locks" / "canonical_6E.lock").exists()


def test_an_unknown_instrument_is_never_guessed(guard: MakeGuard, root: Path) -> None:
    with pytest.raises(UnknownInstrument):
        guard("MESS", server=None, api_key=None, host_only=True).acquire()


@pytest.mark.parametrize("run_id", ["", "x" * 129, "a\nb"])
def test_a_run_id_no_server_would_take_is_refused(guard: MakeGuard, run_id: str) -> None:
    with pytest.raises(InvalidConfiguration):
        guard(run_id=run_id)


def test_every_start_has_a_run_id_of_its_own(guard: MakeGuard) -> None:
    assert guard().run_id != guard().run_id


def test_host_only_needs_no_server_and_has_no_token(root: Path) -> None:
    with Guard("MES", project_root=root, host_only=True) as held:
        held.check()
        assert held.fencing_token is None
        assert held.seconds_left == math.inf
        with pytest.raises(CanonicalMarketAlreadyActive):
            Guard("ES", project_root=root, host_only=True).acquire()


def test_host_only_and_a_server_contradict_each_other(guard: MakeGuard) -> None:
    with pytest.raises(InvalidConfiguration):
        guard(host_only=True).acquire()


def test_acquiring_twice_is_refused(guard: MakeGuard) -> None:
    with guard() as held, pytest.raises(InvalidConfiguration):
        held.acquire()


def test_releasing_twice_is_fine(guard: MakeGuard, authority: LockAuthority) -> None:
    held = guard()
    held.acquire()
    held.release()
    held.release()
    assert len(authority.made("release")) == 1


def test_a_guard_can_be_used_again_after_its_release(guard: MakeGuard) -> None:
    held = guard()
    for token in (1, 2):
        with held:
            assert held.fencing_token == token


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError, "crashed"),
        (LeaseLost, "crashed"),
        (KeyboardInterrupt, "clean"),
        (SystemExit, "clean"),
    ],
)
def test_how_the_block_is_left_decides_whether_the_next_must_reconcile(
    guard: MakeGuard, authority: LockAuthority, error: type[BaseException], reason: str
) -> None:
    with pytest.raises(error), guard():
        raise error
    assert authority.made("release")[-1]["reason"] == reason
    with guard() as successor:
        assert successor.takeover is (reason == "crashed")


def test_an_observer_is_told_and_never_stopped(guard: MakeGuard, said: list[str]) -> None:
    with guard(run_id="run-1"), guard("ES", observe=True) as observer:
        observer.check()
        observer.check()
        assert not observer.held
    told = [line for line in said if "Observing" in line]
    assert len(told) == 2
    assert told[0].startswith("CANONICAL_MARKET_ALREADY_ACTIVE")


def test_an_observer_goes_on_without_any_authority(said: list[str]) -> None:
    observer = Guard("??", observe=True, report=lambda event, sentence: said.append(event))
    with observer:
        observer.check()
    assert said[0] == "LOCK_AUTHORITY_UNAVAILABLE"
