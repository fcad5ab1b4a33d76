"""The lock authority as a robot's side asks it: small, bounded in time, and doubtful.

One connection per request; no proxy and no redirect is ever followed, because the key goes along.
"""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from canonical_guard import clock
from canonical_guard.errors import InvalidConfiguration, Unanswered

if TYPE_CHECKING:
    import http.client

REQUEST_TIMEOUT = 2.0
MAX_ANSWER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; `body` is {} where it was no JSON object, `retry_after` in seconds."""

    status: int
    body: dict[str, Any] = field(default_factory=dict)
    retry_after: float | None = None

    @property
    def code(self) -> str:
        return str(self.body.get("code") or f"HTTP_{self.status}")

    @property
    def detail(self) -> str:
        said = self.body.get("detail")
        return said[:500] if isinstance(said, str) and said else f"HTTP status {self.status}"


class Authority:
    """A server's address and an API key. Raises InvalidConfiguration where they make no sense."""

    def __init__(self, server: str, api_key: str | None) -> None:
        self.server = server
        self.api_key = api_key
        self._secure, self._host, self._port, self._prefix = _parsed(server)
        self._headers = {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "Connection": "close",
            "User-Agent": "canonical_guard",
        }
        if api_key:
            if not api_key.isascii() or not api_key.isprintable() or " " in api_key:
                raise InvalidConfiguration("The API key holds characters that no key has.")
            self._headers["Authorization"] = f"Api-Key {api_key}"

    def post(self, path: str, body: dict[str, Any], timeout: float = REQUEST_TIMEOUT) -> Answer:
        """POST `body` as JSON and return the answer, whatever its status.

        `timeout` is the time for everything: name, connection, every byte of the answer. Raises
        Unanswered.
        """
        return self._ask("POST", path, json.dumps(body).encode(), timeout)

    def get(self, path: str, timeout: float = REQUEST_TIMEOUT) -> Answer:
        """GET `path`; like `post`."""
        return self._ask("GET", path, None, timeout)

    def _ask(self, method: str, path: str, body: bytes | None, timeout: float) -> Answer:
        exchange = _Exchange(self._secure, self._host, self._port, clock.now() + timeout)
        # A name lookup knows no timeout and a socket's is per receive: only a thread that can be
        # left behind is bounded as a whole.
        threading.Thread(
            target=exchange.run,
            args=(method, self._prefix + path, body, self._headers),
            name="canonical-guard-request",
            daemon=True,
        ).start()
        return exchange.answer(timeout)


class _Exchange:
    """One request and its answer, run in a thread of its own and given up at its deadline."""

    def __init__(self, secure: bool, host: str, port: int, deadline: float) -> None:
        self._secure, self._host, self._port = secure, host, port
        self._deadline = deadline
        self._given_up = threading.Event()
        self._results: queue.SimpleQueue[Answer | Unanswered] = queue.SimpleQueue()
        self._socket: socket.socket | None = None

    def answer(self, timeout: float) -> Answer:
        try:
            result = self._results.get(timeout=max(timeout, 0.001))
        except queue.Empty:
            self._given_up.set()
            self._shut()
            raise Unanswered(f"no answer within {timeout:g} s") from None
        if isinstance(result, Unanswered):
            raise result
        return result

    def run(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> None:
        sent = False
        connection: http.client.HTTPConnection | None = None
        try:
            connection = self._connected()
            # Left behind in a name lookup: nothing may reach the authority any more.
            if self._given_up.is_set():
                return
            sent = True
            connection.request(method, path, body=body, headers=headers)
            with connection.getresponse() as response:
                raw = response.read(MAX_ANSWER_BYTES + 1)
                self._results.put(_answer(response, raw))
        except Unanswered as exc:
            self._results.put(exc)
        except Exception as exc:
            self._results.put(Unanswered(_why(exc), sent=sent))
        finally:
            if connection is not None:
                connection.close()

    def _connected(self) -> http.client.HTTPConnection:
        # Who guards one host alone never loads it.
        import http.client

        left = max(self._deadline - clock.now(), 0.001)
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=left)
        connection.connect()
        self._socket = connection.sock
        return connection

    def _shut(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


def _answer(response: http.client.HTTPResponse, raw: bytes) -> Answer:
    if len(raw) > MAX_ANSWER_BYTES:
        raise Unanswered(f"the answer is longer than {MAX_ANSWER_BYTES} bytes")
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        body = {}
    retry_after = None
    with contextlib.suppress(ValueError):
        seconds = float(response.headers.get("Retry-After", ""))
        retry_after = seconds if 0 <= seconds < 86400 else None
    return Answer(response.status, body if isinstance(body, dict) else {}, retry_after)


def _why(exc: Exception) -> str:
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror
    return str(exc) or type(exc).__name__


def _parsed(server: str) -> tuple[bool, str, int, str]:
    """Scheme is https, host, port, path prefix."""
    wrong = InvalidConfiguration(
        f"{server[:200]!r} is not the address of a server; it looks like http://host:8000."
    )
    try:
        url = urlsplit(server)
        port = url.port or (443 if url.scheme == "https" else 80)
    except ValueError:
        raise wrong from None
    if url.scheme not in ("http", "https") or not url.hostname or not server.isascii():
        raise wrong
    if url.username is not None or url.query or url.fragment or not server.isprintable():
        raise wrong
    return url.scheme == "https", url.hostname, port, url.path.rstrip("/")
