"""What an operator may do: acknowledge, mend, accept, forget; each with a reason, once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from identity.errors import IdentityRefused
from identity.models import EventOrigin, IdentityEvent, Violation, ViolationEnd, WatchedMarket
from identity.operators import (
    accept_violation,
    acknowledge_violation,
    forget_market,
    mend_violation,
)
from identity.status import market_identities
from tests.identity.cast import (
    NOW,
    ago,
    complete,
    incomplete,
    journal,
    open_violations,
    post,
    standing,
    swept,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("registry")]
WHO: dict[str, Any] = {"by": "desk", "reason": "known since Monday", "now": NOW}
UNTIL = NOW + timedelta(days=7)


@pytest.fixture
def broken() -> Violation:
    post(complete(at=ago(50)), incomplete("INTENT_X", at=ago(40)))
    return Violation.objects.get()


def test_an_acknowledged_violation_stays_red(broken: Violation) -> None:
    acknowledge_violation(broken.pk, **WHO)
    broken.refresh_from_db()
    assert (broken.acknowledged_by, broken.acknowledged_at) == ("desk", NOW)
    assert standing().status == "VIOLATION"


def test_an_operators_word_mends_and_the_next_breach_opens_another(broken: Violation) -> None:
    mend_violation(broken.pk, **WHO)
    broken.refresh_from_db()
    assert (broken.end, broken.ended_by, broken.end_reason) == (
        ViolationEnd.OPERATOR, "desk", WHO["reason"],
    )  # fmt: skip
    assert standing().status == "OK"
    newest = IdentityEvent.objects.filter(origin=EventOrigin.SWEEP).latest("id")
    assert newest.data["pass"] is True, "a changed result is said at once"
    later = NOW + timedelta(seconds=5)
    post(incomplete("INTENT_X", at=later), now=later)
    assert standing(now=later).status == "VIOLATION"


def test_lines_written_before_the_operator_mended_it_do_not_open_it_again(
    broken: Violation,
) -> None:
    mend_violation(broken.pk, **WHO)
    post(incomplete("INTENT_X", at=ago(1)))
    assert open_violations() == []


def test_an_accepted_violation_is_listed_and_counted_but_not_red_until_its_end(
    broken: Violation,
) -> None:
    accept_violation(broken.pk, until=UNTIL, **WHO)
    post(incomplete("INTENT_X", at=ago(1)))
    state = swept()["ES"]
    assert (state.status, state.red_violations) == ("OK", [])
    assert [violation.count for violation in state.violations] == [2]
    assert standing(now=UNTIL).status == "VIOLATION"


def test_what_was_accepted_stays_accepted_when_it_comes_and_goes(broken: Violation) -> None:
    accept_violation(broken.pk, until=UNTIL, **WHO)
    post(complete("INTENT_X", at=ago(30)), incomplete("INTENT_X", at=ago(20)))
    assert len(open_violations()) == 1
    assert standing().status == "OK"


def test_nothing_but_an_incomplete_event_can_be_accepted() -> None:
    post(journal("NG1", ""))
    row = Violation.objects.get()
    with pytest.raises(IdentityRefused) as refused:
        accept_violation(row.pk, until=UNTIL, **WHO)
    assert refused.value.code == "NOT_ACCEPTABLE"
    row.refresh_from_db()
    assert row.accepted_until is None


def test_an_acceptance_ends_some_day(broken: Violation) -> None:
    with pytest.raises(IdentityRefused) as refused:
        accept_violation(broken.pk, until=NOW, **WHO)
    assert refused.value.code == "END_NOT_AHEAD"


@pytest.mark.parametrize(
    "act",
    [
        acknowledge_violation,
        mend_violation,
        lambda pk, **who: accept_violation(pk, until=UNTIL, **who),
    ],
)
def test_every_act_demands_a_reason_and_an_open_violation(
    act: Callable[..., None], broken: Violation
) -> None:
    with pytest.raises(IdentityRefused) as refused:
        act(broken.pk, **{**WHO, "reason": " "})
    assert refused.value.code == "NO_REASON"
    post(complete("INTENT_X"))
    for gone in (broken.pk, broken.pk + 1000):
        with pytest.raises(IdentityRefused) as refused:
            act(gone, **WHO)
        assert refused.value.code == "NOT_OPEN"


def test_a_forgotten_market_is_watched_again_with_newer_evidence_only(broken: Violation) -> None:
    row = WatchedMarket.objects.get()
    forget_market(row.pk, **WHO)
    assert market_identities(NOW) == []
    post(complete(at=ago(10)))
    assert market_identities(NOW) == []
    assert swept() == {}
    later = NOW + timedelta(seconds=5)
    post(complete(at=later), now=later)
    assert standing(now=later).status == "VIOLATION"
    with pytest.raises(IdentityRefused):
        forget_market(row.pk + 1000, **WHO)
