"""Leases in process: ours against the same statements through the bare driver, and other locks."""

from __future__ import annotations

import secrets
import sqlite3
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.bench import stage
from tests.bench.clients import Clients, Once
from tests.bench.effort import Effort
from tests.bench.rounds import Row, compare

MARKETS = ("ES", "NQ", "RTY", "YM", "CL", "GC", "NG", "ZB")
RENEW, CYCLE = "renew", "acquire and release"


def on_postgres(effort: Effort) -> list[Row]:
    """Renewals and whole tenures by one client and by eight, each in a process of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="watchdog-bench-") as home,
        stage.postgres() as url,
        stage.redis() as redis_port,
        stage.etcd() as etcd_port,
    ):
        stage.set_up_django(Path(home), url)

        def contestants(number: int) -> Mapping[str, Once]:
            calls = _ours(number) | _psycopg(number, url)
            if redis_port:
                calls |= _redis(number, redis_port)
            if etcd_port:
                calls |= _etcd(number, etcd_port)
            return calls

        rows: list[Row] = []
        for count in (1, 8):
            with Clients(count, contestants) as clients:
                run = clients.slice_of
                renewals = {"psycopg, the same statement": (run(f"psycopg {RENEW}"), 0.8)}
                cycles = {"psycopg, one statement each": (run(f"psycopg {CYCLE}"), 0.8)}
                if etcd_port:
                    renewals["etcd3gw keepalive"] = (run(f"etcd {RENEW}"), 3.0)
                    cycles["etcd3gw grant, txn, revoke"] = (run(f"etcd {CYCLE}"), 5.0)
                if redis_port and count == 1:
                    cycles["redis Lock, appendfsync always"] = (run(f"redis {CYCLE}"), 1.0)
                who = f"PostgreSQL, {count} client{'s' if count > 1 else ''}"
                rows += compare(f"renew, {who}", run(f"our {RENEW}"), renewals, **effort.slices)
                rows += compare(f"{CYCLE}, {who}", run(f"our {CYCLE}"), cycles, **effort.slices)
        return rows


def on_sqlite(effort: Effort) -> list[Row]:
    """The same by one client on SQLite with synchronous=FULL."""
    with tempfile.TemporaryDirectory(prefix="watchdog-bench-") as home:
        stage.set_up_django(Path(home), None)
        file = Path(home) / "watchdog.sqlite3"
        with Clients(1, lambda number: _ours(number) | _sqlite3(number, file)) as clients:
            run = clients.slice_of
            rows: list[Row] = []
            for what in (RENEW, CYCLE):
                peer = {"sqlite3, the same statements": (run(f"sqlite3 {what}"), 0.7)}
                name = f"{what}, SQLite FULL, 1 client"
                rows += compare(name, run(f"our {what}"), peer, **effort.slices)
        return rows


def _request(number: int, run_id: str) -> Any:
    from locks.leases import AcquireRequest

    market = MARKETS[number]
    return AcquireRequest(
        run_id=run_id,
        nonce=secrets.token_hex(16),
        key_prefix="0badcafe",
        host="bench",
        pid=number,
        execution_instrument=market,
        canonical_instrument=market,
    )


def _ours(number: int) -> dict[str, Once]:
    from locks.acquisition import acquire_lease
    from locks.leases import Holder
    from locks.services import release_lease, renew_lease
    from watchdog_project.handover import resolve_market

    def acquired() -> Holder:
        request = _request(number, secrets.token_hex(8))
        grant = acquire_lease(request, resolve_market)
        return Holder(
            grant.lock, request.run_id, request.nonce, request.key_prefix, grant.fencing_token
        )

    held: list[Holder] = []

    def renew() -> None:
        if not held:
            held.append(acquired())
        renew_lease(held[0])

    def cycle() -> None:
        while held:
            release_lease(held.pop())
        release_lease(acquired())

    return {f"our {RENEW}": renew, f"our {CYCLE}": cycle}


def _values(number: int) -> dict[str, Any]:
    """The parameters of every lease statement, for a lock of the bare driver's own."""
    from locks.execution import create_record
    from locks.leases import LockId

    lock = LockId("log_sink", f"bare-{number}")
    create_record(lock)
    return {
        "kind": lock.kind,
        "name": lock.name,
        "scope": lock.scope,
        "run_id": "",
        "nonce_hash": secrets.token_hex(32),
        "key_prefix": "0badcafe",
        "execution_instrument": "",
        "account": "",
        "host": "bench",
        "boot_id": "",
        "pid": number,
        "lock_file_path": "",
        "ttl": 15.0,
        "lock_delay": 15.0,
        "obeys_kill_switch": False,
        "fencing_token": 0,
        "crashed": False,
        "reason": "clean",
        "end": "released",
    }


def _bare(number: int, ask: Callable[[str, dict[str, Any]], Any], driver: str) -> dict[str, Once]:
    """Renew and cycle with nothing around the statements; `ask` returns the token."""
    values = _values(number)
    held: list[int] = []

    def acquire() -> None:
        values["run_id"] = secrets.token_hex(8)
        values["fencing_token"] = ask("grant", values)
        held.append(values["fencing_token"])

    def release() -> None:
        ask("release", values)
        held.clear()

    def renew() -> None:
        if not held:
            acquire()
        ask("renew", values)

    def cycle() -> None:
        if held:
            release()
        acquire()
        release()

    return {f"{driver} {RENEW}": renew, f"{driver} {CYCLE}": cycle}


def _psycopg(number: int, url: str) -> dict[str, Once]:
    import psycopg

    from locks.execution import statements

    texts = {
        name: statements().at_once(getattr(statements(), name))
        for name in ("grant", "renew", "release")
    }
    own = psycopg.connect(url, autocommit=True)
    own.prepare_threshold = 0

    def ask(what: str, values: dict[str, Any]) -> Any:
        row = own.execute(texts[what], values).fetchone()  # type: ignore[call-overload]
        assert row is not None, what
        return row[0]

    return _bare(number, ask, "psycopg")


def _sqlite3(number: int, file: Path) -> dict[str, Once]:
    from locks.execution import _in_sqlite, statements
    from locks.statements import SQLITE_NOW

    own = sqlite3.connect(file, isolation_level=None, timeout=20)
    own.execute("PRAGMA synchronous=FULL")
    texts = {
        name: [_in_sqlite(text) for text in (found.update, *found.history)]
        for name in ("grant", "renew", "release")
        if (found := getattr(statements(), name))
    }
    clock = _in_sqlite(SQLITE_NOW)
    token = "SELECT fencing_token FROM locks_lockrecord WHERE kind = :kind AND name = :name"

    def ask(what: str, values: dict[str, Any]) -> Any:
        own.execute("BEGIN IMMEDIATE")
        values["now"] = own.execute(clock).fetchone()[0]
        for text in texts[what]:
            assert own.execute(text, values).rowcount == 1, what
        (found,) = own.execute(token, values).fetchone()
        own.execute("COMMIT")
        return found

    return _bare(number, ask, "sqlite3")


def _redis(number: int, port: int) -> dict[str, Once]:
    import redis

    lock = redis.Redis(port=port).lock(f"lock-{number}", timeout=15)

    def cycle() -> None:
        assert lock.acquire(blocking=False)
        lock.release()

    return {f"redis {CYCLE}": cycle}


def _etcd(number: int, port: int) -> dict[str, Once]:
    import etcd3gw  # type: ignore[import-not-found]

    client = etcd3gw.client(host="127.0.0.1", port=port, api_path="/v3/")
    kept = client.lease(15)

    def cycle() -> None:
        lease = client.lease(15)
        assert client.create(f"lock-{number}", "held", lease=lease)
        lease.revoke()

    return {f"etcd {RENEW}": kept.refresh, f"etcd {CYCLE}": cycle}
