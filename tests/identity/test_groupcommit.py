"""Requests of one sender that arrive while another commits share a transaction, not an outcome."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import datetime, timedelta
from threading import Event
from typing import Any

import pytest
from django.db import OperationalError, connection, connections, transaction

from identity import ingest
from identity.admission import Place
from identity.batch import Outcome, commit_batch
from identity.facts import TenureFact, TenureFacts
from identity.models import IdentityEvent, IngestSource, Violation
from identity.registry import seed_registry
from identity.sources import posted_source
from tests.identity.cast import HERE, NOW, complete, incomplete, line, post, report
from tests.locks.rivals import all_at_once, somebody_holds_the_row
from tests.server import Server

pytestmark = pytest.mark.django_db(transaction=True)


class Group:
    """A sender whose first request stands before its transaction, and those that wait for it."""

    def __init__(self, stack: ExitStack) -> None:
        self.go_on, self.arrived = Event(), Event()
        self.sizes: list[list[int]] = []
        self.database: Callable[[], AbstractContextManager[None]] = nullcontext
        self.tenures: TenureFacts | None = None
        self._pool = stack.enter_context(ThreadPoolExecutor(16))
        stack.callback(self.go_on.set)

    def commit(self, *batch: Any, **more: Any) -> list[Outcome] | None:
        self.sizes.append([len(part) for part in batch[2]])
        if len(self.sizes) == 1:
            self.arrived.set()
            assert self.go_on.wait(20)
        with self.database():
            return commit_batch(*batch, **more)

    def send(self, *lines: Any, now: datetime = NOW, place: Place = HERE) -> Future[Outcome]:
        """From a thread of its own; returns once it waits, or is the first to commit."""
        waiting = self._waiting(place)

        def work() -> Outcome:
            try:
                return post(*lines, now=now, place=place, tenures=self.tenures)
            finally:
                connections.close_all()

        sent = self._pool.submit(work)
        if not self.sizes:
            assert self.arrived.wait(20)
            return sent
        deadline = time.monotonic() + 20
        while self._waiting(place) == waiting:
            assert time.monotonic() < deadline, "it does not wait"
            time.sleep(0.001)
        return sent

    def _waiting(self, place: Place) -> int:
        queue = ingest._POSTED._queues.get(ingest._Sender(place, self.tenures))
        return len(queue.waiting) if queue else 0

    def outcomes(self, sent: Sequence[Future[Outcome]]) -> list[Outcome]:
        self.go_on.set()
        return [one.result(20) for one in sent]


@pytest.fixture
def group(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Group]:
    seed_registry()
    with ExitStack() as stack:
        made = Group(stack)
        monkeypatch.setattr(ingest, "commit_batch", made.commit)
        yield made
    assert not ingest._POSTED._queues, "a queue outlives those who were in it"


def counts(outcome: Outcome) -> tuple[int, int, int]:
    return outcome.accepted, outcome.duplicates, outcome.rejections


def test_requests_that_wait_are_committed_in_one_transaction_by_the_newest_clock(
    group: Group,
) -> None:
    clocks = [NOW + timedelta(seconds=number) for number in range(8)]
    sent = [
        group.send(incomplete("INTENT_X", event_id=str(number)), now=now)
        for number, now in enumerate(clocks)
    ]
    assert [counts(one) for one in group.outcomes(sent)] == [(1, 0, 0)] * 8
    assert group.sizes == [[1], [1] * 7]
    stored = IdentityEvent.objects.filter(origin="robot").order_by("pk")
    assert [row.received_at for row in stored] == [clocks[0]] + [clocks[-1]] * 7
    assert IngestSource.objects.get().accepted == 8
    assert Violation.objects.get().count == 8


def test_each_request_of_a_group_gets_what_became_of_its_own_lines(group: Group) -> None:
    good = [complete(number=number) for number in range(4)]
    unclear = report("perhaps")
    first, *sent = [
        group.send(good[0]),
        group.send(b"{", good[1], b"[", good[1]),
        group.send(good[0]),
        group.send(good[2], good[3], b"nonsense"),
        group.send(good[3], unclear),
        group.send(unclear),
    ]
    told = group.outcomes([first, *sent])
    assert [counts(one) for one in told] == [
        (1, 0, 0), (1, 1, 2), (0, 1, 0), (2, 0, 1), (1, 1, 0), (0, 1, 0)
    ]  # fmt: skip
    assert [[bad.index for bad in one.rejected] for one in told] == [[], [0, 2], [], [2], [], []]
    assert [[bad.index for bad in one.warnings] for one in told] == [[], [], [], [], [1], []]
    assert len(group.sizes) == 2
    source = IngestSource.objects.get()
    assert (source.accepted, source.duplicates, source.rejected) == (5, 4, 4)


def test_an_event_that_two_requests_of_a_group_bring_is_the_first_ones(group: Group) -> None:
    sent = [
        group.send(complete()),
        group.send(complete("INTENT_A", event_id="1", message="first")),
        group.send(complete("INTENT_B", event_id="1", message="second")),
    ]
    assert [counts(one) for one in group.outcomes(sent)] == [(1, 0, 0), (1, 0, 0), (0, 1, 0)]
    assert len(group.sizes) == 2
    stored = IdentityEvent.objects.filter(event_type__startswith="INTENT").get()
    assert (stored.event_type, stored.data["message"]) == ("INTENT_A", "first")


def test_requests_of_other_senders_do_not_wait(group: Group) -> None:
    first = group.send(complete())
    assert counts(post(complete(), complete(number=2), place=Place(log="other"))) == (2, 0, 0)
    assert [counts(one) for one in group.outcomes([first])] == [(0, 1, 0)]


def test_many_lines_and_lines_of_the_callers_transaction_go_alone(group: Group) -> None:
    first = group.send(complete())
    many = [complete(number=number) for number in range(ingest.SHARES_A_BATCH + 1)]
    assert post(*many).accepted == len(many)
    with transaction.atomic():
        assert post(complete("TAKEN_BACK")).accepted == 1
        transaction.set_rollback(True)
    assert group.outcomes([first])[0].accepted == 1
    assert not IdentityEvent.objects.filter(event_type="TAKEN_BACK").exists()


def test_a_group_is_of_so_many_lines_as_a_batch_may_have(group: Group) -> None:
    sent = [group.send(complete())]
    for part in range(5):
        sent.append(group.send(*(complete(number=100 * part + one) for one in range(60))))
    assert sum(one.accepted for one in group.outcomes(sent)) == 301
    assert group.sizes == [[1], [60] * 4, [60]]


def test_when_the_database_refuses_a_group_each_of_its_requests_is_told(group: Group) -> None:
    posted_source(HERE, NOW)
    group.database = impatient
    sent = [group.send(complete(number=number)) for number in range(4)]
    with somebody_holds_the_row("identity_ingestsource"):
        group.go_on.set()
        errors = [one.exception(20) for one in sent]
    assert [type(error) for error in errors] == [OperationalError] * 4
    assert group.sizes == [[1], [1] * 3], "it was asked again for each of them"
    assert not IdentityEvent.objects.exists()
    assert post(complete(number=0)).accepted == 1


def test_a_request_that_cannot_be_committed_costs_no_other_of_its_group(group: Group) -> None:
    def broken(since: datetime) -> Sequence[TenureFact]:
        raise ValueError("the tenures are not to be had")

    group.tenures = broken
    sent = [
        group.send(line("NOTE", number=1)),
        group.send(line("NOTE", number=2)),
        group.send(line("NOTE", number=3, fencing_token=7)),
        group.send(line("NOTE", number=4)),
    ]
    group.go_on.set()
    assert isinstance(sent[2].exception(20), ValueError)
    assert [sent[n].result(20).accepted for n in (0, 1, 3)] == [1, 1, 1]
    assert group.sizes == [[1], [1] * 3, [1], [1], [1]]
    assert IdentityEvent.objects.filter(origin="robot").count() == 3


def test_senders_that_post_the_same_single_events_at_once_count_each_once() -> None:
    seed_registry()

    def send(shift: int) -> Callable[[], tuple[int, int]]:
        def work() -> tuple[int, int]:
            told = [
                post(incomplete("INTENT_X", event_id=str((shift + number) % 40)))
                for number in range(40)
            ]
            return sum(one.accepted for one in told), sum(one.duplicates for one in told)

        return work

    told = all_at_once([send(shift) for shift in range(6)])
    assert (sum(one[0] for one in told), sum(one[1] for one in told)) == (40, 200)
    assert Violation.objects.get().count == 40
    source = IngestSource.objects.get()
    assert (source.accepted, source.duplicates) == (40, 200)


def test_a_web_process_answers_each_of_many_connections_and_commits_them_in_groups(
    server: Server,
) -> None:
    def send(connection: int) -> list[tuple[int, Any]]:
        return [
            server.request("POST", "/api/events", incomplete("X", event_id=f"{connection}-{n}"))
            for n in range(12)
        ]

    with ThreadPoolExecutor(8) as pool:
        told = [answer for answers in pool.map(send, range(8)) for answer in answers]
    expected = {"accepted": 1, "duplicates": 0, "rejected": [], "warnings": []}
    assert told == [(200, expected)] * 96
    _, page = server.request("GET", "/api/events?event_type=X&page_size=200", role="reader")
    received = [row["received_at"] for row in page["results"]]
    assert len(received) == 96
    assert len(set(received)) < 96


@contextmanager
def impatient() -> Iterator[None]:
    """This thread's connection waits 50 ms for anybody else."""
    lite = connection.vendor == "sqlite"
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout = 50" if lite else "SET lock_timeout = 50")
    try:
        yield
    finally:
        if not lite:
            # Others get this connection from the pool.
            with connection.cursor() as cursor:
                cursor.execute("RESET lock_timeout")
