"""Requests that arrive while another one commits are committed together: one transaction for all.

Whoever finds nobody committing commits for everybody who waits, himself among them. So one request
waits for nothing, and many share what each transaction costs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Lock
from typing import Generic, TypeVar

from django.db import InterfaceError, OperationalError

Key = TypeVar("Key", bound=Hashable)
Request = TypeVar("Request")
Answer = TypeVar("Answer")


@dataclass(eq=False, slots=True)
class _Ticket(Generic[Request, Answer]):
    request: Request
    size: int
    answer: Future[Answer] = field(default_factory=Future)


@dataclass(eq=False, slots=True)
class _Queue(Generic[Request, Answer]):
    """`inside` is how many threads are in it; it is dropped with the last of them."""

    inside: int = 0
    committing: bool = False
    waiting: deque[_Ticket[Request, Answer]] = field(default_factory=deque)
    changed: Condition = field(default_factory=Condition)


class GroupCommit(Generic[Key, Request, Answer]):
    """`commit` takes requests of one key to the database, all or none, and answers each in order.

    A group is of `most` at the most, by the sizes that were given with its requests. Groups are a
    process's own: several processes meet in the database.
    """

    def __init__(
        self, commit: Callable[[Key, Sequence[Request]], Sequence[Answer]], most: int
    ) -> None:
        self._commit = commit
        self._most = most
        self._queues: dict[Key, _Queue[Request, Answer]] = {}
        self._door = Lock()

    def submit(self, key: Key, request: Request, size: int) -> Answer:
        """The request's own answer, once it is committed; raises what `commit` raised.

        Outside of any transaction of the caller's: others' requests would hang on its end.
        """
        ticket = _Ticket[Request, Answer](request, size)
        with self._door:
            queue = self._queues.setdefault(key, _Queue())
            queue.inside += 1
        try:
            return self._answer(key, queue, ticket)
        finally:
            with self._door:
                queue.inside -= 1
                if not queue.inside:
                    del self._queues[key]

    def _answer(
        self, key: Key, queue: _Queue[Request, Answer], ticket: _Ticket[Request, Answer]
    ) -> Answer:
        with queue.changed:
            queue.waiting.append(ticket)
        while True:
            with queue.changed:
                # Nobody who was answered waits for the group after his.
                queue.changed.wait_for(lambda: ticket.answer.done() or not queue.committing)
                if ticket.answer.done():
                    return ticket.answer.result()
                group = self._next_group(queue.waiting)
                queue.committing = True
            try:
                self._commit_group(key, group)
            finally:
                with queue.changed:
                    queue.committing = False
                    queue.changed.notify_all()

    def _next_group(
        self, waiting: deque[_Ticket[Request, Answer]]
    ) -> list[_Ticket[Request, Answer]]:
        group = [waiting.popleft()]
        size = group[0].size
        while waiting and size + waiting[0].size <= self._most:
            size += waiting[0].size
            group.append(waiting.popleft())
        return group

    def _commit_group(self, key: Key, group: Sequence[_Ticket[Request, Answer]]) -> None:
        """Answer every ticket of the group, whatever happens."""
        try:
            answers = self._commit(key, [ticket.request for ticket in group])
        except (OperationalError, InterfaceError) as error:
            # The database would refuse each of them likewise, and each after as long a wait.
            _refuse(group, error)
        except Exception as error:
            if len(group) == 1:
                _refuse(group, error)
                return
            for ticket in group:
                self._commit_group(key, [ticket])
        except BaseException as error:
            _refuse(group, error)
            raise
        else:
            for ticket, answer in zip(group, answers, strict=True):
                ticket.answer.set_result(answer)


def _refuse(group: Sequence[_Ticket[Request, Answer]], error: BaseException) -> None:
    for ticket in group:
        ticket.answer.set_exception(error)
