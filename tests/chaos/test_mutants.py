"""The checker is right about the protocol as it is, and sees each rule that is left out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.chaos import checker, directed, mutants
from tests.chaos.mutants import Mutant
from tests.chaos.stage import Stage

History = Callable[[Stage], None]

CASES: list[tuple[Mutant, History, str]] = [
    (mutants.no_fencing, directed.expired_holder_sends_an_order, checker.STALE_WRITE),
    (mutants.expired_tokens_pass, directed.expired_holder_sends_an_order, checker.STALE_WRITE),
    (mutants.release_without_token, directed.expired_holder_releases, checker.OVERLAP),
    (mutants.takeover_untold, directed.expired_holder_releases, checker.TAKEOVER_UNTOLD),
    (mutants.no_delay, directed.operator_revokes, checker.OVERLAP),
    (mutants.no_delay, directed.holder_dies, checker.GRANTED_TOO_EARLY),
    (
        mutants.delay_shorter_than_the_ttl,
        directed.operator_revokes_who_cannot_be_reached,
        checker.OVERLAP,
    ),
    (
        mutants.renewal_after_the_end,
        directed.holder_renews_after_the_end,
        checker.DEAD_LEASE_RENEWED,
    ),
    (mutants.nonce_ignored, directed.one_run_is_started_twice, checker.OVERLAP),
    (mutants.replay_after_a_renewal, directed.machine_is_cloned, checker.OVERLAP),
    (
        mutants.ended_pair_is_granted_again,
        directed.old_request_arrives_after_the_release,
        checker.TOKEN_REPEATED,
    ),
    (mutants.expiry_is_rolled_back, directed.holder_dies, checker.STARVED),
    (mutants.token_reset_on_release, directed.one_after_the_other, checker.STARVED),
    (mutants.read_then_write, directed.two_ask_at_once, checker.OVERLAP),
    (
        mutants.clock_before_the_wait,
        directed.renewal_waits_for_the_row_past_the_end,
        checker.DEAD_LEASE_RENEWED,
    ),
    (
        mutants.deadline_from_the_reply,
        directed.guard_is_stopped_while_an_answer_waits,
        checker.OVERLAP,
    ),
    (mutants.check_leaves_the_clock_to_the_thread, directed.renewing_hangs, checker.OVERLAP),
    (mutants.wall_clock, directed.wall_clock_is_set_back, checker.OVERLAP),
    (mutants.no_inode_check, directed.lock_file_is_deleted_by_hand, checker.OVERLAP),
]
HISTORIES = sorted({history for _, history, _ in CASES}, key=lambda history: history.__name__)


@pytest.fixture
def stage(
    tmp_path: Path, transactional_db: None, released_switch: None, monkeypatch: pytest.MonkeyPatch
) -> Stage:
    return Stage(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "history",
    [*HISTORIES, directed.wall_clock_is_set_forward],
    ids=lambda history: history.__name__,
)
def test_with_every_rule_in_place_nothing_is_wrong(history: History, stage: Stage) -> None:
    history(stage)
    assert stage.verdict() == []


@pytest.mark.parametrize(
    ("mutant", "history", "kind"),
    [pytest.param(*case, id=f"{case[0].__name__}-{case[1].__name__}") for case in CASES],
)
def test_without_the_rule_the_checker_sees_it(
    mutant: Mutant, history: History, kind: str, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    with suppress(directed.NeverGranted):
        history(stage)
    assert kind in [violation.kind for violation in stage.verdict()]


def test_tokens_that_start_anew_are_seen_even_where_the_schema_lets_them(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutants.token_reset_on_release(monkeypatch)
    with mutants.tokens_not_unique():
        directed.one_after_the_other(stage)
        assert checker.TOKEN_REPEATED in [violation.kind for violation in stage.verdict()]
