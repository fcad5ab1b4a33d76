"""What becomes of an alert from look to look, and who has to hear of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.alerts.cast import (
    CLOSED,
    JUST_OPENED,
    NOW,
    OPEN,
    ago,
    breach,
    facts,
    later,
    lease,
    refusal,
    robot,
    silent,
    standing,
)
from watchdog_project.alerts.conditions import findings_of, unjudged
from watchdog_project.alerts.facts import Facts, Session, Switch
from watchdog_project.alerts.kinds import DEFAULTS, Kind, Rule, Severity
from watchdog_project.alerts.lifecycle import Known, State, Step, Window, plan


class Book:
    """The open alerts, kept as the database keeps them, and every message that was owed."""

    def __init__(self, rules: Mapping[Kind, Rule] = DEFAULTS) -> None:
        self.rules = dict(rules)
        self.windows: Sequence[Window] = ()
        self.open: dict[int, Known] = {}
        self.ever = 0
        self.messages: list[tuple[str, str, str]] = []

    def look(self, seen: Facts) -> list[tuple[str, str, str]]:
        """The messages that this look owes: step, kind and market."""
        before = len(self.messages)
        changes = plan(
            list(self.open.values()),
            findings_of(seen),
            seen,
            rules=self.rules,
            windows=self.windows,
            unjudged=unjudged(seen),
        )
        for change in changes:
            after = change.after
            if after.id is None:
                self.ever += 1
                after = replace(after, id=self.ever)
            assert after.id is not None
            self.open[after.id] = after
            if after.state is State.RESOLVED:
                del self.open[after.id]
            self.messages += [
                (told.step.value, after.kind.value, after.market)
                for told in change.steps
                if told.owed
            ]
        return self.messages[before:]

    def states(self) -> dict[str, str]:
        return {one.kind.value: one.state.value for one in self.open.values()}

    def set(self, **more: object) -> None:
        """An operator's hand on the only alert there is."""
        ((number, one),) = self.open.items()
        self.open[number] = replace(one, **more)  # type: ignore[arg-type]


@pytest.fixture
def book() -> Book:
    return Book()


def test_an_emergency_is_told_with_the_look_that_finds_it(book: Book) -> None:
    two = facts(leases=[lease(refusals=[refusal()])])

    assert book.look(two) == [("fired", "DUPLICATE_EXECUTOR_BLOCKED", "ES")]
    assert book.look(two) == []


def test_a_quiet_alert_is_kept_and_told_to_nobody(book: Book) -> None:
    waiting = facts(leases=[lease(refusals=[refusal()], renewed_at=ago(10))])

    assert book.look(waiting) == []
    assert book.states() == {"RESTART_WAITING": "firing"}
    assert book.look(facts(leases=[lease()])) == []
    assert book.open == {}


def test_a_condition_must_hold_for_its_minimum_time(book: Book) -> None:
    def at(seconds: float, **parts: object) -> Facts:
        return facts(later(seconds), **parts)

    ill = [robot(engine_stalled_since=NOW)]
    assert book.look(at(1, liveness=ill)) == []
    assert book.states() == {"ENGINE_STALLED": "pending"}
    assert book.look(at(29, liveness=ill)) == []
    assert book.look(at(30, liveness=ill)) == [("fired", "ENGINE_STALLED", "ES")]


def test_what_passes_before_its_minimum_time_is_told_to_nobody(book: Book) -> None:
    assert book.look(facts(liveness=[robot(engine_stalled_since=ago(5))])) == []
    assert book.look(facts(later(5), liveness=[robot()])) == []
    assert book.open == {}


def test_the_end_of_an_alert_is_told_once(book: Book) -> None:
    book.look(facts(breaches=[breach()]))

    assert book.look(facts(later(5))) == [("resolved", "IDENTITY_VIOLATION", "ES")]
    assert book.look(facts(later(10))) == []


def test_recovery_closes_the_right_markets_alert_only(book: Book) -> None:
    book.look(facts(breaches=[breach("ES"), breach("NQ"), breach("NQ", scope="acc")]))

    told = book.look(facts(later(5), breaches=[breach("ES"), breach("NQ", scope="acc")]))

    assert told == [("resolved", "IDENTITY_VIOLATION", "NQ")]
    assert [(one.market, one.scope) for one in book.open.values()] == [("ES", ""), ("NQ", "acc")]


def test_what_lasts_is_told_again_after_the_rules_interval(book: Book) -> None:
    lasting = [breach()]
    book.look(facts(breaches=lasting))

    assert book.look(facts(later(1799), breaches=lasting)) == []
    assert book.look(facts(later(1800), breaches=lasting)) == [
        ("still firing", "IDENTITY_VIOLATION", "ES")
    ]


def test_what_is_acknowledged_is_not_repeated_and_its_end_is_told(book: Book) -> None:
    book.look(facts(breaches=[breach()]))
    book.set(state=State.ACKNOWLEDGED)

    assert book.look(facts(later(7200), breaches=[breach()])) == []
    assert book.look(facts(later(7300))) == [("resolved", "IDENTITY_VIOLATION", "ES")]


def test_a_snooze_ends_and_says_so_where_it_still_holds(book: Book) -> None:
    book.look(facts(breaches=[breach()]))
    book.set(state=State.SNOOZED, snoozed_until=later(7200))

    assert book.look(facts(later(7199), breaches=[breach()])) == []
    assert book.look(facts(later(7200), breaches=[breach()])) == [
        ("snooze over", "IDENTITY_VIOLATION", "ES")
    ]
    assert book.states() == {"IDENTITY_VIOLATION": "firing"}


def test_nobody_is_told_of_the_robots_of_a_silent_host_one_by_one(book: Book) -> None:
    markets = [f"M{n}" for n in range(20)]
    told = book.look(facts(liveness=[silent(market) for market in markets]))

    assert told == [("fired", "HOST_SILENT", "")]
    assert len(book.open) == 21


def test_a_host_that_is_about_to_be_known_as_silent_holds_its_robots_back(book: Book) -> None:
    """The last of its robots fell silent ten seconds ago, the first one a minute."""
    both = [silent("ES", 60), silent("NQ", 10)]

    assert book.look(facts(liveness=both)) == []
    assert book.look(facts(later(6), liveness=both)) == [("fired", "HOST_SILENT", "")]


def test_a_robot_that_stays_silent_when_its_host_is_back_is_told_of_after_a_moment(
    book: Book,
) -> None:
    book.look(facts(liveness=[silent("ES"), silent("NQ")]))
    back = [robot("ES"), silent("NQ")]

    assert book.look(facts(later(10), liveness=back)) == [("resolved", "HOST_SILENT", "")]
    assert book.look(facts(later(39), liveness=back)) == []
    assert book.look(facts(later(40), liveness=back)) == [("still firing", "ROBOT_SILENT", "NQ")]


def test_a_robot_that_was_held_back_and_is_back_is_told_to_nobody(book: Book) -> None:
    book.look(facts(liveness=[silent("ES"), silent("NQ")]))
    book.look(facts(later(10), liveness=[robot("ES"), silent("NQ")]))

    assert book.look(facts(later(20), liveness=[robot("ES"), robot("NQ")])) == []


def test_a_silent_robot_explains_what_else_ails_it_in_its_own_market_only(book: Book) -> None:
    told = book.look(
        facts(
            liveness=[silent("ES"), robot("NQ", host="trader-2")],
            standings=[standing("ES"), standing("NQ")],
        )
    )

    assert sorted(told) == [
        ("fired", "IDENTITY_STALE", "NQ"),
        ("fired", "ROBOT_SILENT", "ES"),
    ]


def test_nothing_opens_while_the_market_is_known_to_be_closed(book: Book) -> None:
    quiet = [silent("ES"), silent("NQ", host="b"), silent("CL", host="c"), silent("GC", host="d")]
    hours = {("ES", ""): CLOSED, ("NQ", ""): JUST_OPENED, ("CL", ""): OPEN, ("GC", ""): Session()}

    told = book.look(facts(liveness=quiet, sessions=hours))

    assert {market for _, _, market in told} == {"CL", "GC"}


def test_a_robot_that_is_not_there_after_the_open_and_its_grace_is_told_of(book: Book) -> None:
    weekend = [silent("ES", 172_800)]
    opened = {("ES", ""): Session(open=True, changed_at=ago(299))}

    assert book.look(facts(liveness=weekend, sessions=opened)) == []
    assert book.look(facts(later(1), liveness=weekend, sessions=opened)) == [
        ("fired", "ROBOT_SILENT", "ES")
    ]


def test_the_close_neither_ends_an_alert_nor_repeats_it(book: Book) -> None:
    book.look(facts(liveness=[silent()], sessions={("ES", ""): OPEN}))
    closed = {("ES", ""): CLOSED}

    assert book.look(facts(later(7200), liveness=[silent()], sessions=closed)) == []
    assert book.states() == {"ROBOT_SILENT": "firing"}


def test_a_host_whose_markets_are_all_closed_may_be_switched_off(book: Book) -> None:
    hours = {("ES", ""): CLOSED, ("NQ", ""): CLOSED}

    assert book.look(facts(liveness=[silent("ES"), silent("NQ")], sessions=hours)) == []


def test_a_window_holds_messages_back_and_lets_emergencies_through(book: Book) -> None:
    book.windows = [Window("", ago(60), later(600), "exchange tests")]
    wrong = [breach(), breach("NQ", "STALE_FENCING_TOKEN")]

    assert book.look(facts(breaches=wrong)) == [("fired", "STALE_TOKEN_USED", "NQ")]
    assert len(book.open) == 2


def test_what_still_holds_after_a_window_is_told_then(book: Book) -> None:
    book.windows = [Window("ES", ago(60), later(600), "exchange tests")]
    book.look(facts(breaches=[breach()]))
    assert book.look(facts(later(600), breaches=[breach()])) == []

    assert book.look(facts(later(630), breaches=[breach()])) == [
        ("still firing", "IDENTITY_VIOLATION", "ES")
    ]


def test_a_window_of_one_market_is_not_anothers(book: Book) -> None:
    book.windows = [Window("NQ", ago(60), later(600), "exchange tests")]

    assert book.look(facts(breaches=[breach("ES")])) != []


def test_history_opens_nothing_and_closes_nothing(book: Book) -> None:
    old = lease(state="EXPIRED", expires_at=ago(7200), expiry_seen_at=ago(10))
    assert book.look(facts(leases=[old])) == []
    assert book.open == {}

    new = lease(state="EXPIRED", expires_at=ago(90), expiry_seen_at=ago(80))
    assert book.look(facts(leases=[new])) == [("fired", "LOCK_STALE", "ES")]
    assert book.look(facts(later(60), leases=[old])) == []
    assert book.states() == {"LOCK_STALE": "firing"}


def test_what_cannot_be_read_neither_opens_nor_closes_anything(book: Book) -> None:
    book.look(facts(breaches=[breach()]))

    assert book.look(facts(later(5), unread=frozenset({"breaches"}))) == []
    assert book.states() == {"IDENTITY_VIOLATION": "firing"}


def test_a_rule_that_is_switched_off_closes_its_alerts_and_opens_none(book: Book) -> None:
    engaged = facts(switches=[Switch("ES", ago(5), "chief", "drill")])
    book.look(engaged)
    kind = Kind.KILL_SWITCH_ENGAGED
    book.rules[kind] = replace(book.rules[kind], enabled=False)

    assert book.look(engaged) == [("resolved", "KILL_SWITCH_ENGAGED", "ES")]
    assert book.look(engaged) == []


def test_a_rule_that_became_an_emergency_makes_one_of_its_open_alert(book: Book) -> None:
    book.look(facts(breaches=[breach()]))
    kind = Kind.IDENTITY_VIOLATION
    book.rules[kind] = replace(book.rules[kind], severity=Severity.EMERGENCY)

    book.look(facts(later(1), breaches=[breach()]))

    assert [one.severity for one in book.open.values()] == [Severity.EMERGENCY]


def test_a_condition_that_says_it_began_in_the_future_begins_now(book: Book) -> None:
    book.look(facts(liveness=[robot(engine_stalled_since=later(3600))]))

    assert [one.since for one in book.open.values()] == [NOW]


def test_the_steps_of_an_alert_are_its_history() -> None:
    seen = facts(breaches=[breach()])
    (opened,) = plan([], findings_of(seen), seen)

    assert [told.step for told in opened.steps] == [Step.OPENED, Step.FIRED]
    assert DEFAULTS[Kind.IDENTITY_VIOLATION].renotify == timedelta(minutes=30)


def test_a_thousand_robots_that_fall_silent_are_planned_in_the_time_of_a_look(book: Book) -> None:
    """Each explains what else ails it: looked up, and not compared with every other."""
    alone = [silent(f"M{n}", host=f"host-{n}") for n in range(1000)]
    stale = [standing(f"M{n}") for n in range(1000)]
    began = time.process_time()

    told = book.look(facts(liveness=alone, standings=stale))

    assert time.process_time() - began < 1
    assert {kind for _, kind, _ in told} == {"ROBOT_SILENT"}
    assert len(told) == 1000
