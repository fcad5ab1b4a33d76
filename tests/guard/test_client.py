"""What counts as an answer of the lock authority, and how long one waits for it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from canonical_guard import lease
from canonical_guard.client import Authority
from canonical_guard.errors import (
    InvalidConfiguration,
    Unanswered,
)
from tests.guard.authority import KEY, LockAuthority, RawServer, answering, request


@pytest.fixture
def raw() -> Iterator[Callable[[Callable[[socket.socket], None]], RawServer]]:
    servers: list[RawServer] = []

    def start(write: Callable[[socket.socket], None]) -> RawServer:
        servers.append(RawServer(write))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def silent(accepted: socket.socket) -> None:
    accepted.recv(65536)
    accepted.settimeout(10)
    accepted.recv(1)


def dribbling(accepted: socket.socket) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b" " * 1000:
        accepted.sendall(bytes([byte]))
        time.sleep(0.1)


def endless(accepted: socket.socket) -> None:
    accepted.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        accepted.sendall(b" " * 65536)


def hanging_up(accepted: socket.socket) -> None:
    accepted.recv(65536)


def no_http(accepted: socket.socket) -> None:
    accepted.recv(65536)
    accepted.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")


@pytest.mark.parametrize("behaviour", [silent, dribbling, endless, hanging_up, no_http])
def test_a_request_ends_within_its_time_whatever_the_other_side_does(
    raw: Callable[..., RawServer], behaviour: Callable[[socket.socket], None]
) -> None:
    server = raw(behaviour)
    started = time.monotonic()
    with pytest.raises(Unanswered):
        Authority(server.url, KEY).post("/api/locks/renew", {}, timeout=0.5)
    assert time.monotonic() - started < 0.9
    assert server.connections == 1


def test_a_request_that_was_given_up_leaves_no_thread_behind(
    raw: Callable[..., RawServer],
) -> None:
    with pytest.raises(Unanswered):
        Authority(raw(dribbling).url, KEY).get("/", timeout=0.2)
    time.sleep(0.3)
    assert "canonical-guard-request" not in {thread.name for thread in threading.enumerate()}


def test_a_slow_name_lookup_counts_and_nothing_is_sent_after_it(
    authority: LockAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookup = socket.getaddrinfo
    looked_up = threading.Event()

    def slow(*arguments: Any, **more: Any) -> Any:
        time.sleep(0.6)
        looked_up.set()
        return lookup(*arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    started = time.monotonic()
    with pytest.raises(Unanswered):
        Authority(authority.url, KEY).post("/api/locks/acquire", {}, timeout=0.2)
    assert time.monotonic() - started < 0.5
    assert looked_up.wait(2)
    time.sleep(0.3)
    assert authority.requests == []


def test_a_redirect_is_not_followed_with_the_key(raw: Callable[..., RawServer]) -> None:
    stolen: list[bytes] = []
    thief = raw(lambda accepted: stolen.append(accepted.recv(65536)))

    def redirect(accepted: socket.socket) -> None:
        accepted.recv(65536)
        head = f"HTTP/1.1 307 Elsewhere\r\nLocation: {thief.url}/\r\nContent-Length: 0\r\n\r\n"
        accepted.sendall(head.encode())

    assert Authority(raw(redirect).url, KEY).post("/x", {}).status == 307
    assert stolen == []


def test_no_proxy_of_the_environment_gets_the_key(
    client: Authority, raw: Callable[..., RawServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = raw(silent)
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    assert lease.acquire(client, request()).grant.fencing_token == 1
    assert proxy.connections == 0


@pytest.mark.parametrize(
    "server",
    [
        "",
        "trader",
        "localhost:8000",
        "ftp://x",
        "http://",
        "http://x:99999",
        "http://u:p@x/",
        "//x",
        "http://x/?a=1",
        "http://x\r\nHost: y",
        "http://bücher",
        "http://[::1",
    ],
)
def test_an_address_that_is_none_is_refused_before_anything_is_sent(server: str) -> None:
    with pytest.raises(InvalidConfiguration, match="http://host:8000"):
        Authority(server, KEY)


@pytest.mark.parametrize("key", ["a\nb", "a\r\nX-Evil: 1", "clé", "a b", "\0"])
def test_a_key_that_could_forge_a_header_is_refused(key: str) -> None:
    with pytest.raises(InvalidConfiguration):
        Authority("http://x", key)


def test_a_path_before_the_api_is_kept(authority: LockAuthority) -> None:
    authority.interfere = answering(200, {"path": "seen"})
    Authority(authority.url + "/watchdog/", KEY).get("/healthz")
    assert authority.requests[-1][0] == "/watchdog/healthz"
