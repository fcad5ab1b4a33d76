"""A lock authority as the server vectors see it: set up, asked over HTTP, and looked at."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from django.http import HttpResponse
from django.test import Client

from identity.models import CanonicalInstrument, ExecutionInstrument
from locks.leases import hash_nonce
from locks.models import KillSwitch, LockKind, LockRecord, Tenure
from locks.services import database_now
from tests.vectors import Vector, assert_like, rounded_up
from watchdog_project.api_keys import create_api_key
from watchdog_project.models import ApiKey

TIMES = ("acquired_at", "renewed_at", "expires_at", "free_at", "ended_at")
HOLDER = ("run_id", "execution_instrument", "account", "host", "boot_id", "pid")
STANDARD = ("type", "title", "status", "code", "detail")


class StagedAuthority:
    """The server in the state that a case gives. Times are seconds from the set-up."""

    def __init__(self, setting: Vector, given: Vector) -> None:
        self._setting = setting
        self._client = Client(raise_request_exception=False)
        self._register()
        self.keys = {name: create_api_key(name, role) for name, role in setting["keys"].items()}
        self._prefixes = {name: key.partition(".")[0] for name, key in self.keys.items()}
        self._start = database_now()
        for lock in given["locks"]:
            self._put(lock)
        for tenure in given.get("tenures", []):
            self._put_tenure(tenure, ended_at=self._at(-20), end=tenure["end"])
        self._put_switches(given)

    @property
    def elapsed(self) -> float:
        """Seconds since the set-up."""
        return (database_now() - self._start).total_seconds()

    def ask(self, request: Vector) -> HttpResponse:
        key = request["key"]
        headers = {}
        if key is not None:
            whole = self.keys.get(key, f"0badc0de.{'x' * 43}")
            headers["Authorization"] = f"Api-Key {whole}"
        text = request["text"] if "text" in request else json.dumps(request["body"])
        if isinstance(text, dict):
            text = text["repeat"] * text["times"]
        return self._client.post(  # type: ignore[return-value]
            request["path"], text, content_type="application/json", headers=headers
        )

    def assert_answer(self, expected: Vector, answer: HttpResponse) -> None:
        body = json.loads(answer.content)
        assert answer.status_code == expected["status"], body
        if answer.status_code >= 400:
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert all(body.get(name) for name in STANDARD), body
            assert body["status"] == answer.status_code
        if "code" in expected:
            assert body["code"] == expected["code"], body
        assert_like(expected.get("body", {}), self._relative(body), self.elapsed)
        for name, value in expected.get("headers", {}).items():
            if isinstance(value, dict):
                value = rounded_up(body[value["rounded_up"]])
            assert answer.headers[name] == value

    def assert_then(self, expected: Vector) -> None:
        """What everybody can see now: the authority's own lists."""
        for what, path in (("locks", "locks"), ("tenures", "locks/tenures")):
            if what in expected:
                self._assert_rows(expected[what], self._listed(path), what)
        if "events" in expected:
            self._assert_rows(expected["events"], self._listed("locks/events"), "events")
        if "kill_switches" in expected:
            switches = {
                row["market"] or "": "engaged" if row["engaged"] else "released"
                for row in self._get("kill-switch")["switches"]
            }
            for market, says in expected["kill_switches"].items():
                assert switches.get(market, "missing") == says, market

    def _assert_rows(self, expected: list[Vector], rows: list[Vector], what: str) -> None:
        wanted = [
            {
                name: {"near": value} if name in TIMES and value is not None else value
                for name, value in row.items()
            }
            for row in expected
        ]
        assert_like(wanted, [self._relative(row) for row in rows], self.elapsed, what)

    def _listed(self, path: str) -> list[Vector]:
        page = self._get(f"{path}?page_size=1000")
        return [dict(row) for row in reversed(page["results"])]

    def _get(self, path: str) -> Any:
        headers = {"Authorization": f"Api-Key {self.keys['rita']}"}
        answer = self._client.get(f"/api/{path}", headers=headers)
        assert answer.status_code == 200, answer.content
        return json.loads(answer.content)

    def _relative(self, row: Any) -> Any:
        if not isinstance(row, dict):
            return row
        return {
            name: self._seconds(value) if name in (*TIMES, "active_since") and value else value
            for name, value in row.items()
        }

    def _seconds(self, text: str) -> float:
        return (datetime.fromisoformat(text) - self._start).total_seconds()

    def _at(self, seconds: float) -> datetime:
        return self._start + timedelta(seconds=seconds)

    def _register(self) -> None:
        """The vectors' registry in the place of the shipped one."""
        for model in (ExecutionInstrument, CanonicalInstrument, ApiKey, KillSwitch):
            model.objects.all().delete()
        for symbol, market in self._setting["registry"].items():
            canonical = CanonicalInstrument.objects.create(
                symbol=symbol,
                name=symbol,
                exclusive_per_account=market["exclusive"] == "per account",
                lease_ttl=market["ttl"],
            )
            for product in market["products"]:
                ExecutionInstrument.objects.create(symbol=product, canonical=canonical)

    def _put(self, given: Vector) -> None:
        """A lock's row, and the tenure that it tells of."""
        row = {name: value for name, value in given.items() if name not in ("nonce", "key", "end")}
        end = given.get("end", "")
        LockRecord.objects.create(
            **{**row, **{name: self._at(row[name]) for name in TIMES if name in row}},
            nonce_hash=hash_nonce(given["nonce"]),
            key_prefix=self._prefixes[given["key"]],
            dirty=end not in ("", "released"),
        )
        token = given["fencing_token"] - (end == "revoked")
        ended_at = None if end == "" else self._at(min(given["expires_at"], 0))
        self._put_tenure({**given, "fencing_token": token}, ended_at=ended_at, end=end)

    def _put_tenure(self, given: Vector, *, ended_at: datetime | None, end: str) -> None:
        lock = LockRecord.objects.get(
            kind=given.get("kind", LockKind.CANONICAL_MARKET),
            name=given["name"],
            scope=given.get("scope", ""),
        )
        Tenure.objects.create(
            lock=lock,
            **{name: given[name] for name in HOLDER if name in given},
            fencing_token=given["fencing_token"],
            nonce_hash=hash_nonce(given["nonce"]),
            key_prefix=self._prefixes[given.get("key", "alpha")],
            takeover=given.get("takeover", False),
            acquired_at=self._at(given.get("acquired_at", -60)),
            ended_at=ended_at,
            end=end,
        )

    def _put_switches(self, given: Vector) -> None:
        markets = {
            lock["name"]
            for lock in given["locks"]
            if lock.get("kind", LockKind.CANONICAL_MARKET) == LockKind.CANONICAL_MARKET
        }
        says = dict.fromkeys(["", *markets], "released") | given.get("kill_switches", {})
        for market, state in says.items():
            if state != "missing":
                KillSwitch.objects.create(market=market, engaged=state == "engaged")
