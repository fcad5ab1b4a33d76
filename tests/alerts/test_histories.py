"""Random histories of markets that fail, recover, hide and are handled, against a plain model.

Lost: something that was wrong for long enough and may speak, and nobody was told of it. Wrongly
closed: an alert that ended while its condition held, or while nothing could be said of it. The real
look, the real database and the real outbox; only the clock and the facts are made up.
`--alert-histories 10000` makes as many histories; without it a small number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.alerts.cast import NOW, breach, facts, robot
from watchdog_project.alerts import lifecycle, outbox, services
from watchdog_project.alerts.channels import SendFailed, add_channel
from watchdog_project.alerts.errors import AlertRefused
from watchdog_project.alerts.models import Alert, AlertStep, Channel, Delivery
from watchdog_project.alerts.outbox import deliver_due, write_messages
from watchdog_project.alerts.services import acknowledge_alert, look, snooze_alert

FEW = 30
MARKETS = ("ES", "NQ", "CL")
PARTS = ("breaches", "liveness")
# Kind -> seconds that it must hold, and the part of the facts that it is seen in.
KINDS = {"IDENTITY_VIOLATION": (0, "breaches"), "ENGINE_STALLED": (30, "liveness")}
Wrong = tuple[str, str]
markets, kinds = st.sampled_from(MARKETS), st.sampled_from(sorted(KINDS))

counted = {"histories": 0, "alerts": 0, "messages": 0, "looks": 0}


class Histories(RuleBasedStateMachine):
    """The world as it is (`wrong`, since when), beside the alerts that were made of it."""

    def __init__(self) -> None:
        super().__init__()
        counted["histories"] += 1
        self.now = NOW
        self.wrong: dict[Wrong, datetime] = {}
        self.unread: set[str] = set()
        self.channel_works = True
        self.arrived: dict[str, str] = {}
        self._undo = _undone()
        self._undo.__enter__()
        add_channel("hook", "json://127.0.0.1:1/x", NOW)

    def teardown(self) -> None:
        try:
            self.come_to_rest()
            self.nothing_is_lost_in_the_end()
        finally:
            counted["alerts"] += Alert.objects.count()
            counted["messages"] += len(self.arrived)
            self._undo.__exit__(None, None, None)

    def come_to_rest(self) -> None:
        """Time enough for the last group's moment, and for every pause of the outbox."""
        self.channel_works = True
        self.unread.clear()
        for seconds in (3600, 700):
            self.pass_time(seconds)
            self.look_and_deliver()

    @rule(kind=kinds, market=markets)
    def something_breaks(self, kind: str, market: str) -> None:
        self.wrong.setdefault((kind, market), self.now)

    @rule(kind=kinds, market=markets)
    def something_is_mended(self, kind: str, market: str) -> None:
        self.wrong.pop((kind, market), None)

    @rule(part=st.sampled_from(PARTS))
    def a_part_cannot_be_read(self, part: str) -> None:
        self.unread.add(part)

    @rule()
    def everything_can_be_read_again(self) -> None:
        self.unread.clear()

    @rule(works=st.booleans())
    def the_channel_works_or_not(self, works: bool) -> None:
        self.channel_works = works

    @rule(seconds=st.sampled_from([1, 5, 29, 31, 120, 2000]))
    def pass_time(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @precondition(lambda self: Alert.objects.filter(state="firing").exists())
    @rule(hours=st.sampled_from([0, 1]))
    def an_operator_handles_the_oldest(self, hours: int) -> None:
        alert = Alert.objects.filter(state="firing").order_by("pk")[0]
        who: dict[str, Any] = {"by": "operator", "reason": "mine", "now": self.now}
        try:
            if hours:
                snooze_alert(alert.pk, until=self.now + timedelta(hours=hours), **who)
            else:
                acknowledge_alert(alert.pk, **who)
        except AlertRefused:
            raise AssertionError("what fires can be handled") from None

    @rule(seconds=st.sampled_from([0, 3, 31]))
    def some_time_later_somebody_looks(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.look_and_deliver()

    @rule(kind=kinds, market=markets)
    def something_breaks_and_is_seen(self, kind: str, market: str) -> None:
        self.something_breaks(kind, market)
        self.some_time_later_somebody_looks(31)

    @rule()
    def everything_is_mended_and_that_is_seen(self) -> None:
        self.wrong.clear()
        self.some_time_later_somebody_looks(3)

    @rule()
    def look_and_deliver(self) -> None:
        counted["looks"] += 1
        before = {alert.pk: _key(alert) for alert in Alert.objects.filter(resolved_at=None)}
        look(self.seen())
        self.nothing_was_closed_wrongly(before)
        self.what_has_held_long_enough_is_open()
        write_messages(self.now)
        deliver_due(lambda: self.now, self.send)

    def seen(self) -> Any:
        return facts(
            self.now,
            breaches=[
                breach(market, opened_at=since, last_seen_at=since)
                for (kind, market), since in self.wrong.items()
                if kind == "IDENTITY_VIOLATION"
            ],
            liveness=[
                robot(
                    market,
                    host=f"host of {market}",
                    heard_at=self.now,
                    engine_stalled_since=self.wrong.get(("ENGINE_STALLED", market)),
                )
                for market in MARKETS
            ],
            unread=frozenset(self.unread),
        )

    def send(self, channel: Channel, title: str, body: str, key: str, severity: str) -> None:
        if not self.channel_works:
            raise SendFailed("500")
        assert key not in self.arrived, "a duplicate without a kill"
        self.arrived[key] = f"{title}\n{body}"

    def nothing_was_closed_wrongly(self, before: dict[int, Wrong]) -> None:
        for alert in Alert.objects.filter(pk__in=before, resolved_at__isnull=False):
            key = before[alert.pk]
            assert key not in self.wrong, f"{key} was closed while it is wrong"
            assert KINDS[key[0]][1] not in self.unread, f"{key} was closed unseen"

    def what_has_held_long_enough_is_open(self) -> None:
        firing = {
            _key(alert) for alert in Alert.objects.filter(resolved_at=None).exclude(state="pending")
        }
        for (kind, market), since in self.wrong.items():
            hold, part = KINDS[kind]
            if part not in self.unread and self.now >= since + timedelta(seconds=hold):
                assert (kind, market) in firing, f"{kind} of {market} was lost"
        still = {key for key in firing if KINDS[key[0]][1] not in self.unread}
        assert still <= set(self.wrong), "an alert stands that nothing holds up"

    @invariant()
    def one_open_alert_of_each_kind_and_market(self) -> None:
        rows = [_key(alert) for alert in Alert.objects.filter(resolved_at=None)]
        assert len(rows) == len(set(rows))

    def nothing_is_lost_in_the_end(self) -> None:
        """Everything that fired was told of, and every message arrived."""
        assert not AlertStep.objects.filter(owed=True, told_at=None).exists()
        assert not Delivery.objects.exclude(state="sent").exists()
        for alert in Alert.objects.exclude(fired_at=None):
            keys = [str(key) for key in alert.deliveries.values_list("key", flat=True)]
            told = [self.arrived[key] for key in keys if key in self.arrived]
            assert len(told) == len(keys) > 0, f"nobody was told of {alert}"


def _key(alert: Alert) -> Wrong:
    return alert.kind, alert.market


@contextmanager
def _undone() -> Iterator[None]:
    """A history leaves nothing behind."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def run_histories(count: int) -> None:
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=count,
            stateful_step_count=20,
            deadline=None,
            database=None,
            derandomize=count <= FEW,
            print_blob=False,
            # What was found is found: making it shorter takes minutes.
            phases=[Phase.generate],
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


# As many as are asked for take as long as they take.
@pytest.mark.timeout(3600)
@pytest.mark.django_db
def test_no_alert_is_lost_and_none_is_wrongly_closed_in_random_histories(
    request: pytest.FixtureRequest, tell: Any
) -> None:
    counted.update(dict.fromkeys(counted, 0))

    run_histories(request.config.getoption("--alert-histories") or FEW)

    tell(
        f"random histories: {counted['histories']}, {counted['looks']} looks, "
        f"{counted['alerts']} alerts, {counted['messages']} messages; 0 lost, 0 wrongly closed"
    )


def unread_is_well(broken: pytest.MonkeyPatch) -> None:
    broken.setattr(services, "unjudged", lambda seen: frozenset())


def what_is_owed_is_forgotten(broken: pytest.MonkeyPatch) -> None:
    broken.setattr(outbox, "_write", lambda steps, now: 0)


def one_market_is_overlooked(broken: pytest.MonkeyPatch) -> None:
    found = services.findings_of
    broken.setattr(
        services,
        "findings_of",
        lambda seen: {key: one for key, one in found(seen).items() if key[1] != "CL"},
    )


def what_somebody_sees_to_never_ends(broken: pytest.MonkeyPatch) -> None:
    ended = lifecycle._ended
    broken.setattr(
        lifecycle,
        "_ended",
        lambda one, why: (one, []) if one.state == "acknowledged" else ended(one, why),
    )


@pytest.mark.django_db
@pytest.mark.parametrize(
    "mutant",
    [
        unread_is_well,
        what_is_owed_is_forgotten,
        one_market_is_overlooked,
        what_somebody_sees_to_never_ends,
    ],
)
def test_the_histories_find_what_is_broken(
    mutant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)

    with pytest.raises(AssertionError):
        run_histories(10 * FEW)
