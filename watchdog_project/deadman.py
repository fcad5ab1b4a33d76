"""Tells the world outside that the sweep still runs, so that its silence is noticed elsewhere.

A ping is one small HTTP request, in the way of Healthchecks: `URL/start` when a sweep begins, `URL`
when it is done, `URL/fail` when it failed. Any other monitor that is content with the second will
do. Nobody waits for it: a sweep neither takes longer nor fails because of it.
"""

from __future__ import annotations

import logging
import queue
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit, urlunsplit

from django.conf import settings

logger = logging.getLogger(__name__)

# More than this many unsent are old news: the newest ping is as good as all of them.
WAITING_AT_MOST = 4
REASON_LENGTH = 200


@dataclass(slots=True)
class DeadMan:
    """Where to ping; an empty `url` pings nobody. `timeout` is seconds for one request."""

    url: str
    timeout: float
    problem: str = ""
    _waiting: queue.Queue[tuple[str, bytes | None]] = field(
        default_factory=lambda: queue.Queue(WAITING_AT_MOST), repr=False
    )
    _sender: threading.Thread | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def started(self) -> None:
        self._ping("/start")

    def succeeded(self) -> None:
        self._ping("")

    def failed(self, failure: Exception) -> None:
        """Only the failure's kind is told: its text can hold addresses and rows."""
        self._ping("/fail", type(failure).__name__[:REASON_LENGTH].encode())

    def _ping(self, suffix: str, body: bytes | None = None) -> None:
        if not self.url:
            return
        with self._lock:
            if self._sender is None or not self._sender.is_alive():
                # A daemon: a monitor that hangs keeps no worker from ending.
                self._sender = threading.Thread(
                    target=self._send_all, name="dead man's ping", daemon=True
                )
                self._sender.start()
        try:
            self._waiting.put_nowait((with_suffix(self.url, suffix), body))
        except queue.Full:
            logger.warning("A ping to %s is left out: the ones before it hang.", self._host)

    def _send_all(self) -> None:
        while True:
            address, body = self._waiting.get()
            self._note(self._send(address, body))

    def _send(self, address: str, body: bytes | None) -> str:
        """Send one ping; returns what was wrong with it, or nothing."""
        request = urllib.request.Request(  # noqa: S310 checked at start: http or https
            address, data=body, headers={"User-Agent": "Watchdog"}
        )
        try:
            with urllib.request.urlopen(request, timeout=self.timeout):  # noqa: S310
                return ""
        except urllib.error.HTTPError as answer:
            with answer:
                return f"it answered {answer.code}"
        except Exception as failure:
            # Whatever a monitor does, the next ping is sent.
            return str(getattr(failure, "reason", "")) or type(failure).__name__

    def _note(self, problem: str) -> None:
        """Say it once, not with every ping; the address is a secret, its host is not."""
        if problem and problem != self.problem:
            logger.warning("The ping to %s failed: %s. It is sent again.", self._host, problem)
        elif not problem and self.problem:
            logger.info("The ping to %s arrives again.", self._host)
        self.problem = problem

    @property
    def _host(self) -> str:
        return urlsplit(self.url).hostname or "nowhere"


def with_suffix(url: str, suffix: str) -> str:
    """`url` with `/start` or `/fail` at its path's end; what it asks for (`?key=…`) stays."""
    parts: SplitResult = urlsplit(url)
    path = parts.path.rstrip("/") + suffix if suffix else parts.path
    return urlunsplit(parts._replace(path=path))


def url_objection(url: str) -> str:
    """Why nobody can be pinged at `url`, in a sentence; empty where it can be, or is empty."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as failure:
        return f"It is no address: {failure}."
    if not url:
        return ""
    if parts.scheme not in ("http", "https"):
        return "It has to begin with http:// or https://."
    if not parts.hostname or port == 0:
        return "It names no host."
    if parts.fragment or any(character.isspace() for character in url):
        return "It has a space or a # in it, which no address of a monitor has."
    return ""


_ours: dict[tuple[str, float], DeadMan] = {}


def dead_man() -> DeadMan:
    """The one of this process, as the settings name it now."""
    where = (settings.WATCHDOG_DEADMAN_URL, settings.WATCHDOG_DEADMAN_TIMEOUT)
    return _ours.setdefault(where, DeadMan(*where))
