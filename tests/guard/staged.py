"""A clock that moves only when somebody waits, and an authority that follows a script."""

from __future__ import annotations

import heapq
import itertools
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace, TracebackType
from typing import Any

from canonical_guard.client import REQUEST_TIMEOUT, Answer, Authority
from canonical_guard.errors import Unanswered
from tests.vectors import Vector

NOWHERE = "http://127.0.0.1:1"
START = 50_000.0
MOST_WAITS = 20_000


class StagedClock:
    """The holder's clock; what is due at a time happens as it is passed."""

    def __init__(self) -> None:
        self._now = START
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._waits = 0
        self._failure: BaseException | None = None

    def now(self) -> float:
        return self._now

    @property
    def seconds(self) -> float:
        """Since the start of the case."""
        return self._now - START

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (START + seconds, next(self._order), action))

    def advance(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass, or less of it once `until` holds."""
        try:
            self._advance(seconds, until)
        except BaseException as failure:
            self._failure = self._failure or failure
            raise

    def assert_nothing_failed(self) -> None:
        """What failed while time passed; the guard's threads survive their errors."""
        if self._failure is not None:
            raise self._failure

    def _advance(self, seconds: float, until: Callable[[], bool]) -> None:
        self._waits += 1
        assert self._waits < MOST_WAITS, "the guard waits for nothing, again and again"
        end = self._now + seconds
        while self._due and self._due[0][0] <= max(end, self._now):
            if until():
                return
            moment, _, action = heapq.heappop(self._due)
            self._now = max(self._now, moment)
            action()
        if not until():
            self._now = max(self._now, end)

    def stop_process(self, until_seconds: float) -> None:
        """Nothing of the process runs meanwhile, and the clock goes on."""
        self._now = max(self._now, START + until_seconds)

    def threading(self) -> SimpleNamespace:
        """In place of a module's `threading`: one thread, which this clock's waits drive."""
        clock = self

        class Event(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                if not self.is_set():
                    assert timeout is not None, "nobody would ever wake it"
                    clock.advance(timeout, self.is_set)
                return self.is_set()

        class Thread:
            ident = None

            def __init__(self, target: Callable[[], None], **options: object) -> None:
                self.start = target

        return SimpleNamespace(
            Event=Event,
            Thread=Thread,
            Lock=threading.Lock,
            current_thread=threading.current_thread,
        )


class Script:
    """What a vector's authority does with each request, over a real connection where it answers."""

    def __init__(self, clock: StagedClock, rules: list[Vector], otherwise: Vector) -> None:
        self.clock = clock
        self.requests: list[Vector] = []
        self._left = [dict(rule) for rule in rules]
        self._otherwise = otherwise
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Script:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def authority(self, server: str, api_key: str | None) -> Authority:
        return _ScriptedAuthority(self, api_key)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def rule_for(self, action: str) -> Vector:
        """The first rule that speaks of this request now."""
        for rule in self._left:
            in_time = rule.get("from", 0) <= self.clock.seconds < rule.get("until", float("inf"))
            if rule["on"] == action and in_time and rule.get("times", 1) > 0:
                if "times" in rule:
                    rule["times"] -= 1
                return {"answer": self._otherwise[action], **rule}
        return {"answer": self._otherwise[action]}

    def prepare(self, answer: Vector) -> None:
        self._server.next_answer = answer


class _ScriptedAuthority(Authority):
    def __init__(self, script: Script, api_key: str | None) -> None:
        super().__init__(script.url, api_key)
        self._script = script

    def post(self, path: str, body: dict[str, Any], timeout: float = REQUEST_TIMEOUT) -> Answer:
        clock, action = self._script.clock, path.rpartition("/")[2]
        self._script.requests.append(
            {"on": action, "at": clock.seconds, "body": body, "timeout": timeout}
        )
        rule = self._script.rule_for(action)
        if rule.get("silence") == "unreachable":
            return Authority(NOWHERE, self.api_key).post(path, body, timeout)
        takes = float("inf") if "silence" in rule else rule.get("takes", 0)
        clock.advance(min(takes, timeout))
        if takes > timeout:
            raise Unanswered("the script has no answer in time")
        self._script.prepare(rule["answer"])
        return super().post(path, body, timeout)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    next_answer: Vector


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        answer = self.server.next_answer
        raw = (answer["text"] if "text" in answer else json.dumps(answer.get("body", {}))).encode()
        self.send_response(answer["status"])
        for name, value in answer.get("headers", {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Tests read what the guard concludes, not what the server logs."""
