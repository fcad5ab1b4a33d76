"""Where messages arrive in the tests: a real HTTP server and a real mail server."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller


@dataclass
class Received:
    """One message at the HTTP receiver; `at` is the wall clock's time in seconds."""

    title: str
    message: str
    key: str
    at: float


@dataclass
class Receiver:
    """Takes messages; answers `status`, after waiting for `gate` where that is set."""

    port: int
    got: list[Received] = field(default_factory=list)
    attempts: int = 0
    status: int = 200
    gate: threading.Event | None = None
    arrived: threading.Condition = field(default_factory=threading.Condition)

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.port}/hook/t0p-s3cret-path"

    def wait_for(self, count: int, seconds: float = 20) -> list[Received]:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.got) >= count, seconds), self.got
            return list(self.got)


@contextmanager
def http_receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if receiver.gate is not None:
                receiver.gate.wait(30)
            with receiver.arrived:
                receiver.attempts += 1
                if receiver.status == 200:
                    key = self.headers.get("Idempotency-Key", "")
                    receiver.got.append(Received(body["title"], body["message"], key, time.time()))
                receiver.arrived.notify_all()
            self.send_response(receiver.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Mailbox:
    port: int
    got: list[EmailMessage] = field(default_factory=list)

    @property
    def url(self) -> str:
        return (
            f"mailto://127.0.0.1:{self.port}/?from=watchdog@example.com&to=ops@example.com"
            "&mode=insecure"
        )


@contextmanager
def mail_server() -> Iterator[Mailbox]:
    class Handler:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            mail = BytesParser(policy=default).parsebytes(envelope.content)
            assert isinstance(mail, EmailMessage)
            box.got.append(mail)
            return "250 OK"

    class OnAnyPort(Controller):
        def _trigger_server(self) -> None:
            self.port = self.server.sockets[0].getsockname()[1]
            super()._trigger_server()

    controller = OnAnyPort(Handler(), hostname="127.0.0.1", port=0)
    controller.start()
    box = Mailbox(controller.port)
    try:
        yield box
    finally:
        controller.stop()
