"""A market that is exclusive per account: one lock file per account, and names that stay inside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canonical_guard.errors import CanonicalMarketAlreadyActive
from canonical_guard.hostlock import HostLock
from canonical_guard.record import LockFileRecord, lock_name
from tests.guard.authority import LockAuthority
from tests.guard.conftest import Robots, eventually
from tests.guard.hostlocks import EVERYWHERE, RECORD, lock_file, nothing_stale


def account(name: str, run_id: str = "run-1") -> LockFileRecord:
    return replace(RECORD, account=name, run_id=run_id)


def narrowed(root: Path, name: str) -> HostLock:
    lock = HostLock(root, "ES")
    lock.take(account(name, f"run-{name}"), nothing_stale)
    lock.settle(replace(account(name, f"run-{name}"), scope=name), nothing_stale)
    return lock


def test_a_market_exclusive_per_account_leaves_room_for_another_account(root: Path) -> None:
    first, second = narrowed(root, "Sim101"), narrowed(root, "Sim102")
    assert lock_file(root, "ES@Sim101").exists()
    assert lock_file(root, "ES@Sim102").exists()
    assert not lock_file(root).exists()
    first.release()
    second.release()
    assert not lock_file(root, "ES@Sim101").exists()


def test_the_same_account_is_refused(root: Path) -> None:
    first = narrowed(root, "Sim101")
    with pytest.raises(CanonicalMarketAlreadyActive, match="run-Sim101"):
        narrowed(root, "Sim101")
    first.release()


def test_a_market_exclusive_everywhere_does_not_start_beside_an_accounts_run(root: Path) -> None:
    first = narrowed(root, "Sim101")
    second = HostLock(root, "ES")
    second.take(replace(RECORD, run_id="run-2"), nothing_stale)
    with pytest.raises(CanonicalMarketAlreadyActive, match="run-Sim101"):
        second.settle(replace(EVERYWHERE, run_id="run-2"), nothing_stale)
    second.release()
    first.release()


@given(st.text(max_size=300), st.text(max_size=300))
def test_no_account_leaves_the_folder_or_shares_anothers_name(one: str, other: str) -> None:
    name = lock_name("ES", one)
    file = f"canonical_{name}.lock"
    assert Path(file).name == file
    assert file.isascii()
    assert "\0" not in file
    assert len(file) < 200
    assert (name == lock_name("ES", other)) == (one == other)


def test_two_accounts_started_at_once_both_trade(robots: Robots, authority: LockAuthority) -> None:
    authority.per_account = True
    runs = [
        robots.start("sleep", "60", options=("--account", name)) for name in ("Sim101", "Sim102")
    ]
    assert eventually(lambda: all(run.holds() for run in runs))
    assert {body["account"] for body in authority.made("acquire")} == {"Sim101", "Sim102"}
    third = robots.start("true", options=("--account", "Sim101"))
    assert third.wait() == 75
    for run in runs:
        run.process.terminate()
        run.wait()
    assert [path.suffix for path in (robots.root / "runtime_locks").iterdir()] == [".guard"] * 3


def test_an_account_is_recorded_where_the_market_is_exclusive_everywhere(
    robots: Robots, authority: LockAuthority
) -> None:
    robots.trading(options=("--account", "../../etc/passwd"))
    second = robots.start("true", options=("--account", "Sim102"))
    assert second.wait() == 75
    assert lock_file(robots.root).exists()
    assert authority.made("acquire")[0]["account"] == "../../etc/passwd"


def test_an_account_that_looks_like_a_path_stays_in_the_folder(
    robots: Robots, authority: LockAuthority
) -> None:
    authority.per_account = True
    run, _ = robots.trading(options=("--account", "../../etc/passwd"))
    assert lock_file(robots.root, "ES@..%2F..%2Fetc%2Fpasswd").exists()
    run.process.kill()
