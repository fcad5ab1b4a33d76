"""Several programs in one terminal: prefixed lines, restarts, and nothing left behind."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO, TextIO

STOP_SECONDS = 12.0
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
STEADY_SECONDS = 60.0


@dataclass(slots=True)
class Program:
    """One child; `command` is run on a leash, so that it ends when this process does."""

    name: str
    command: Sequence[str]
    process: subprocess.Popen[str] | None = None
    started_at: float = 0.0
    pause: float = FIRST_PAUSE
    start_after: float = 0.0
    printer: threading.Thread | None = field(default=None, repr=False)


class Supervisor:
    """Runs programs until told to stop; `clock` is monotonic seconds, injected for tests."""

    def __init__(
        self,
        programs: Sequence[Program],
        out: TextIO,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.programs = programs
        self.out = out
        self.clock = clock
        self.width = max(len(program.name) for program in programs)
        self.stopping = threading.Event()
        self._write = threading.Lock()

    def run(self, on_started: Callable[[], None] | None = None) -> None:
        """Start everything and keep it running until `stop()`; then end it all and return."""
        try:
            for program in self.programs:
                self._start(program)
            if on_started is not None:
                threading.Thread(target=on_started, daemon=True).start()
            while not self.stopping.wait(0.2):
                for program in self.programs:
                    self._tend(program)
        finally:
            self._end_all()

    def stop(self) -> None:
        self.stopping.set()

    def say(self, name: str, line: str) -> None:
        with self._write:
            self.out.write(f"{name:<{self.width}} | {line}\n")
            self.out.flush()

    def _start(self, program: Program) -> None:
        program.started_at = self.clock()
        process = subprocess.Popen(
            [sys.executable, "-m", "watchdog_project.leash", *program.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        program.process = process
        program.printer = threading.Thread(
            target=self._print, args=(program.name, process.stdout), daemon=True
        )
        program.printer.start()

    def _print(self, name: str, lines: IO[str] | None) -> None:
        with lines or io.StringIO() as text:
            for line in text:
                self.say(name, line.rstrip("\n"))

    def _tend(self, program: Program) -> None:
        now = self.clock()
        process = program.process
        if process is None:
            if now >= program.start_after:
                self._start(program)
            return
        status = process.poll()
        if status is None:
            return
        lived = now - program.started_at
        program.pause = FIRST_PAUSE if lived > STEADY_SECONDS else program.pause
        self.say(program.name, f"ended with status {status}; again in {program.pause:g} s")
        _let_go(process)
        program.process = None
        program.start_after = now + program.pause
        program.pause = min(program.pause * 2, LONGEST_PAUSE)

    def _end_all(self) -> None:
        running = [program.process for program in self.programs if program.process is not None]
        for process in running:
            _let_go(process)
        deadline = self.clock() + STOP_SECONDS
        for process in running:
            try:
                process.wait(max(0.1, deadline - self.clock()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for program in self.programs:
            if program.printer is not None:
                program.printer.join(1)


def _let_go(process: subprocess.Popen[str]) -> None:
    if process.stdin is not None:
        process.stdin.close()
