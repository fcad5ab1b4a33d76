"""One figure, taken in this process: `python -m tests.identity.measured PART AMOUNT FOLDER`."""

from __future__ import annotations

import gc
import http.client
import json
import random
import resource
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import django

Figures = dict[str, float]
BATCH = 400
NAMES = [
    ("REGISTRY_CHECKED_BROKER_NOT_FLAT", 80),
    ("REGISTRY_DIVERGENCE", 9),
    ("ENGINE_ALIVE", 1),
    ("ORDER_UPDATED", 4),
    ("ORDER_SUBMIT_SUCCESS", 2),
    ("INTENT_LIFECYCLE_TRANSITION", 2),
    ("EXECUTION_FILLED", 2),
]


def robot_lines(count: int) -> Iterator[bytes]:
    """Lines of the size and mix that real engine logs have: most are no identity's business."""
    chance = random.Random(7)
    names, weights = zip(*NAMES, strict=True)
    start = datetime.now(UTC) - timedelta(hours=2)
    for number in range(count):
        at = start + timedelta(milliseconds=number)
        event = chance.choices(names, weights)[0]
        data = {
            "broker_order_id": str(454542690000 + number),
            "instrument": "MNG",
            "intent_id": f"{chance.getrandbits(64):016x}",
            "attempt_count": str(chance.randrange(9)),
            "account_orders_total": "105",
            "working_count": "2",
            "candidate_intent_count": "36",
            "deferred": "False",
            "first_seen_utc": at.isoformat(),
            "classification": "Working|True|True|E",
            "note": "broker shows working orders for this intent, so it is left as it is",
        }
        if event.startswith(("ORDER", "EXECUTION")):
            data |= {"canonical_instrument": "NG", "execution_instrument_key": "MNG"}
        record = {
            "ts_utc": at.strftime("%Y-%m-%dT%H:%M:%S.%f7+00:00"),
            "level": "INFO",
            "source": "RobotEngine",
            "instrument": "MNG" if event.startswith("ORDER") else "",
            "trading_date": "2026-04-01",
            "stream": "__engine__",
            "session": "",
            "slot_time_chicago": "",
            "account": None,
            "run_id": f"{number % 3:032x}",
            "event": event,
            "message": event,
            "data": data,
        }
        yield json.dumps(record, separators=(",", ":")).replace("+00:00", "\\u002B00:00").encode()


@dataclass
class Parsed:
    """What a peer makes of a line."""

    ts_utc: str
    event: str
    run_id: str
    instrument: str
    stream: str | None
    data: dict[str, Any]
    text: bytes

    @classmethod
    def of(cls, line: bytes) -> Parsed:
        record = json.loads(line)
        return cls(
            record["ts_utc"], record["event"], record["run_id"], record["instrument"],
            record["stream"], record["data"], line,
        )  # fmt: skip


def rated(count: int, work: Callable[[], object]) -> Figures:
    gc.collect()
    gc.freeze()
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"lines per CPU-second": count / cpu, "lines per second": count / wall}


def parse(count: int, home: Path) -> Figures:
    """Peer: json.loads and a dataclass, nothing kept."""
    lines = list(robot_lines(count))
    return rated(count, lambda: [Parsed.of(line) for line in lines])


def executemany(count: int, home: Path) -> Figures:
    """Peer: the same parsing, into one sqlite3 table with a unique key, a commit per batch."""
    lines = list(robot_lines(count))
    connection = sqlite3.connect(home / "peer.sqlite3", isolation_level=None)
    connection.executescript(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
        "CREATE TABLE event (id INTEGER PRIMARY KEY, at TEXT, event TEXT, run TEXT,"
        " instrument TEXT, stream TEXT, data TEXT, source INTEGER, start INTEGER,"
        " UNIQUE (source, start));"
        "CREATE INDEX by_event ON event (event, at); CREATE INDEX by_run ON event (run, at);"
    )

    def work() -> None:
        for start in range(0, count, BATCH):
            rows = [Parsed.of(line) for line in lines[start : start + BATCH]]
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO event (at, event, run, instrument, stream, data, source, start)"
                " VALUES (?, ?, ?, ?, ?, ?, 1, ?)",
                [
                    (one.ts_utc, one.event, one.run_id, one.instrument, one.stream,
                     one.text.decode(), start + number)
                    for number, one in enumerate(rows)
                ],
            )  # fmt: skip
            connection.execute("COMMIT")

    return rated(count, work)


def copy(count: int, home: Path) -> Figures:
    """Peer on PostgreSQL: the same parsing, copied into one table like the one of `executemany`."""
    from django.db import connection, transaction

    prepare()
    lines = list(robot_lines(count))
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE peer (id bigserial PRIMARY KEY, at timestamptz, event text, run text,"
            " instrument text, stream text, data jsonb, source bigint, start bigint,"
            " UNIQUE (source, start));"
            "CREATE INDEX peer_by_event ON peer (event, at);"
            "CREATE INDEX peer_by_run ON peer (run, at)"
        )

    def work() -> None:
        for start in range(0, count, BATCH):
            rows = [Parsed.of(line) for line in lines[start : start + BATCH]]
            with (
                transaction.atomic(),
                connection.cursor() as cursor,
                cursor.copy(
                    "COPY peer (at, event, run, instrument, stream, data, source, start) FROM STDIN"
                ) as rows_in,
            ):
                for number, one in enumerate(rows):
                    rows_in.write_row(
                        (one.ts_utc, one.event, one.run_id, one.instrument, one.stream,
                         one.text.decode(), 1, start + number)
                    )  # fmt: skip

    try:
        return rated(count, work)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE peer")


def bulk_create(count: int, home: Path) -> Figures:
    """Peer: the same parsing, into our own table of events by the ORM; no rule, nothing else."""
    from django.db import transaction

    from identity.models import IdentityEvent

    prepare()
    lines = list(robot_lines(count))
    now = datetime.now(UTC)

    def work() -> None:
        for start in range(0, count, BATCH):
            rows = [Parsed.of(line) for line in lines[start : start + BATCH]]
            with transaction.atomic():
                IdentityEvent.objects.bulk_create(
                    IdentityEvent(
                        identity_key=f"peer:{start + number}",
                        event_type=one.event,
                        run_id=one.run_id,
                        occurred_at=datetime.fromisoformat(one.ts_utc),
                        received_at=now,
                        data={"data": one.data},
                    )
                    for number, one in enumerate(rows)
                )

    return rated(count, work)


def ingest(count: int, home: Path) -> Figures:
    """Ours: counted exactly once, judged by every rule, with runs, claims, streams and results."""
    prepare()
    path = home / "robot_ENGINE.jsonl"
    path.write_bytes(b"\n".join(robot_lines(count)) + b"\n")
    read(path, 0)
    return rated(count, lambda: read(path, count))


def memory(megabytes: int, home: Path) -> Figures:
    """Ours: the most memory that this process ever had, on a file of this size."""
    prepare()
    path = home / "robot_ENGINE.jsonl"
    count = 0
    with path.open("wb") as file:
        for line in robot_lines(megabytes * 1_000_000):
            file.write(line + b"\n")
            count += 1
            if file.tell() > megabytes * 1_000_000:
                break
    told = rated(count, lambda: read(path, count))
    return {**told, "MB at most": peak()}


def read(path: Path, count: int) -> None:
    from identity.admission import Place
    from identity.ingest import ingest_file
    from watchdog_project.handover import tenure_facts

    place = Place(log=str(path.parent), host="here")
    if not count:
        # Everything is imported and prepared once.
        small = path.with_name("robot_first.jsonl")
        small.write_bytes(b"\n".join(robot_lines(3)) + b"\n")
        path = small
    outcome = ingest_file(path, place, datetime.now(UTC), tenure_facts)
    assert outcome.accepted == (count or 3), outcome


def sweep(runs: int, home: Path) -> Figures:
    """Ours: a sweep of so many live runs with 10 streams each, each alone in its account."""
    from identity.models import CanonicalInstrument, Claim, RobotRun, Stream, WatchedMarket
    from identity.sweep import sweep as one_sweep
    from watchdog_project.handover import tenure_facts

    prepare()
    now = datetime.now(UTC)
    CanonicalInstrument.objects.update(exclusive_per_account=True)
    symbols = sorted(CanonicalInstrument.objects.values_list("symbol", flat=True))
    made = RobotRun.objects.bulk_create(
        [
            RobotRun(
                run_id=f"run-{n}", scope=f"a{n}", host="h", first_seen_at=now, last_seen_at=now
            )
            for n in range(runs)
        ],
        batch_size=500,
    )
    market = {run.pk: symbols[number % len(symbols)] for number, run in enumerate(made)}
    Stream.objects.bulk_create(
        [
            Stream(
                run=run, stream_id=f"{market[run.pk]}{number}", market=market[run.pk],
                scope=run.scope, canonical_instrument=market[run.pk],
                execution_instrument=market[run.pk], first_seen_at=now, last_seen_at=now,
            )
            for run in made
            for number in range(1, 11)
        ],
        batch_size=500,
    )  # fmt: skip
    Claim.objects.bulk_create(
        [
            Claim(run=run, market=market[run.pk], scope=run.scope, first_at=now, last_at=now)
            for run in made
        ],
        batch_size=500,
    )
    WatchedMarket.objects.bulk_create(
        [
            WatchedMarket(
                market=market[run.pk], scope=run.scope, first_evidence_at=now, evidence_at=now,
                run_id=run.run_id,
            )
            for run in made
        ],
        batch_size=500,
    )  # fmt: skip
    figures: Figures = {}
    for name in ("first s", "again s", "after an edit s"):
        if name == "after an edit s":
            RobotRun.objects.update(judged_by="another")
        start, cpu = time.perf_counter(), time.process_time()
        found = one_sweep(datetime.now(UTC), tenure_facts)
        figures[name] = time.perf_counter() - start
        figures[name.replace(" s", " CPU-s")] = time.process_time() - cpu
        assert len(found) == runs
        assert {str(one.status) for one in found} == {"OK"}
        del found
    figures["CPU-us per stream"] = figures["again CPU-s"] / runs / 10 * 1e6
    return {**figures, "MB at most": peak()}


def prune(events: int, home: Path) -> Figures:
    """Ours: forget so many old events; the longest that a statement held the writer."""
    from django.db import connection

    from identity.models import IdentityEvent
    from identity.retention import Keep, prune_history

    prepare()
    old = datetime.now(UTC) - timedelta(days=500)
    for start in range(0, events, 5_000):
        IdentityEvent.objects.bulk_create(
            [
                IdentityEvent(
                    identity_key=f"{number * 7919 % events:08x}", event_type=f"E{number % 40}",
                    run_id=f"run-{number % 50}", market="ES", occurred_at=old, received_at=old,
                    origin="sweep" if number % 2 else "robot", data={"text": "x" * 500},
                )
                for number in range(start, min(start + 5_000, events))
            ]
        )  # fmt: skip
    held: list[float] = []

    def timed(execute: Any, sql: str, *call: Any) -> Any:
        start = time.perf_counter()
        try:
            return execute(sql, *call)
        finally:
            if not sql.startswith("SELECT"):
                held.append(time.perf_counter() - start)

    start = time.perf_counter()
    with connection.execute_wrapper(timed):
        done = prune_history(datetime.now(UTC), Keep())
    assert done.passes + done.events == events
    seconds = time.perf_counter() - start
    return {"ms held at most": max(held) * 1000, "rows per second": events / seconds}


def latency(times: int, home: Path) -> Figures:
    """Ours: the longest from a written line, and from a POST, to VIOLATION on the status."""
    from tests.identity.cast import incomplete
    from tests.server import ROOT, Server, Template

    (home / "template").mkdir()
    server = Server(Template(home / "template"), home / "server")
    server.start()
    logs = home / "logs"
    logs.mkdir()
    tail = subprocess.Popen(
        [sys.executable, "manage.py", "tail", str(logs)], cwd=ROOT, env=server.environment
    )

    def until_red(event: str, begin: Callable[[bytes], object]) -> float:
        line = json.dumps(incomplete(event, at=datetime.now(UTC))).encode() + b"\n"
        start = time.perf_counter()
        begin(line)
        while event.encode() not in status():
            assert time.perf_counter() < start + 30
            time.sleep(0.01)
        return time.perf_counter() - start

    def status() -> bytes:
        request = urllib.request.Request(f"{server.url}/api/watchdog/status")
        request.add_header("Authorization", f"Api-Key {server.keys['reader']}")
        body: bytes = urllib.request.urlopen(request, timeout=10).read()
        return body

    def written(line: bytes) -> None:
        with (logs / "robot_ES.jsonl").open("ab") as file:
            file.write(line)

    def posted(line: bytes) -> None:
        request = urllib.request.Request(f"{server.url}/api/events", data=line)
        request.add_header("Authorization", f"Api-Key {server.keys['robot']}")
        request.add_header("Content-Type", "application/json")
        urllib.request.urlopen(request, timeout=10).read()

    try:
        until_red("ORDER_FIRST", written)
        by_file = [until_red(f"ORDER_FILE_{n}", written) for n in range(times)]
        by_post = [until_red(f"ORDER_POST_{n}", posted) for n in range(times)]
    finally:
        tail.terminate()
        tail.wait(20)
        server.stop()
    return {"s from a line at most": max(by_file), "s from a POST at most": max(by_post)}


def post(times: int, home: Path) -> Figures:
    """Ours: bodies of 1,000 lines over one connection to one web process."""
    from tests.server import Server, Template

    (home / "template").mkdir()
    server = Server(Template(home / "template"), home / "server")
    server.start()
    lines = list(robot_lines(1_000 * (times + 1)))
    bodies = [b"\n".join(lines[at : at + 1_000]) for at in range(0, len(lines), 1_000)]
    headers = {
        "Authorization": f"Api-Key {server.keys['robot']}",
        "Content-Type": "application/x-ndjson",
    }
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)

    def send(body: bytes) -> float:
        start = time.perf_counter()
        connection.request("POST", "/api/events", body, headers)
        answer = json.loads(connection.getresponse().read())
        assert answer["accepted"] == 1_000, answer
        return time.perf_counter() - start

    try:
        send(bodies[0])
        took = sorted(send(body) for body in bodies[1:])
    finally:
        connection.close()
        server.stop()
    return {"lines per second": 1_000 * times / sum(took), "ms each": took[len(took) // 2] * 1e3}


def prepare() -> None:
    """An empty, seeded database."""
    from django.core.management import call_command

    call_command("migrate", interactive=False, verbosity=0)
    call_command("flush", interactive=False, verbosity=0)
    from identity.registry import seed_registry

    seed_registry()


def peak() -> float:
    # Kilobytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


PARTS: dict[str, Callable[[int, Path], Figures]] = {
    part.__name__: part
    for part in (
        parse,
        executemany,
        copy,
        bulk_create,
        ingest,
        memory,
        post,
        sweep,
        prune,
        latency,
    )
}

if __name__ == "__main__":
    django.setup()
    print(json.dumps(PARTS[sys.argv[1]](int(sys.argv[2]), Path(sys.argv[3]))))
