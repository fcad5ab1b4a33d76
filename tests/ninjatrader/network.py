"""A network between a chart and the real server that loses a reply on its way back."""

from __future__ import annotations

import socket
import threading
from urllib.parse import urlsplit

from tests.guard.authority import RawServer
from tests.server import Server


class LosingNetwork(RawServer):
    """The server does what the first request for `path` asks, and nobody hears of it."""

    def __init__(self, watchdog: Server, path: str) -> None:
        self._port = urlsplit(watchdog.url).port
        self._path = path.encode()
        self._counting = threading.Lock()
        self.carried = 0
        super().__init__(self._carry)

    def _carry(self, accepted: socket.socket) -> None:
        request = _whole_request(accepted)
        with socket.create_connection(("127.0.0.1", self._port)) as there:
            there.sendall(request)
            answer = b""
            while part := there.recv(65536):
                answer += part
        if request.startswith(b"POST " + self._path):
            with self._counting:
                self.carried += 1
                if self.carried == 1:
                    return
        accepted.sendall(answer)


def _whole_request(accepted: socket.socket) -> bytes:
    request, wanted = b"", 1
    while len(request) < wanted:
        part = accepted.recv(65536)
        if not part:
            raise OSError("it hung up")
        request += part
        head, end, _ = request.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
        wanted = len(head) + len(end) + int(length or 0) if end else len(request) + 1
    return request
