"""The protocol, each time with one of its rules left out. Applied to a process by patching it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from canonical_guard import clock, lease, renewals
from canonical_guard.oslock import OsLock
from locks import acquisition, execution, services
from locks import statements as lock_statements
from locks.execution import Sight, statements
from locks.leases import LockId
from locks.models import LockRecord, LockState, Tenure
from locks.statements import DELAY, THIS, Transition

Patch = pytest.MonkeyPatch


def _without(patch: Patch, transition: str, *texts: tuple[str, str]) -> None:
    """Replace parts of a transition's update; a text that is not there is a mutant of nothing.

    What the row is waited for by goes the same way: on PostgreSQL it is a condition too.
    """
    original: Transition = getattr(statements(), transition)
    update, contended = original.update, original.contended
    for text, instead in texts:
        assert text in update, f"{transition} has no {text!r}"
        update, contended = update.replace(text, instead), contended.replace(text, instead)
    mutated = replace(original, update=update, contended=contended)
    patch.setattr(statements(), transition, mutated)


def no_fencing(patch: Patch) -> None:
    """Any token that was ever granted passes."""

    def verify_token(lock: LockId, fencing_token: int) -> None:
        record = LockRecord.objects.get(kind=lock.kind, name=lock.name, scope=lock.scope)
        assert fencing_token <= record.fencing_token

    patch.setattr(services, "verify_token", verify_token)


def expired_tokens_pass(patch: Patch) -> None:
    """The token is compared, but not whether its lease still lasts."""
    original = execution.look

    def look(lock: LockId) -> Sight | None:
        sight = original(lock)
        return sight and replace(sight, now=sight.now - timedelta(hours=1))

    patch.setattr(execution, "look", look)


def release_without_token(patch: Patch) -> None:
    _without(
        patch,
        "release",
        (" AND lock.fencing_token = %(fencing_token)s", ""),
        (" AND lock.run_id = %(run_id)s AND lock.nonce_hash = %(nonce_hash)s", ""),
    )


def no_delay(patch: Patch) -> None:
    delay = DELAY.format(d=statements().dialect)
    for transition in ("revoke", "expire"):
        _without(patch, transition, (delay, "0"))


def delay_shorter_than_the_ttl(patch: Patch) -> None:
    delay = DELAY.format(d=statements().dialect)
    for transition in ("revoke", "expire"):
        _without(patch, transition, (delay, "2"))


def renewal_after_the_end(patch: Patch) -> None:
    _without(patch, "renew", (" AND lock.expires_at > clock.now", ""))


def nonce_ignored(patch: Patch) -> None:
    def is_lost_reply(request: Any, nonce_hash: str, sight: Sight) -> bool:
        return bool(sight.record.state == LockState.HELD and sight.record.run_id == request.run_id)

    patch.setattr(acquisition, "_is_lost_reply", is_lost_reply)


def replay_after_a_renewal(patch: Patch) -> None:
    original = acquisition._is_lost_reply

    def is_lost_reply(request: Any, nonce_hash: str, sight: Sight) -> bool:
        never_renewed = replace(sight, columns={**sight.columns, "renewals": 0})
        return original(request, nonce_hash, never_renewed)

    patch.setattr(acquisition, "_is_lost_reply", is_lost_reply)


def ended_pair_is_granted_again(patch: Patch) -> None:
    original: Transition = statements().grant
    start = original.update.index("  AND NOT EXISTS (SELECT 1 FROM locks_tenure")
    end = original.update.index("  AND (NOT %(obeys_kill_switch)s")
    update = original.update[:start] + original.update[end:]
    patch.setattr(statements(), "grant", replace(original, update=update))


def expiry_is_rolled_back(patch: Patch) -> None:
    """As if it were part of the contender's transaction, which ends in a refusal."""
    patch.setattr(acquisition, "expire_lease", lambda lock, seen_by: None)


def token_reset_on_release(patch: Patch) -> None:
    _without(patch, "release", ("SET state = 'FREE'", "SET fencing_token = 0, state = 'FREE'"))


@contextmanager
def tokens_not_unique() -> Iterator[None]:
    """The schema would refuse a token that was there before; here it does not."""
    (constraint,) = constraints = Tenure._meta.constraints
    # SQLite makes the table anew, by what the model says then.
    Tenure._meta.constraints = []
    try:
        with connection.schema_editor() as editor:
            editor.remove_constraint(Tenure, constraint)
    finally:
        Tenure._meta.constraints = constraints
    try:
        yield
    finally:
        Tenure.objects.all().delete()
        with connection.schema_editor() as editor:
            editor.add_constraint(Tenure, constraint)


def takeover_untold(patch: Patch) -> None:
    _without(patch, "expire", (", dirty = true", ""))


def read_then_write(patch: Patch) -> None:
    """Whether the lock is free is looked at first; the write no longer asks."""
    original, both_have_read = execution.run, threading.Barrier(2)
    unconditional = statements().grant
    start = unconditional.update.index("  AND (lock.state = 'FREE'")
    end = unconditional.update.index("  AND NOT EXISTS")
    write = replace(
        unconditional,
        update=unconditional.update[:start] + unconditional.update[end:],
        contended=THIS,
    )

    def run(transition: Transition, lock: LockId, parameters: Any) -> Any:
        if transition is not statements().grant or threading.current_thread().name == "MainThread":
            return original(transition, lock, parameters)
        sight = execution.look(lock)
        if sight is None or sight.record.state != LockState.FREE:
            return None
        both_have_read.wait(5)
        return original(write, lock, parameters)

    patch.setattr(execution, "run", run)


def clock_before_the_wait(patch: Patch) -> None:
    """PostgreSQL: now() for clock_timestamp(). SQLite: the time of before BEGIN IMMEDIATE."""
    if connection.vendor == "postgresql":
        clock = lock_statements.POSTGRES_CLOCK_AFTER_WAIT
        frozen = clock.replace("clock_timestamp()", "now()")
        assert frozen != clock
        patch.setattr(lock_statements, "POSTGRES_CLOCK_AFTER_WAIT", frozen)
        patch.setattr(execution, "_steps", execution._steps.__wrapped__)
        return
    original = execution._lease_writer

    @contextmanager
    def writer() -> Iterator[tuple[Any, str]]:
        with execution.lease_connection() as raw:
            early = execution._sqlite_now(raw)
        with original() as (raw, _):
            yield raw, early

    patch.setattr(execution, "_lease_writer", writer)


def deadline_from_the_reply(patch: Patch) -> None:
    original = lease._granted

    def granted(authority: Any, request: Any, answer: Any, asked_at: float) -> lease.Grant:
        return original(authority, request, answer, clock.now())

    patch.setattr(lease, "_granted", granted)


def check_leaves_the_clock_to_the_thread(patch: Patch) -> None:
    patch.setattr(renewals.Renewals, "_look", lambda self: None)


def wall_clock(patch: Patch) -> None:
    patch.setattr(clock, "now", lambda: time.time())


def no_inode_check(patch: Patch) -> None:
    patch.setattr(OsLock, "is_intact", lambda self: True)


Mutant = Callable[[Patch], None]
