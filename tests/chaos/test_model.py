"""The protocol holds in every state its model can reach, and each rule left out shows why it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.chaos.model import Rules, acts, explore


def test_no_reachable_state_has_two_that_act(tell: Callable[[str], None]) -> None:
    states, overlap = explore(Rules())
    tell(f"protocol model: {states:,} states, explored to the end")
    assert overlap is None
    assert states > 100_000, "the model lost some of its faults"


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param(Rules(kill_after=6), id="killed later than TTL and delay"),
        pytest.param(Rules(keeper_is_in_time=False), id="nobody kills in time"),
        pytest.param(Rules(counts_from_sending=False), id="deadline counted from the reply"),
        pytest.param(Rules(clock_runs_in_suspend=False), id="clock stops in suspend"),
        pytest.param(Rules(lock_delay=0), id="no lock delay"),
    ],
)
def test_without_the_self_fencing_margin_two_act(rules: Rules) -> None:
    _, overlap = explore(rules)
    assert overlap is not None
    assert all(acts(client, rules) for client in overlap[-1].clients)
