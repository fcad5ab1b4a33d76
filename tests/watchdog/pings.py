"""A monitor as the world outside has one: a real HTTP server that keeps what pings it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = "0c7b6a3e-secret"


@dataclass
class Monitor:
    """`pings` are the ends of the addresses asked for, `""` for the address itself, in order.

    It answers `status`, and not before `gate` opens.
    """

    port: int
    pings: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    status: int = 200
    gate: threading.Event = field(default_factory=threading.Event)
    arrived: threading.Condition = field(default_factory=threading.Condition)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/ping/{SECRET}"

    def wait_for(self, count: int, ping: str = "", seconds: float = 30) -> None:
        """Until `ping` arrived `count` times."""
        with self.arrived:
            done = self.arrived.wait_for(lambda: self.pings.count(ping) >= count, seconds)
            assert done, self.pings


@contextmanager
def a_monitor() -> Iterator[Monitor]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with monitor.arrived:
                monitor.pings.append(self.path.removeprefix(f"/ping/{SECRET}"))
                monitor.bodies.append(body.decode())
                monitor.arrived.notify_all()
            monitor.gate.wait(30)
            self.send_response(monitor.status)
            self.end_headers()

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    monitor = Monitor(server.server_address[1])
    monitor.gate.set()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield monitor
    finally:
        monitor.gate.set()
        server.shutdown()
        thread.join()
        server.server_close()
