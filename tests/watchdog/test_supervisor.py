"""Several programs in one terminal. Real processes, and a clock that the test moves."""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Callable

import psutil

from watchdog_project.supervisor import Program, Supervisor


class Clock:
    """Monotonic seconds that run `speed` times as fast as the real ones."""

    def __init__(self, speed: float = 1.0) -> None:
        self.speed = speed

    def __call__(self) -> float:
        return time.monotonic() * self.speed


def python(name: str, script: str) -> Program:
    return Program(name, [sys.executable, "-c", script])


def run_until(supervisor: Supervisor, happened: Callable[[], bool], seconds: float = 30) -> None:
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    deadline = time.monotonic() + seconds
    try:
        while not happened():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.02)
    finally:
        supervisor.stop()
        thread.join(30)
    assert not thread.is_alive()


def test_lines_carry_the_name_of_who_wrote_them() -> None:
    out = io.StringIO()
    say = "import time; print({!r}, flush=True); time.sleep(60)"
    supervisor = Supervisor(
        [python("web", say.format("hello")), python("worker", say.format("there"))], out
    )
    run_until(supervisor, lambda: out.getvalue().count("\n") >= 2)
    assert "web    | hello\n" in out.getvalue()
    assert "worker | there\n" in out.getvalue()


def test_a_program_that_dies_is_started_again_and_its_end_is_said() -> None:
    out = io.StringIO()
    supervisor = Supervisor([python("worker", "print('up', flush=True); exit(3)")], out, Clock(20))
    run_until(supervisor, lambda: out.getvalue().count("worker | up") >= 3)
    assert "worker | ended with status 3; again in 1 s\n" in out.getvalue()
    assert "again in 2 s" in out.getvalue(), "a program that keeps dying is given more time"


def test_stopping_leaves_nothing_behind() -> None:
    out = io.StringIO()
    script = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    supervisor = Supervisor([python("web", script), python("beat", script)], out)
    run_until(supervisor, lambda: out.getvalue().count("\n") >= 2)
    for line in out.getvalue().splitlines():
        assert not psutil.pid_exists(int(line.partition("| ")[2]))
