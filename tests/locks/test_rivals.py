"""Many who want one market, and a database that is busy: real threads, processes and locks."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from django.db import connection, transaction

from locks.errors import LockRefused
from locks.kill_switch import set_kill_switch
from locks.leases import Grant
from locks.models import KillSwitch, LockRecord, LockState, Tenure
from locks.services import release_lease, renew_lease, verify_token
from tests.locks.cast import ES, Robot, pass_time, record
from tests.locks.rivals import all_at_once, environment, somebody_holds_the_row

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = pytest.mark.django_db(transaction=True)


def test_of_many_contenders_exactly_one_wins_every_round() -> None:
    for round_ in range(6):
        robots = [Robot(f"run-{round_}-{number}") for number in range(6)]
        results = all_at_once([robot.acquire for robot in robots])

        granted = [(robot, result) for robot, result in zip(robots, results, strict=True)
                   if isinstance(result, Grant)]  # fmt: skip
        refused = [result for result in results if isinstance(result, LockRefused)]
        assert len(granted) == 1, results
        assert len(refused) == 5, results
        codes = {refusal.code for refusal in refused}
        assert codes <= {"CANONICAL_MARKET_ALREADY_ACTIVE", "LOCK_AUTHORITY_UNAVAILABLE"}
        winner, grant = granted[0]
        assert grant.fencing_token == round_ + 1
        release_lease(winner.holding(grant))
    assert LockRecord.objects.count() == 1


def test_processes_that_fight_for_a_market_are_never_two_executors(tmp_path: Path) -> None:
    Robot("first").acquire()
    LockRecord.objects.update(state=LockState.FREE)
    Tenure.objects.all().delete()
    connection.close()
    contenders = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.locks.contender", f"run-{number}", str(tmp_path), "3"],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for contender in contenders:
        assert contender.stdout is not None
        assert contender.stdout.readline() == "ready\n"
    for contender in contenders:
        assert contender.stdin is not None
        contender.stdin.write("go\n")
        contender.stdin.flush()
    told = []
    for contender in contenders:
        out, err = contender.communicate(timeout=60)
        assert contender.returncode == 0, err
        told.append(json.loads(out))

    tokens = sorted(token for one in told for token in one["tokens"])
    assert len(tokens) > 20, told
    assert len(tokens) == len(set(tokens)), "a token was granted twice"
    tenures = list(Tenure.objects.order_by("acquired_at", "fencing_token"))
    assert [tenure.fencing_token for tenure in tenures] == tokens, "tokens grow with time"
    for earlier, later in itertools.pairwise(tenures):
        assert earlier.ended_at is not None
        assert earlier.ended_at <= later.acquired_at, "two tenures overlap"


def test_a_renewal_that_waited_past_its_lease_is_refused() -> None:
    robot = Robot("run-1")
    grant = robot.acquire()
    pass_time(14.6)
    with somebody_holds_the_row() as let_go:
        release = threading.Timer(0.7, let_go)
        release.start()
        with pytest.raises(LockRefused) as refused:
            renew_lease(robot.holding(grant))
        release.join()
    assert refused.value.code == "CANONICAL_MARKET_LOCK_LOST"
    assert record().state == LockState.EXPIRED


def test_a_grant_that_waited_counts_from_after_the_wait() -> None:
    first, second = Robot("run-1"), Robot("run-2")
    release_lease(first.holding(first.acquire()))
    with somebody_holds_the_row() as let_go:
        release = threading.Timer(0.6, let_go)
        before = time.monotonic()
        release.start()
        grant = second.acquire()
        waited = time.monotonic() - before
        release.join()
    held = record()
    assert waited >= 0.5, "it did wait"
    assert held.fencing_token == grant.fencing_token
    released_at = Tenure.objects.get(fencing_token=1).ended_at
    assert held.acquired_at is not None
    assert released_at is not None
    assert (held.acquired_at - released_at).total_seconds() >= 0.5


def test_who_cannot_be_answered_within_a_second_is_told_so_and_gets_nothing() -> None:
    first, second = Robot("run-1"), Robot("run-2")
    release_lease(first.holding(first.acquire()))
    with somebody_holds_the_row():
        before = time.monotonic()
        with pytest.raises(LockRefused) as refused:
            second.acquire()
        waited = time.monotonic() - before
    assert (refused.value.code, refused.value.status) == ("LOCK_AUTHORITY_UNAVAILABLE", 503)
    assert refused.value.retry_after
    assert 0.8 < waited < 2
    assert record().state == LockState.FREE
    assert second.acquire().fencing_token == 2, "the connection is as good as before"


def test_a_renewal_is_answered_though_contenders_keep_knocking() -> None:
    robot = Robot("run-1")
    grant = robot.acquire()
    stop = threading.Event()

    def knock(name: str) -> int:
        attempts = 0
        while not stop.is_set():
            attempts += 1
            with pytest.raises(LockRefused):
                Robot(f"{name}-{attempts}").acquire()
        return attempts

    def renew() -> list[float]:
        took = []
        try:
            for _ in range(10):
                before = time.monotonic()
                renew_lease(robot.holding(grant))
                took.append(time.monotonic() - before)
        finally:
            stop.set()
        return took

    took, *attempts = all_at_once([renew, *(lambda n=n: knock(f"other-{n}") for n in range(3))])
    assert isinstance(took, list), took
    assert max(took) < 1.5
    assert all(isinstance(count, int) for count in attempts), attempts
    assert record().renewals == 10


def test_the_waiting_time_of_everybody_else_is_not_touched() -> None:
    if connection.vendor != "sqlite":
        Robot("run-1").acquire()
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('lock_timeout'), "
                           "current_setting('statement_timeout')")  # fmt: skip
            assert cursor.fetchone() == ("0", "0")
        return
    Robot("run-1").acquire()
    with somebody_holds_the_row(), pytest.raises(LockRefused):
        Robot("run-2").acquire()
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout")
        assert cursor.fetchone() == (20_000,)


def test_a_lease_is_never_part_of_a_larger_transaction() -> None:
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        Robot("run-1").acquire()
    assert not Tenure.objects.exists()


def test_nothing_is_granted_any_more_once_the_kill_switch_call_has_returned() -> None:
    stop = threading.Event()

    def trade(name: str) -> None:
        attempt = 0
        while not stop.is_set():
            attempt += 1
            robot = Robot(f"{name}-{attempt}")
            try:
                release_lease(robot.holding(robot.acquire()))
            except LockRefused as refused:
                if refused.code == "KILL_SWITCH_ACTIVE":
                    return

    def engage() -> tuple[int, int]:
        try:
            while Tenure.objects.count() < 5:
                time.sleep(0.01)
            set_kill_switch("", engaged=True, reason="stop", by="olga")
            granted = Tenure.objects.count()
            time.sleep(0.3)
            return granted, Tenure.objects.count()
        finally:
            stop.set()

    switched, *_ = all_at_once([engage, *(lambda n=n: trade(f"run-{n}") for n in range(4))])
    assert isinstance(switched, tuple), switched
    at_return, later = switched
    assert at_return == later >= 5


def test_a_switch_that_is_being_engaged_is_waited_for() -> None:
    """An acquire never goes by what the switch said before an operator touched it."""
    first = Robot("run-1")
    release_lease(first.holding(first.acquire()))
    touched, engaged = threading.Event(), threading.Event()

    def operator() -> None:
        with transaction.atomic():
            KillSwitch.objects.filter(market="ES").update(engaged=True)
            touched.set()
            engaged.wait(0.4)

    def contender() -> Grant:
        touched.wait(5)
        return Robot("run-2").acquire()

    _, outcome = all_at_once([operator, contender])
    assert isinstance(outcome, LockRefused), outcome
    assert outcome.code == "KILL_SWITCH_ACTIVE"


def test_verifying_waits_for_nobody() -> None:
    grant = Robot("run-1").acquire()
    with somebody_holds_the_row():
        before = time.monotonic()
        verify_token(ES, grant.fencing_token)
        assert time.monotonic() - before < 0.5
