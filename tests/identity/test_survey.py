"""A sweep reads everything, then writes: whoever was faster in between is not overwritten."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from identity.admission import Place
from identity.models import (
    CanonicalInstrument,
    EventOrigin,
    IdentityEvent,
    InvariantResult,
    RobotRun,
    Violation,
    WatchedMarket,
)
from identity.operators import accept_violation, forget_market, mend_violation
from identity.registry import load_markets
from identity.results import streams_checked
from identity.survey import publish_surveyed, survey_markets
from identity.watching import Pair
from tests.identity.cast import (
    NOW,
    ago,
    complete,
    incomplete,
    line,
    post,
    standing,
    swept,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("registry")]
AT_ONCE = NOW + timedelta(seconds=1)
NEXT = NOW + timedelta(seconds=2)


def sweep_while(meanwhile: Callable[[], object]) -> set[Pair]:
    """A sweep with something else amid reading and writing; what it has to look at anew."""
    surveyed, doubtful = survey_markets(load_markets(), NEXT, [])
    assert not doubtful
    meanwhile()
    with transaction.atomic():
        return publish_surveyed(surveyed, NEXT)


def result(market: str = "ES") -> InvariantResult:
    return InvariantResult.objects.get(watched__market=market, origin=EventOrigin.SWEEP)


def test_a_sweep_of_nothing_says_nothing() -> None:
    assert swept() == {}
    assert not IdentityEvent.objects.exists()


def test_what_nobody_touched_meanwhile_is_written_and_said_as_it_was_read() -> None:
    post(complete(), line("ORDER_X", instrument="MNQ", run="run-b"))
    assert sweep_while(lambda: None) == set()
    assert (result().checked_at, result().passed) == (NEXT, True)
    assert (result("NQ").checked_at, result("NQ").passed) == (NEXT, False)
    said = IdentityEvent.objects.filter(origin=EventOrigin.SWEEP, occurred_at=NEXT)
    assert {event.market: event.data["pass"] for event in said} == {"ES": True, "NQ": False}
    assert not said.filter(changed=True).exists()


def test_a_breach_between_reading_and_writing_is_not_passed_over() -> None:
    post(complete())
    assert sweep_while(lambda: post(incomplete(at=AT_ONCE), now=AT_ONCE)) == {("ES", "")}
    assert (result().passed, result().checked_at) == (False, AT_ONCE)
    assert standing(now=NEXT).status == "VIOLATION"


def test_a_mended_breach_between_reading_and_writing_does_not_stay_red() -> None:
    post(incomplete())
    assert sweep_while(lambda: post(complete(at=AT_ONCE), now=AT_ONCE)) == {("ES", "")}
    assert result().passed is True


def test_another_breach_of_a_red_market_between_reading_and_writing_is_listed() -> None:
    post(incomplete())
    assert sweep_while(lambda: post(incomplete("INTENT_X", at=AT_ONCE), now=AT_ONCE)) == {
        ("ES", "")
    }
    assert len(result().violations) == 2


def test_another_stream_between_reading_and_writing_is_listed() -> None:
    post(complete())
    other = {"canonical_instrument": "ES", "execution_instrument": "MES", "stream": "ES2"}
    said = line("ORDER_X", at=AT_ONCE, data=other)
    assert sweep_while(lambda: post(said, now=AT_ONCE)) == {("ES", "")}
    assert result().stream_ids == ["ES1", "ES2"]


def test_more_of_the_same_between_reading_and_writing_holds_nothing_up() -> None:
    post(complete())
    assert sweep_while(lambda: post(complete(at=AT_ONCE), now=AT_ONCE)) == set()
    assert (result().checked_at, result().evidence_at) == (NEXT, AT_ONCE)


@pytest.mark.parametrize("act", ["accept", "mend"])
def test_what_an_operator_decides_between_reading_and_writing_holds(act: str) -> None:
    post(incomplete())
    violation = Violation.objects.get().pk
    until = NOW + timedelta(days=1)

    def decide() -> None:
        said: dict[str, Any] = {"by": "chief", "reason": "known", "now": AT_ONCE}
        if act == "accept":
            accept_violation(violation, until=until, **said)
        else:
            mend_violation(violation, **said)

    assert sweep_while(decide) == {("ES", "")}
    assert result().violations == []


def test_a_market_forgotten_between_reading_and_writing_is_said_no_more() -> None:
    post(complete())
    row = WatchedMarket.objects.get()
    assert (
        sweep_while(lambda: forget_market(row.pk, by="chief", reason="gone", now=AT_ONCE)) == set()
    )
    assert result().checked_at == NOW
    assert swept(NEXT) == {}


def test_a_result_checked_later_than_the_sweep_began_stays() -> None:
    post(complete())
    later = NOW + timedelta(minutes=1)
    post(incomplete(at=later), now=later)
    swept()
    assert result().checked_at == later


def test_a_sweep_goes_back_to_whom_it_was_overtaken_by(monkeypatch: pytest.MonkeyPatch) -> None:
    post(complete())

    def overtaken(*asked: Any) -> Any:
        found = survey_markets(*asked)
        post(incomplete(at=AT_ONCE), now=AT_ONCE)
        return found

    monkeypatch.setattr("identity.sweep.survey_markets", overtaken)
    state = swept(NEXT)["ES"]
    assert (state.status, state.checked_at) == ("VIOLATION", NEXT)


def test_a_sweep_takes_as_many_queries_for_many_markets_as_for_few() -> None:
    CanonicalInstrument.objects.update(exclusive_per_account=True)

    def queries(accounts: int) -> int:
        for number in range(accounts):
            post(complete(run=f"run-{number}", account=f"a{number}"), now=NOW)
        swept()
        with CaptureQueriesContext(connection) as asked:
            assert sweep_while(lambda: None) == set()
        return len(asked)

    assert queries(3) == queries(30)


def test_what_is_read_in_bulk_is_what_is_read_of_each_market_alone() -> None:
    CanonicalInstrument.objects.update(exclusive_per_account=True)
    chance = random.Random(11)
    for number in range(40):
        scope = f"a{number % 8}"
        market = chance.choice(["ES", "NG"])
        silent = chance.choice([0, 60, 140, 160, 300, 3_500, 3_700, 90_000])
        names = {"canonical_instrument": market, "stream": f"{market}{number % 6 + 1}"}
        names |= chance.choice([{}, {"execution_instrument": f"M{market}"}])
        post(
            line("STREAM_STATE", run=f"run-{number % 15}", at=ago(silent), data=names),
            place=Place(log=f"/logs/{number % 3}", scope=scope),
        )
    swept()
    for run in RobotRun.objects.filter(last_seen_at__gt=ago(3_000)):
        seen_at = run.last_seen_at + timedelta(seconds=chance.choice([0, 100]))
        RobotRun.objects.filter(pk=run.pk).update(last_seen_at=seen_at)
    surveyed, doubtful = survey_markets(load_markets(), NOW, [])
    assert len(surveyed) + len(doubtful) == WatchedMarket.objects.count()
    assert len(surveyed) > 5
    for one in surveyed:
        alone = streams_checked(one.row)
        assert one.verdict.stream_ids == alone.stream_ids
        assert one.verdict.execution_instrument == alone.execution_instrument
