"""An old backup is brought back under robots that went on: the documented step, on real files."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from locks.models import AuthorityEpoch, KillSwitch
from tests.server import Server

RUN = {
    "nonce": "ab" * 16, "execution_instrument": "MES", "canonical_instrument": "ES", "host": "here",
}  # fmt: skip
MOVED = (
    "UPDATE locks_authorityepoch SET began_at = datetime(began_at, '-5 minutes'),"
    " grants_after = datetime(grants_after, '-5 minutes')"
)


def acquire(server: Server, run_id: str) -> tuple[int, dict[str, Any]]:
    return server.request("POST", "/api/locks/acquire", {**RUN, "run_id": run_id})


def release(server: Server, run_id: str, token: int) -> int:
    body = {
        "kind": "canonical_market", "name": "ES", "scope": "", "run_id": run_id,
        "nonce": RUN["nonce"], "fencing_token": token,
    }  # fmt: skip
    return server.request("POST", "/api/locks/release", body)[0]


def copy_of_a_running_database(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as running, closing(sqlite3.connect(target)) as copy:
        running.backup(copy)


@pytest.mark.sqlite_only
def test_a_restored_copy_gives_no_token_twice_and_no_market_to_a_second_robot(
    server: Server, tmp_path: Path
) -> None:
    database, backup = server.home / "watchdog.sqlite3", tmp_path / "backup.sqlite3"
    assert release(server, "early", acquire(server, "early")[1]["fencing_token"]) == 200
    copy_of_a_running_database(database, backup)
    token_after_the_backup = acquire(server, "late")[1]["fencing_token"]
    server.stop()

    for leftover in server.home.glob("watchdog.sqlite3*"):
        leftover.unlink()
    backup.rename(database)
    done = server.manage("after_restore")
    assert done.returncode == 0, done.stderr
    assert "Nothing is granted before" in done.stdout
    server.start()

    assert acquire(server, "heir")[1]["code"] == "KILL_SWITCH_ACTIVE"
    server.manage("kill_switch", "release", "--reason", "reconciled")
    status, answer = acquire(server, "heir")
    assert (status, answer["code"]) == (409, "LOCK_DELAY"), answer
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(MOVED)
    status, answer = acquire(server, "heir")
    assert status == 200, answer
    assert answer["fencing_token"] > token_after_the_backup + 2**32 - 2
    assert answer["takeover"] is True


@pytest.mark.django_db(transaction=True)
def test_each_restore_begins_an_epoch_and_the_switch_can_be_left_alone() -> None:
    before = AuthorityEpoch.objects.get().number
    call_command("after_restore", "--keep-kill-switch")
    call_command("after_restore", "--keep-kill-switch")

    assert AuthorityEpoch.objects.get().number == before + 2
    assert not KillSwitch.objects.get(market="").engaged
