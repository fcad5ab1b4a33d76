"""Clients that call something as often as they can, in processes of their own.

Threads of one process would share Python's lock, and measure that.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

Once = Callable[[], object]
Contestants = Callable[[int], Mapping[str, Once]]
"""Client number -> what it can be told to do; made in the client's own process."""


class Clients:
    """`count` processes that stand ready; a context manager that ends them."""

    def __init__(self, count: int, contestants: Contestants) -> None:
        # Forked: Django is set up already, and no connection is open yet.
        context = multiprocessing.get_context("fork")
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        for number in range(count):
            here, there = context.Pipe()
            process = context.Process(
                target=_client, args=(there, contestants, number), daemon=True
            )
            process.start()
            there.close()
            self._pipes.append(here)
            self._processes.append(process)
        for pipe in self._pipes:
            self._heard(pipe)

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            with suppress(OSError):
                pipe.send(None)
        for process in self._processes:
            process.join(10)
            if process.is_alive():
                process.kill()

    def slice_of(self, what: str) -> Callable[[float], float]:
        """All clients at once, for so many seconds; calls per second of all together."""

        def run(seconds: float) -> float:
            for pipe in self._pipes:
                pipe.send((what, seconds))
            return float(sum(self._heard(pipe) for pipe in self._pipes))

        return run

    @staticmethod
    def _heard(pipe: Connection) -> Any:
        answer = pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer


def _client(pipe: Connection, contestants: Contestants, number: int) -> None:
    try:
        calls = contestants(number)
        pipe.send(0.0)
        while (order := pipe.recv()) is not None:
            what, seconds = order
            pipe.send(_rate(calls[what], seconds))
    except EOFError:
        pass
    except Exception as error:
        pipe.send(RuntimeError(f"client {number}: {type(error).__name__}: {error}"))


def _rate(once: Once, seconds: float) -> float:
    count, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        once()
        count += 1
    return count / passed
