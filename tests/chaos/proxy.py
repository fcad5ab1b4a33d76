"""A bad network between robots and authority: a TCP proxy with seeded faults, as a process.

Arguments: port to listen on, port of the authority, seed, TTL, the share of connections that fare
badly, the record. One connection is one request; what befell it goes on record with its run.
"""

from __future__ import annotations

import asyncio
import random
import re
import sys
from contextlib import suppress
from pathlib import Path

from canonical_guard import clock
from tests.chaos.record import Record

DROPPED = "request dropped"
DELAYED = "request delayed"
REPLY_LOST = "reply lost"
REPLY_DELAYED = "reply delayed"
ARRIVED_LATE = "request arrived after it was given up"
FAULTS = (DROPPED, DELAYED, REPLY_LOST, REPLY_DELAYED, ARRIVED_LATE)
RUN = re.compile(rb'"run_id": ?"([^"]+)"')


class Network:
    def __init__(self, upstream: int, seed: int, ttl: float, share: float, record: Record) -> None:
        self._upstream = upstream
        self._random = random.Random(seed)
        self._ttl = ttl
        self._share = share
        self._record = record
        # The event loop itself keeps no task alive.
        self._tasks: set[asyncio.Task[None] | None] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._carry(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await _read_request(reader)
        fault = self._random.choice(FAULTS) if self._random.random() < self._share else None
        if fault is not None:
            run = RUN.search(request)
            self._record.write(
                "fault",
                fault=fault,
                at=clock.now(),
                until=clock.now(),
                pid=None,
                run=run and run[1].decode(),
            )
        if fault == DROPPED:
            return
        if fault == DELAYED:
            await asyncio.sleep(self._random.uniform(0.02, 0.1) * self._ttl)
        elif fault == ARRIVED_LATE:
            await asyncio.sleep(self._random.uniform(0.2, 1.5) * self._ttl)
        back, there = await asyncio.open_connection("127.0.0.1", self._upstream)
        try:
            there.write(request)
            await there.drain()
            answer = await back.read()
        finally:
            there.close()
        if fault == REPLY_LOST:
            return
        if fault == REPLY_DELAYED:
            await asyncio.sleep(self._random.uniform(0.05, 1.5) * self._ttl)
        writer.write(answer)
        await writer.drain()


async def _read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return head + (await reader.readexactly(int(length[1])) if length else b"")


async def main(port: int, upstream: int, seed: int, ttl: float, share: float, record: Path) -> None:
    network = Network(upstream, seed, ttl, share, Record(record))
    server = await asyncio.start_server(network.serve, "127.0.0.1", port)
    print("ready", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(
            main(
                int(sys.argv[1]),
                int(sys.argv[2]),
                int(sys.argv[3]),
                float(sys.argv[4]),
                float(sys.argv[5]),
                Path(sys.argv[6]),
            )
        )
