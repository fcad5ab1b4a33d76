"""Histories in which one rule of the protocol decides, and nothing else would save the day.

Each ends the same way every time: with the rule nothing is wrong, without it the checker sees what.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from django.db import connections

from tests.chaos.stage import TERMS, Actor, Stage
from tests.locks.rivals import all_at_once, somebody_holds_the_row

DEAD = TERMS.ttl + TERMS.lock_delay + 0.5


class NeverGranted(Exception):
    """A history cannot go on: nobody can have the market any more."""


def holder(stage: Stage, name: str, **other: object) -> Actor:
    robot = stage.robot(name, **other)
    assert robot.acquire()
    assert robot.act()
    return robot


def takes_over(stage: Stage, name: str) -> Actor:
    """Somebody keeps asking until the market is his."""
    robot = stage.robot(name)
    if not robot.keep_asking(2 * DEAD):
        raise NeverGranted
    assert robot.act()
    return robot


def expired_holder_sends_an_order(stage: Stage) -> None:
    late = holder(stage, "late")
    stage.pass_time(TERMS.ttl + 1)
    late.write_order()
    takes_over(stage, "next")
    late.write_order()


def expired_holder_releases(stage: Stage) -> None:
    late = holder(stage, "late")
    stage.pass_time(TERMS.ttl + 1)
    second = takes_over(stage, "second")
    late.release()
    third = stage.robot("third")
    if third.acquire():
        third.act()
    second.act()


def operator_revokes(stage: Stage) -> None:
    """The holder hears of it with his next renewal only."""
    first = holder(stage, "first")
    stage.revoke()
    second = stage.robot("second")
    at_once = second.acquire()
    if at_once:
        second.act()
    stage.pass_time(1)
    first.act()
    stage.pass_time(TERMS.renew_every)
    first.renew()
    assert not first.act(), "a renewal tells of the revocation"
    if at_once or second.keep_asking(DEAD):
        second.act()


def operator_revokes_who_cannot_be_reached(stage: Stage) -> None:
    first = holder(stage, "first")
    first.line.is_cut = True
    stage.revoke()
    stage.pass_time(3)
    second = stage.robot("second")
    if second.acquire():
        second.act()
    stage.pass_time(TERMS.stop_after - 3.5)
    assert first.act(), "by its own clock it still may"
    stage.pass_time(1)
    assert not first.act()


def holder_renews_after_the_end(stage: Stage) -> None:
    """Nobody else asked meanwhile, so nobody saw that it is over."""
    late = holder(stage, "late")
    stage.pass_time(TERMS.ttl + 0.5)
    late.send_renewal()


def one_run_is_started_twice(stage: Stage) -> None:
    """Somebody copied a configuration, run_id and all."""
    first = holder(stage, "first", run="the-run", host="one", pid=1)
    second = stage.robot("second", run="the-run", host="two", pid=2)
    if second.acquire():
        second.act()
    first.act()


def machine_is_cloned(stage: Stage) -> None:
    """Everything of the copy is the same: host, pid, run and nonce."""
    first = holder(stage, "first", host="the-host")
    stage.pass_time(TERMS.renew_every)
    first.renew()
    copy = stage.robot("copy", run=first.run, nonce=first.nonce, host="the-host")
    if copy.acquire():
        copy.act()
    first.act()


def old_request_arrives_after_the_release(stage: Stage) -> None:
    first = holder(stage, "first")
    first.release()
    late = stage.robot("late", run=first.run, nonce=first.nonce, host=first.host)
    late.acquire()  # nobody is there any more to hear the answer
    takes_over(stage, "second")


def holder_dies(stage: Stage) -> None:
    holder(stage, "dead")
    takes_over(stage, "heir")


def one_after_the_other(stage: Stage) -> None:
    for name in ("first", "second", "third"):
        takes_over(stage, name).release()


def guard_is_stopped_while_an_answer_waits(stage: Stage) -> None:
    """Its request was granted; by the time it reads so, another holds the market."""
    slow = stage.robot("slow")
    others: list[Actor] = []
    slow.line.before_reading = lambda: others.append(takes_over(stage, "other"))
    if slow.acquire():
        slow.act()
    others[0].act()


def renewing_hangs(stage: Stage) -> None:
    hung = holder(stage, "hung")
    hung.line.is_cut = True
    other = takes_over(stage, "other")
    hung.act()
    other.act()


def wall_clock_is_set_back(stage: Stage) -> None:
    hung = holder(stage, "hung")
    hung.line.is_cut = True
    stage.wall_step = -3600.0
    other = takes_over(stage, "other")
    hung.act()
    other.act()


def wall_clock_is_set_forward(stage: Stage) -> None:
    """It costs nobody his lease either."""
    first = holder(stage, "first")
    stage.wall_step = 3600.0
    assert first.act()
    stage.pass_time(TERMS.renew_every)
    first.renew()
    assert first.act()


def lock_file_is_deleted_by_hand(stage: Stage) -> None:
    root = stage.folder / "one host"
    first, second = stage.robot("first"), stage.robot("second")
    assert first.take_host(root)
    assert first.act()
    assert not second.take_host(root)
    (root / "runtime_locks" / ".canonical_ES.guard").unlink()
    (root / "runtime_locks" / "canonical_ES.lock").unlink()
    assert second.take_host(root)
    second.act()
    first.act()
    second.act()


def two_ask_at_once(stage: Stage) -> None:
    robots = [stage.robot("first"), stage.robot("second")]
    holder(stage, "before").release()
    holders = [
        robot
        for robot, granted in zip(
            robots, all_at_once([robot.acquire for robot in robots]), strict=True
        )
        if granted is True
    ]
    for robot in [*holders, *holders]:
        robot.act()


def renewal_waits_for_the_row_past_the_end(stage: Stage) -> None:
    """Another transaction holds the row (SQLite: the writer) while the lease runs out."""
    late = holder(stage, "late")
    stage.pass_time(TERMS.ttl - 0.3)
    over, freed_at = stage.now() + 0.3, [0.0]
    with somebody_holds_the_row() as let_go:
        renewing = threading.Thread(target=_renew_in_thread, args=(late, lambda: freed_at[0]))
        renewing.start()
        renewing.join(0.5)
        assert renewing.is_alive(), "the renewal waits for the row"
        freed_at[0] = stage.now()
        assert freed_at[0] > over, "the lease ran out while the row was held"
        let_go()
        renewing.join(5)


def _renew_in_thread(robot: Actor, not_before: Callable[[], float]) -> None:
    try:
        robot.send_renewal(not_before)
    finally:
        connections.close_all()
