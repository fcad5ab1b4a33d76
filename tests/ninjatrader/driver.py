"""The guard for NinjaTrader as a process, driven over stdin and stdout; see Driver.cs."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Line = dict[str, Any]
ANSWERS_WITHIN = 30.0


class Refused(Exception):
    """The guard's own GuardError: `code`, `exit`, `message`, and of an active run `active`."""

    def __init__(self, told: Line) -> None:
        super().__init__(f"{told['code']}: {told['message']}")
        self.told = told

    @property
    def code(self) -> str:
        return str(self.told["code"])

    @property
    def message(self) -> str:
        return str(self.told["message"])


class Driver:
    """One `mono driver.exe`. `told` is what its guards reported, `lost` what OnLost was given."""

    def __init__(self, program: Path, environment: dict[str, str] | None = None) -> None:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("WATCHDOG_")}
        self.process = subprocess.Popen(
            ["mono", str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean | (environment or {}),
            text=True,
        )
        self.told: list[tuple[str, str, str]] = []
        self.lost: list[Line] = []
        self.asked: Callable[[Line], Line] | None = None
        self.now: Callable[[], float] | None = None
        self.awake = False
        self._ids = itertools.count()
        self._lines: queue.SimpleQueue[Line | None] = queue.SimpleQueue()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def call(self, what: str, **more: Any) -> Any:
        """Have it done, and return what came of it; raises Refused."""
        number = next(self._ids)
        self._write({"id": number, "do": what, **self._time(), **more})
        while True:
            line = self._next(ANSWERS_WITHIN)
            if line is None:
                raise AssertionError(f"the driver is gone: {self.stderr()}")
            if line.get("id") == number:
                self.awake = line["awake"]
                if "refused" in line:
                    raise Refused(line["refused"])
                return line["done"]
            self._hear(line)

    def acquire(self, market: str, guard: str = "", **options: Any) -> Line:
        done: Line = self.call("acquire", market=market, guard=guard, **options)
        return done

    def check(self, guard: str = "") -> str:
        return str(self.call("check", guard=guard))

    def state(self, guard: str = "") -> Line:
        done: Line = self.call("state", guard=guard)
        return done

    def said(self, guard: str = "") -> list[str]:
        """The names of the events that this guard reported so far."""
        self.drain()
        return [event for by, event, _ in self.told if by == guard]

    def eventually(self, condition: Callable[[], object], within: float = 20.0) -> bool:
        """Whether it comes true in time; what is reported meanwhile is heard."""
        until = time.monotonic() + within
        while not condition():
            if time.monotonic() > until:
                return False
            with contextlib.suppress(queue.Empty):
                self._hear(self._lines.get(timeout=0.02))
        return True

    def drain(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._hear(self._lines.get_nowait())

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def exit(self) -> int:
        """Let the robot's Main return, whatever its guards hold."""
        self._write({"id": next(self._ids), "do": "exit"})
        return self.process.wait(20)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)

    def close(self) -> None:
        """Whatever the test left of it."""
        if self.is_alive:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
            self.kill()
        self._reading.join(10)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def stderr(self) -> str:
        assert self.process.stderr is not None
        self.process.wait(20)
        return self.process.stderr.read()

    def _time(self) -> Line:
        return {} if self.now is None else {"now": self.now()}

    def _write(self, line: Line) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(line) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise AssertionError(f"the driver is gone: {self.stderr()}") from None

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(json.loads(line))
        self._lines.put(None)

    def _next(self, within: float) -> Line | None:
        try:
            return self._lines.get(timeout=within)
        except queue.Empty:
            raise AssertionError("the driver does not answer") from None

    def _hear(self, line: Line | None) -> None:
        if line is None:
            self._lines.put(None)
            raise AssertionError(f"the driver is gone: {self.stderr()}")
        if "told" in line:
            guard, event, sentence = line["told"]
            self.told.append((guard, event, sentence))
        elif "lost" in line:
            self.lost.append(line["lost"])
        else:
            assert self.asked is not None, line
            try:
                reply = self.asked(line)
            except BaseException:
                # It waits for a word that will never come.
                self.kill()
                raise
            self._write({"reply": reply, **self._time()})
