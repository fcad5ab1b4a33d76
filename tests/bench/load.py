"""Asks a web server as often as it answers, over connections that stay open."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Load:
    """`rate`: answers per second; `latencies`: seconds, sorted."""

    rate: float
    latencies: Sequence[float]

    def percentile(self, percent: float) -> float:
        return self.latencies[
            min(int(len(self.latencies) * percent / 100), len(self.latencies) - 1)
        ]


def post(path: str, body: bytes, key: str, content_type: str = "application/json") -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Api-Key {key}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def get(path: str, **headers: str) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{''.join(lines)}\r\n".encode()


def ask(port: int, requests: Sequence[Callable[[], bytes]], status: int, seconds: float) -> Load:
    """One connection for each of `requests`, which makes the next one to send; all at once."""
    return asyncio.run(_ask(port, requests, status, seconds))


async def _ask(
    port: int, requests: Sequence[Callable[[], bytes]], status: int, seconds: float
) -> Load:
    latencies: list[float] = []
    began = time.perf_counter()
    deadline = began + seconds
    await asyncio.gather(
        *(_connection(port, request, status, deadline, latencies) for request in requests)
    )
    return Load(len(latencies) / (time.perf_counter() - began), sorted(latencies))


async def _connection(
    port: int, request: Callable[[], bytes], status: int, deadline: float, latencies: list[float]
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    expected = f"HTTP/1.1 {status} ".encode()
    try:
        while (began := time.perf_counter()) < deadline:
            writer.write(request())
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(expected):
                raise RuntimeError(f"the answer was {head[:200]!r}")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            if length:
                await reader.readexactly(int(length))
            latencies.append(time.perf_counter() - began)
    finally:
        writer.close()
