"""A PostgreSQL standby takes over that never heard of the last grants: real servers, real HTTP."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.postgres import PostgresServer
from tests.server import Server, Template

TOKENS_AN_EPOCH = 2**32
LONGEST = 60 + 60  # NQ's TTL below, and its delay


@dataclass
class Robot:
    """One robot's run against whatever web process is asked."""

    market: str
    run_id: str = field(default_factory=lambda: secrets.token_hex(8))
    nonce: str = field(default_factory=lambda: secrets.token_hex(16))
    token: int = 0

    def ask(self, server: Server, action: str) -> tuple[int, dict[str, Any]]:
        status, answer = server.request("POST", f"/api/locks/{action}", self._body(action))
        if action == "acquire" and status == 200:
            self.token = answer["fencing_token"]
        return status, answer

    def hear(self, server: Server, action: str) -> tuple[int, dict[str, Any]]:
        """Ask until the answer is none of a connection to a server that is gone."""
        for _ in range(50):
            status, answer = self.ask(server, action)
            if status != 503:
                break
            time.sleep(0.1)
        return status, answer

    def _body(self, action: str) -> dict[str, Any]:
        caller = {"run_id": self.run_id, "nonce": self.nonce}
        if action == "acquire":
            return {
                **caller, "execution_instrument": self.market,
                "canonical_instrument": self.market, "host": "trader-1",
            }  # fmt: skip
        lock = {"kind": "canonical_market", "name": self.market, "scope": ""}
        if action == "verify":
            return {**lock, "fencing_token": self.token}
        return {**caller, **lock, "fencing_token": self.token}


@dataclass
class Pair:
    """Primary and standby; `web` asks whichever of them takes writes."""

    primary: PostgresServer
    standby: PostgresServer
    web: Server

    def in_step(self) -> None:
        """The standby knows all that the primary knows."""
        (position,) = self.primary.execute("SELECT pg_current_wal_lsn()")[0]
        caught_up = f"SELECT pg_last_wal_replay_lsn() >= '{position}'"
        wait_until(lambda: self.standby.execute(caught_up)[0][0])

    def part(self) -> None:
        """From now on the standby hears nothing of the primary."""
        self.standby.execute("ALTER SYSTEM SET primary_conninfo = ''")
        self.standby.execute("SELECT pg_reload_conf()")
        wait_until(lambda: not self.standby.execute("SELECT 1 FROM pg_stat_wal_receiver"))

    def fail_over(self) -> None:
        self.primary.stop()
        assert self.standby.execute("SELECT pg_promote(true, 30)") == [(True,)]


def wait_until(true: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def let_time_pass(server: PostgresServer) -> None:
    server.execute(
        "UPDATE locks_authorityepoch SET began_at = began_at - interval '2 minutes',"
        " grants_after = grants_after - interval '2 minutes'"
    )


@pytest.fixture
def primary(monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        server.start("synchronous_commit=local")
        monkeypatch.setenv("DATABASE_URL", server.url)
        yield server
    finally:
        server.remove()


@pytest.fixture
def web(primary: PostgresServer, tmp_path: Path) -> Iterator[Server]:
    """Not started yet; its database is the primary's."""
    server = Server(Template(tmp_path), tmp_path / "web")
    primary.database = server.environment["DATABASE_URL"].rpartition("/")[2]
    primary.execute("UPDATE identity_canonicalinstrument SET lease_ttl = 60 WHERE symbol = 'NQ'")
    yield server
    server.stop()


@pytest.fixture
def pair(primary: PostgresServer, web: Server) -> Iterator[Pair]:
    standby = PostgresServer(primary=primary)
    try:
        standby.database = primary.database
        standby.start()
        web.environment["DATABASE_URL"] = (
            f"postgres://watchdog@127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
            f"/{primary.database}?target_session_attrs=read-write&connect_timeout=2"
        )
        web.start()
        yield Pair(primary, standby, web)
    finally:
        standby.remove()


def test_after_a_failover_what_was_lost_is_waited_for_and_its_tokens_never_come_again(
    pair: Pair,
) -> None:
    kept, first, long = Robot("GC"), Robot("ES"), Robot("NQ")
    for robot in (kept, first, long):
        assert robot.ask(pair.web, "acquire")[0] == 200
    assert first.ask(pair.web, "release")[0] == 200
    pair.in_step()
    pair.part()
    lost = Robot("ES")
    assert lost.ask(pair.web, "acquire")[0] == 200
    newcomer = Robot("CL")
    assert newcomer.ask(pair.web, "acquire")[0] == 200

    es = "SELECT state, fencing_token FROM locks_lockrecord WHERE name = 'ES'"
    assert pair.primary.execute(es) == [("HELD", 2)]
    assert pair.standby.execute(es) == [("FREE", 1)], "it would let ES to anybody"

    pair.fail_over()

    status, answer = Robot("ES").hear(pair.web, "acquire")
    assert (status, answer["code"]) == (409, "LOCK_DELAY"), answer
    assert LONGEST - 15 < answer["retry_after"] <= LONGEST
    assert "Another database server took over" in answer["detail"]
    status, answer = Robot("CL").hear(pair.web, "acquire")
    assert (status, answer["code"]) == (409, "LOCK_DELAY"), "nor what it never had a record of"

    # Who lost his lease to the failover hears of it; who did not goes on.
    assert lost.hear(pair.web, "renew")[0] == 409
    assert lost.hear(pair.web, "verify")[0] == 409
    assert kept.ask(pair.web, "verify")[0] == 503, "whether it is in force nobody knows yet"
    assert kept.hear(pair.web, "renew")[0] == 200
    assert kept.hear(pair.web, "verify")[0] == 200

    let_time_pass(pair.standby)
    for before in (lost, newcomer):
        after = Robot(before.market)
        status, answer = after.hear(pair.web, "acquire")
        assert status == 200, answer
        assert answer["takeover"] is True
        assert after.token > before.token + TOKENS_AN_EPOCH - 2
        assert after.hear(pair.web, "release")[0] == 200
        again = Robot(before.market)
        assert again.hear(pair.web, "acquire")[0] == 200
        assert again.token == after.token + 1, "it jumps once"
    assert kept.hear(pair.web, "renew")[0] == 200
    assert kept.token == 1


def test_a_standby_grants_confirms_and_renews_nothing(pair: Pair, tmp_path: Path) -> None:
    holder = Robot("ES")
    assert holder.ask(pair.web, "acquire")[0] == 200
    pair.in_step()
    pair.web.stop()
    pair.web.environment["DATABASE_URL"] = pair.standby.url
    pair.web.start()

    for robot, action in (
        (Robot("NQ"), "acquire"),
        (holder, "renew"),
        (holder, "verify"),
        (holder, "release"),
    ):
        status, answer = robot.ask(pair.web, action)
        assert (status, answer["code"]) == (503, "LOCK_AUTHORITY_UNAVAILABLE"), (action, answer)


def test_a_restart_is_no_failover_and_no_superuser_is_needed_to_tell(
    primary: PostgresServer, web: Server
) -> None:
    primary.execute("CREATE ROLE plain LOGIN")
    primary.execute("GRANT USAGE ON SCHEMA public TO plain")
    primary.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO plain")
    primary.execute("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO plain")
    web.environment["DATABASE_URL"] = primary.url.replace("watchdog@", "plain@")
    web.start()
    before, after = Robot("ES"), Robot("ES")
    assert before.ask(web, "acquire")[0] == 200
    assert before.ask(web, "verify")[0] == 200
    assert before.ask(web, "release")[0] == 200
    primary.stop()
    primary.start("synchronous_commit=local")

    wait_until(lambda: after.ask(web, "acquire")[0] == 200)
    assert after.token == before.token + 1


def test_a_dump_restored_over_its_own_database_is_seen_to_be_an_old_one(
    primary: PostgresServer, web: Server
) -> None:
    web.start()
    early, late, heir = Robot("ES"), Robot("ES"), Robot("ES")
    assert early.ask(web, "acquire")[0] == 200
    assert early.ask(web, "release")[0] == 200
    dump = primary.folder / "dump"
    connect = ("--host", "127.0.0.1", "--port", str(primary.port), "--username", "watchdog")
    primary.run("pg_dump", *connect, "-Fc", "-f", str(dump), primary.database)
    assert late.ask(web, "acquire")[0] == 200
    web.stop()

    primary.run("pg_restore", *connect, "--clean", "--if-exists", "-d", primary.database, str(dump))
    web.start()

    status, answer = heir.ask(web, "acquire")
    assert (status, answer["code"]) == (409, "LOCK_DELAY"), "the dump's ES is free; nothing is"
    assert late.ask(web, "renew")[0] == 409
    let_time_pass(primary)
    assert heir.ask(web, "acquire")[0] == 200
    assert heir.token > late.token + TOKENS_AN_EPOCH - 2
