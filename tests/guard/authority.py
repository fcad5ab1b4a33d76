"""A real lock authority over HTTP, small and with short leases, so that time can run out in tests.

The server's own is tried together with the guard in the acceptance tests.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from canonical_guard.symbols import resolve

KEY = "robot.secret"
# The shortest that hold together with requests of up to two seconds.
TERMS = {"ttl": 5.5, "renew_every": 0.3, "stop_after": 4.3, "kill_after": 4.9}

Answer = tuple[int, Any]


def request(**changes: Any) -> dict[str, Any]:
    """The body of an acquire."""
    return {
        "execution_instrument": "MES 03-26",
        "canonical_instrument": "ES",
        "run_id": "run-1",
        "nonce": "ab" * 16,
        "host": "trader-1",
        "boot_id": "",
        "pid": 1,
        "lock_file_path": "",
        **changes,
    }


def answering(status: int, body: Any, times: int = 1000) -> Callable[[str, Any], Answer | None]:
    """For `interfere`: this answer, so many times."""
    left = [times]

    def interfere(path: str, sent: Any) -> Answer | None:
        left[0] -= 1
        return (status, body) if left[0] >= 0 else None

    return interfere


class LockAuthority:
    """Leases by name, and a log of every request; `interfere` may answer in its place."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.leases: dict[str, dict[str, Any]] = {}
        self.terms = dict(TERMS)
        self.per_account = False
        self.kill_switch = False
        self.interfere: Callable[[str, dict[str, Any]], Answer | None] = lambda path, body: None
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.authority = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def made(self, action: str) -> list[dict[str, Any]]:
        """The bodies of every request for `action` so far."""
        return [body for path, body in self.requests if path.endswith("/" + action)]

    def holder(self, name: str = "ES") -> dict[str, Any] | None:
        with self._lock:
            lease = self.leases.get(name)
            return dict(lease) if lease and lease["held"] else None

    def answer(self, path: str, key: str | None, body: dict[str, Any]) -> Answer:
        self.requests.append((path, body))
        interfered = self.interfere(path, body)
        if interfered is not None:
            return interfered
        if key != f"Api-Key {KEY}":
            return 401, {"code": "AUTHENTICATION_FAILED", "detail": "That key is not known."}
        if path.startswith("/api/identity/resolve"):
            return 200, {"execution_instrument": "M6E", "canonical_instrument": "6E"}
        action = {"acquire": self._acquire, "renew": self._renew, "release": self._release}
        with self._lock:
            return action[path.rpartition("/")[2]](body, time.monotonic())

    def _acquire(self, body: dict[str, Any], now: float) -> Answer:
        canonical = body["canonical_instrument"]
        scope = body.get("account", "") if self.per_account else ""
        name = f"{canonical}@{scope}" if scope else canonical
        if self.kill_switch:
            return 423, {"code": "KILL_SWITCH_ACTIVE", "detail": "No orders today."}
        lease = self.leases.setdefault(name, {"held": False, "fencing_token": 0, "dirty": False})
        pair = (body["run_id"], body["nonce"])
        if lease["held"] and now >= lease["expires"]:
            lease.update(held=False, dirty=True)
        if lease["held"] and lease["pair"] != pair:
            return 409, {
                "code": "CANONICAL_MARKET_ALREADY_ACTIVE",
                "detail": f"{name} is held.",
                "active_run_id": lease["pair"][0],
                "active_host": lease["host"],
                "active_execution_instrument": lease["execution_instrument"],
                "active_since": "2026-01-01T00:00:00Z",
                "fencing_token": lease["fencing_token"],
                "retry_after": lease["expires"] - now,
            }
        if not lease["held"]:
            lease.update(
                held=True,
                pair=pair,
                host=body["host"],
                execution_instrument=body["execution_instrument"],
                takeover=lease["dirty"],
                fencing_token=lease["fencing_token"] + 1,
                renewals=0,
            )
        lease["expires"] = now + self.terms["ttl"]
        execution = body["execution_instrument"]
        return 200, {
            "kind": "canonical_market",
            "name": canonical,
            "scope": scope,
            "canonical_instrument": canonical,
            "execution_instrument": "M6E" if canonical == "6E" else _product(execution),
            "run_id": body["run_id"],
            "fencing_token": lease["fencing_token"],
            "takeover": lease["takeover"],
            **self.terms,
        }

    def _ours(self, body: dict[str, Any]) -> dict[str, Any] | None:
        scope = body.get("scope")
        lease = self.leases.get(f"{body['name']}@{scope}" if scope else body["name"])
        if lease is None or not lease["held"]:
            return None
        pair = (body["run_id"], body["nonce"])
        same = pair == lease["pair"] and body["fencing_token"] == lease["fencing_token"]
        return lease if same else None

    def _renew(self, body: dict[str, Any], now: float) -> Answer:
        lease = self._ours(body)
        if lease is None or now >= lease["expires"]:
            return 409, {"code": "CANONICAL_MARKET_LOCK_LOST", "detail": "Another token is due."}
        lease.update(expires=now + self.terms["ttl"], renewals=lease["renewals"] + 1)
        return 200, {
            "ttl": self.terms["ttl"],
            "fencing_token": lease["fencing_token"],
            "renewals": lease["renewals"],
            "kill_switch_active": self.kill_switch,
        }

    def _release(self, body: dict[str, Any], now: float) -> Answer:
        lease = self._ours(body)
        if lease is not None:
            lease.update(held=False, dirty=body.get("reason") != "clean")
        return 200, {"released": True, "was_holder": lease is not None}


def _product(symbol: str) -> str:
    return resolve(symbol).execution_instrument


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    authority: LockAuthority


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._reply(*self.server.authority.answer(self.path, self._key(), body))

    def do_GET(self) -> None:
        self._reply(*self.server.authority.answer(self.path, self._key(), {}))

    def _key(self) -> str | None:
        return self.headers.get("Authorization")

    def _reply(self, status: int, body: Any) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", body["location"])
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)
        except OSError:
            return  # the guard did not wait for it

    def log_message(self, format: str, *arguments: Any) -> None:
        """Tests read what the guard says, not what the server logs."""


class RawServer:
    """Answers every connection with `write(socket)`: what no well-behaved server would send."""

    def __init__(self, write: Callable[[socket.socket], None]) -> None:
        self._write = write
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.connections = 0
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    @property
    def over(self) -> threading.Event:
        return self._over

    def stop(self) -> None:
        self._over.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listening.close()

    def _serve(self) -> None:
        while not self._over.is_set():
            try:
                accepted, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._talk, args=(accepted,))
            self._threads.append(thread)
            thread.start()

    def _talk(self, accepted: socket.socket) -> None:
        with accepted:
            try:
                self._write(accepted)
            except OSError:
                return
