"""Durations that do not hold together are refused at the start."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canonical_guard.errors import InvalidConfiguration
from canonical_guard.terms import MAX_TTL, MIN_TTL, LeaseTerms


def test_the_defaults_are_those_of_a_15_second_lease() -> None:
    assert LeaseTerms() == LeaseTerms.for_ttl(15)


@given(st.floats(MIN_TTL, MAX_TTL))
def test_every_allowed_ttl_scales_into_coherent_terms(ttl: float) -> None:
    terms = LeaseTerms.for_ttl(ttl)
    assert terms.renew_every + 2 * terms.request_timeout <= terms.stop_after
    assert terms.stop_after < terms.kill_after < terms.ttl == ttl


@pytest.mark.parametrize("ttl", [0, 14.9, 300.1, -15, math.nan, math.inf])
def test_a_ttl_out_of_bounds_is_refused(ttl: float) -> None:
    with pytest.raises(InvalidConfiguration):
        LeaseTerms.for_ttl(ttl)


@pytest.mark.parametrize(
    "change",
    [
        {"renew_every": 0},
        {"renew_every": -1},
        {"renew_every": 6.1},
        {"request_timeout": 0},
        {"request_timeout": 2.6},
        {"stop_after": 12},
        {"kill_after": 15},
        {"ttl": 12},
        {"lock_delay": -1},
        {"renew_every": math.nan},
        {"stop_after": math.nan},
        {"ttl": math.nan},
        {"ttl": math.inf},
        {"request_timeout": math.nan},
        {"lock_delay": math.nan},
    ],
)
def test_incoherent_durations_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfiguration):
        LeaseTerms(**change)
