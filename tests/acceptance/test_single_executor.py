"""Acceptance: at most one executor per canonical market, with the real guard and web process."""

from __future__ import annotations

import json
import signal
import time
from typing import Any

from tests.acceptance.conftest import StartRobot
from tests.server import Server

# The row's own times are moved back, which is what the passing of time does to it.
PASS_TIME = """
from datetime import timedelta
from django.db.models import F
from locks.models import LockRecord
shift = timedelta(seconds={seconds})
LockRecord.objects.update(
    renewed_at=F("renewed_at") - shift, expires_at=F("expires_at") - shift,
    free_at=F("free_at") - shift,
)
"""


def lock_events(server: Server, type_: str) -> list[dict[str, Any]]:
    status, page = server.request("GET", f"/api/locks/events?name=ES&type={type_}", role="reader")
    assert status == 200, page
    results: list[dict[str, Any]] = page["results"]
    return results


def lock(server: Server) -> dict[str, Any]:
    status, page = server.request("GET", "/api/locks?name=ES", role="reader")
    assert status == 200, page
    (record,) = page["results"]
    return dict(record)


def pass_time(server: Server, seconds: float) -> None:
    done = server.manage("shell", "-v", "0", "-c", PASS_TIME.format(seconds=seconds))
    assert done.returncode == 0, done.stderr


def test_mes_alone_takes_the_market_es_while_it_is_closed(
    server: Server, start_robot: StartRobot
) -> None:
    """No tick, bar or order is needed: the market is taken by name before the robot starts."""
    robot = start_robot("MES").trading()

    assert robot.told["canonical_instrument"] == "ES"
    assert robot.told["takeover"] == "0"
    record = json.loads(robot.lock_file.read_text())
    assert record["run_id"] == robot.told["run_id"]
    assert record["canonical_instrument"] == "ES"
    assert record["execution_instrument"] == "MES"
    assert record["fencing_token"] == int(robot.told["fencing_token"])
    held = lock(server)
    assert (held["state"], held["run_id"]) == ("HELD", robot.told["run_id"])
    (acquired,) = lock_events(server, "CANONICAL_MARKET_LOCK_ACQUIRED")
    assert acquired["run_id"] == robot.told["run_id"]
    assert server.manage("sweep").returncode == 2
    _, status = server.request("GET", "/api/watchdog/status?market=ES", role="reader")
    (market,) = status["markets"]
    assert market["identity"]["status"] == "UNKNOWN", "nothing was checked, so nothing passed"
    assert status["last_identity_invariants_pass"] is None


def test_es_is_refused_while_mes_runs_on_the_same_host(
    server: Server, start_robot: StartRobot
) -> None:
    first = start_robot("MES").trading()
    before = first.lock_file.read_bytes()

    status, said = start_robot("ES").refused()

    assert status == 75
    assert "CANONICAL_MARKET_ALREADY_ACTIVE" in said
    assert first.told["run_id"] in said, "it names the first"
    assert "Traceback" not in said
    after = json.loads(first.lock_file.read_bytes())
    assert after == json.loads(before), "its lock file is left untouched"
    assert first.process.poll() is None


def test_es_is_refused_under_another_project_root_and_that_is_in_the_lock_events(
    server: Server, start_robot: StartRobot
) -> None:
    first = start_robot("MES").trading()

    second = start_robot("ES", root="elsewhere")
    status, said = second.refused()

    assert status == 75
    assert first.told["run_id"] in said
    assert not second.lock_file.exists(), "a refused robot leaves no lock file behind"
    (refused,) = lock_events(server, "CANONICAL_MARKET_ALREADY_ACTIVE")
    assert refused["data"]["active_run_id"] == first.told["run_id"]
    assert refused["run_id"] != first.told["run_id"]
    assert lock(server)["run_id"] == first.told["run_id"]


def test_a_clean_shutdown_frees_the_lease_and_removes_the_file(
    server: Server, start_robot: StartRobot
) -> None:
    first = start_robot("MES").trading()
    token = int(first.told["fencing_token"])

    first.stop(signal.SIGTERM)

    assert first.robot_is_gone(seconds=0.5), "the guard ends after its robot"
    assert not first.lock_file.exists()
    assert lock(server)["state"] == "FREE"
    assert len(lock_events(server, "CANONICAL_MARKET_LOCK_RELEASED")) == 1
    successor = start_robot("ES").trading()
    assert int(successor.told["fencing_token"]) > token
    assert successor.told["takeover"] == "0"


def test_a_killed_guard_takes_its_robot_along_and_the_next_one_gets_in(
    server: Server, start_robot: StartRobot
) -> None:
    first = start_robot("MES").trading()

    first.stop(signal.SIGKILL)

    assert first.robot_is_gone(seconds=12), "the keeper ends the robot"
    deadline = time.monotonic() + 5
    while lock(server)["state"] == "HELD":
        assert time.monotonic() < deadline, "the keeper gives the lease back"
        time.sleep(0.05)
    successor = start_robot("ES").trading()
    assert successor.told["takeover"] == "1", "nobody knows how its orders were left"
    assert int(successor.told["fencing_token"]) > int(first.told["fencing_token"])


def test_a_stale_lock_is_recovered_once_nothing_can_be_left_of_its_holder(
    server: Server, start_robot: StartRobot
) -> None:
    first = start_robot("MES").trading()
    keeper = first.keeper
    first.process.send_signal(signal.SIGSTOP)
    keeper.kill()
    first.stop(signal.SIGKILL)
    assert first.robot_is_gone(), "a robot never outlives both guard and keeper"
    assert first.lock_file.exists(), "nobody was left to tidy up"

    status, said = start_robot("ES").refused()
    assert status == 75, "the lease has not run out yet"
    pass_time(server, 15)
    status, said = start_robot("ES").refused()
    assert status == 75
    assert "it is free in" in said, "the holder might be late: the lock delay runs"
    pass_time(server, 15)
    successor = start_robot("ES").trading()

    assert successor.told["takeover"] == "1"
    assert json.loads(successor.lock_file.read_text())["run_id"] == successor.told["run_id"]
    assert lock_events(server, "CANONICAL_MARKET_LOCK_STALE")


def test_without_an_authority_nothing_is_started(server: Server, start_robot: StartRobot) -> None:
    server.stop()
    status, said = start_robot("MES").refused()
    assert status == 69
    assert "LOCK_AUTHORITY_UNAVAILABLE" in said
    assert "Traceback" not in said


def test_an_unknown_instrument_is_refused_by_name(start_robot: StartRobot) -> None:
    status, said = start_robot("MEZ").refused()
    assert status == 64, said
    assert "UNKNOWN_INSTRUMENT" in said
    assert "MES" in said, "the nearest candidates are named"


def test_a_wrong_key_starts_nothing(server: Server, start_robot: StartRobot) -> None:
    server.key_file.write_text("0000.not-a-key")
    status, said = start_robot("MES").refused()
    assert status == 69
    assert "key" in said
