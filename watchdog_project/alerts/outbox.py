"""Owed steps become messages, and messages arrive: at least once each, with a key that says which.

A message waits in the database until its service took it. Who sends it has claimed it before, and
renews the claim while he sends; where he dies in between, the claim runs out and another sends it
again, under the same key.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Max, Q, QuerySet

from watchdog_project.alerts import channels
from watchdog_project.alerts.errors import AlertRefused
from watchdog_project.alerts.kinds import RANK, Kind, Severity
from watchdog_project.alerts.lifecycle import Step
from watchdog_project.alerts.messages import Line, worst_of, write_message
from watchdog_project.alerts.models import (
    Alert,
    AlertStep,
    Channel,
    Delivery,
    DeliveryState,
)

logger = logging.getLogger(__name__)

# What happens together is told together; emergencies wait for nothing and nobody.
GROUP_WAIT = timedelta(seconds=2)
MESSAGES_APART = timedelta(seconds=30)
STEPS_AT_ONCE = 2000

CLAIM = timedelta(seconds=20)
CLAIM_RENEWED_EVERY = 5.0  # seconds
FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(minutes=10)
LONGEST_PAUSE_OF_EMERGENCIES = timedelta(minutes=1)
# About a day of attempts; then an operator has to look at it.
ATTEMPTS = 150
ATTEMPTS_OF_EMERGENCIES = 1440
AT_THE_SAME_TIME = 8

_KINDS = frozenset(kind.value for kind in Kind)

Clock = Callable[[], datetime]
Send = Callable[[Channel, str, str, str, str], None]


def write_messages(now: datetime) -> int:
    """Make messages of the steps that are owed and due; returns how many were written.

    A message and the note that its steps are told are one transaction.
    """
    owed = AlertStep.objects.filter(owed=True, told_at__isnull=True)
    if not owed.exists():
        return 0
    with transaction.atomic():
        steps = list(
            owed.select_for_update(of=("self",))
            .select_related("alert")
            .order_by("pk")[:STEPS_AT_ONCE]
        )
        groups = [group for group in _groups(steps, now) if group]
        written = sum(_write(group, now) for group in groups)
        told = [step.pk for group in groups for step in group]
        AlertStep.objects.filter(pk__in=told).update(told_at=now)
    return written


def _groups(steps: Sequence[AlertStep], now: datetime) -> Iterator[list[AlertStep]]:
    """The emergencies, at once; all else together, after a moment and not too often."""
    emergencies = [step for step in steps if step.alert.severity == Severity.EMERGENCY]
    others = [step for step in steps if step.alert.severity != Severity.EMERGENCY]
    yield emergencies
    if not others or now < min(step.at for step in others) + GROUP_WAIT:
        return
    last = Delivery.objects.exclude(severity=Severity.EMERGENCY).aggregate(at=Max("created_at"))[
        "at"
    ]
    if last is None or now >= last + MESSAGES_APART or last > now:
        yield others


def _write(steps: Sequence[AlertStep], now: datetime) -> int:
    lines = _lines(steps)
    messages: list[tuple[Delivery, list[int]]] = []
    for channel in Channel.objects.filter(enabled=True):
        least = RANK[Severity(channel.least_severity)]
        heard = [line for line in lines if RANK[line.severity] <= least]
        if not heard:
            continue
        key = uuid.uuid4()
        title, body = write_message(heard, str(key), settings.WATCHDOG_URL)
        message = Delivery(
            channel=channel,
            key=key,
            severity=worst_of(heard).value,
            title=title,
            body=body,
            created_at=now,
            next_attempt_at=now,
        )
        messages.append((message, [line.alert_id for line in heard]))
    Delivery.objects.bulk_create(message for message, _ in messages)
    of = Delivery.alerts.through
    of.objects.bulk_create(
        of(delivery_id=message.pk, alert_id=alert_id)
        for message, alerts in messages
        for alert_id in alerts
    )
    return len(messages)


def _lines(steps: Sequence[AlertStep]) -> list[Line]:
    """One line per alert, for the last thing that happened to it."""
    # A kind of another release has no words here.
    last = {step.alert_id: step for step in steps if step.alert.kind in _KINDS}
    return [_line(step, step.alert) for step in last.values()]


def _line(step: AlertStep, alert: Alert) -> Line:
    return Line(
        alert_id=alert.pk,
        step=Step(step.step),
        kind=Kind(alert.kind),
        severity=Severity(alert.severity),
        market=alert.market,
        scope=alert.scope,
        summary=alert.summary,
        who=alert.who,
        since=alert.since,
        at=step.at,
        reason=step.reason,
    )


def deliver_due(clock: Clock, send: Send = channels.send) -> int:
    """Send what is due, each channel in its own thread; returns how many messages arrived.

    A channel that hangs delays no other; one that fails is left until its next attempt is due.
    """
    due = list(
        _to_do(clock()).values_list("channel_id", flat=True).distinct().order_by("channel_id")
    )
    if len(due) <= 1:
        return sum(serve_channel(channel_id, clock, send) for channel_id in due)
    with ThreadPoolExecutor(min(len(due), AT_THE_SAME_TIME), "channel") as threads:
        served = [threads.submit(_serve_apart, channel_id, clock, send) for channel_id in due]
    return sum(one.result() for one in served)


def _serve_apart(channel_id: int, clock: Clock, send: Send) -> int:
    try:
        return serve_channel(channel_id, clock, send)
    finally:
        connection.close()


def serve_channel(channel_id: int, clock: Clock, send: Send = channels.send) -> int:
    """Send the channel's due messages, the worst and oldest first, until one fails."""
    sent = 0
    while (delivery := claim_next(channel_id, clock())) is not None:
        # A slow service must not hold a connection that others wait for.
        _let_go()
        try:
            with _kept(delivery, clock):
                send(
                    delivery.channel,
                    delivery.title,
                    delivery.body,
                    str(delivery.key),
                    delivery.severity,
                )
        except channels.SendFailed as failure:
            _put_back(delivery, str(failure), clock())
            break
        _done(delivery, clock())
        sent += 1
    return sent


def _let_go() -> None:
    if not connection.in_atomic_block:
        connection.close()


def claim_next(channel_id: int, now: datetime) -> Delivery | None:
    """Take the next due message of a channel, so that nobody else sends it; None where none is.

    While another sends to the channel, it is left to him.
    """
    if Delivery.objects.filter(
        channel_id=channel_id, state=DeliveryState.SENDING, claimed_until__gt=now
    ).exists():
        return None
    claim = uuid.uuid4().hex
    waiting = _to_do(now).filter(channel_id=channel_id).values_list("pk", "severity")
    for pk, _ in sorted(waiting, key=lambda one: (RANK[Severity(one[1])], one[0])):
        # Nothing taken: another worker was faster, and the next one may be free.
        taken = (
            _to_do(now)
            .filter(pk=pk)
            .update(
                state=DeliveryState.SENDING,
                claim=claim,
                claimed_until=now + CLAIM,
                attempts=F("attempts") + 1,
            )
        )
        if taken:
            return Delivery.objects.select_related("channel").get(pk=pk)
    return None


def _to_do(now: datetime) -> QuerySet[Delivery]:
    return Delivery.objects.filter(
        Q(state=DeliveryState.WAITING, next_attempt_at__lte=now)
        | Q(state=DeliveryState.SENDING, claimed_until__lte=now),
        channel__in=Channel.objects.filter(enabled=True),
    )


@contextmanager
def _kept(delivery: Delivery, clock: Clock) -> Iterator[None]:
    """Renew the claim for as long as the block runs, however slow the service is."""
    over = threading.Event()

    def keep() -> None:
        try:
            while not over.wait(CLAIM_RENEWED_EVERY):
                _mine(delivery).update(claimed_until=clock() + CLAIM)
                connection.close()
        finally:
            connection.close()

    keeper = threading.Thread(target=keep, name=f"claim of message {delivery.pk}", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()


def _mine(delivery: Delivery) -> QuerySet[Delivery]:
    return Delivery.objects.filter(
        pk=delivery.pk, state=DeliveryState.SENDING, claim=delivery.claim
    )


def _done(delivery: Delivery, now: datetime) -> None:
    done = _mine(delivery).update(
        state=DeliveryState.SENT, sent_at=now, claim="", claimed_until=None
    )
    if not done:
        logger.warning("Message %s was sent, but too late to be the only copy.", delivery.key)
    channels.note_success(delivery.channel_id, now)


def _put_back(delivery: Delivery, error: str, now: datetime) -> None:
    urgent = delivery.severity == Severity.EMERGENCY
    over = delivery.attempts >= (ATTEMPTS_OF_EMERGENCIES if urgent else ATTEMPTS)
    _mine(delivery).update(
        state=DeliveryState.DEAD if over else DeliveryState.WAITING,
        next_attempt_at=now + pause_after(delivery.attempts, urgent=urgent),
        last_error=error,
        claim="",
        claimed_until=None,
    )
    channels.note_failure(delivery.channel_id, error, now)
    logger.warning(
        "Message %s did not arrive at %s (attempt %s): %s%s",
        delivery.key,
        delivery.channel,
        delivery.attempts,
        error,
        " It is given up; an operator can try again." if over else "",
    )


def pause_after(attempts: int, *, urgent: bool) -> timedelta:
    """How long to wait after so many failed attempts: twice as long each time, up to a limit."""
    longest = LONGEST_PAUSE_OF_EMERGENCIES if urgent else LONGEST_PAUSE
    doubled: int = 2 ** min(max(attempts - 1, 0), 16)
    return min(FIRST_PAUSE * doubled, longest)


def retry_delivery(delivery_id: int, now: datetime) -> Delivery:
    """Try a message again that was given up, or that waits; raises AlertRefused (409, 404)."""
    done = Delivery.objects.filter(
        pk=delivery_id, state__in=(DeliveryState.DEAD, DeliveryState.WAITING)
    ).update(state=DeliveryState.WAITING, attempts=0, next_attempt_at=now)
    found = Delivery.objects.select_related("channel").filter(pk=delivery_id).first()
    if found is None:
        raise AlertRefused("NO_SUCH_DELIVERY", f"There is no message {delivery_id}.", 404)
    if not done:
        raise AlertRefused("NOT_WAITING", f"This message is {found.state}; it needs no attempt.")
    return found
