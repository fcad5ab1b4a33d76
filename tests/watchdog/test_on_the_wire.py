"""What a robot really gets: the web process as it is run, over a socket."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator, Mapping
from email.message import Message
from pathlib import Path

import pytest

from tests.server import Server, Template

PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def running(
    server_template: Template, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    web = Server(server_template, tmp_path_factory.mktemp("web") / "home")
    web.start()
    yield web
    web.stop()


def ask(
    server: Server,
    method: str,
    address: str,
    headers: Mapping[str, str] | None = None,
    body: bytes | Iterator[bytes] | None = None,
) -> tuple[int, Message, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request(method, address, body=body, headers=dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def by(server: Server, role: str) -> dict[str, str]:
    return {
        "Authorization": f"Api-Key {server.keys[role]}",
        "Content-Type": "application/json",
    }


def test_curl_sees_the_status_in_the_first_minute(running: Server) -> None:
    status, headers, body = ask(running, "GET", "/api/watchdog/status")

    assert status == 200
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body)["status"] == "UNKNOWN"
    assert json.loads(body)["unreadable"] == []


def test_a_poll_that_finds_nothing_new_gets_no_body_and_a_date(running: Server) -> None:
    _, first, _ = ask(running, "GET", "/api/watchdog/status")

    # Over the turn of a minute the tag is a new one; the one after it is not.
    for _ in range(2):
        status, headers, body = ask(
            running, "GET", "/api/watchdog/status", {"If-None-Match": first["ETag"]}
        )
        if status == 304:
            break
        first = headers
    assert status == 304
    assert body == b""
    assert headers["Date"]


def test_what_a_proxy_forwards_is_not_of_this_host(running: Server) -> None:
    status, headers, body = ask(
        running, "GET", "/api/watchdog/status", {"X-Forwarded-For": "192.0.2.7"}
    )

    assert status == 401
    assert headers["Content-Type"] == PROBLEM
    assert headers["WWW-Authenticate"] == "Api-Key"
    assert json.loads(body)["code"] == "NOT_AUTHENTICATED"


@pytest.mark.parametrize(
    ("method", "address", "sent", "status", "code"),
    [
        ("GET", "/api/nothing", b"", 404, "NOT_FOUND"),
        ("DELETE", "/api/locks", b"", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/api/locks/acquire", b"{", 400, "MALFORMED_BODY"),
        ("POST", "/api/locks/acquire", b"{}", 400, "INVALID_BODY"),
        ("POST", "/api/locks/acquire", b" " * 70_000, 413, "BODY_TOO_LARGE"),
        ("GET", "/api/watchdog/status?market=EZ", b"", 404, "UNKNOWN_INSTRUMENT"),
    ],
)
def test_a_refusal_is_a_problem_on_the_wire(
    running: Server, method: str, address: str, sent: bytes, status: int, code: str
) -> None:
    told, headers, body = ask(running, method, address, by(running, "robot"), sent)

    assert told == status
    assert headers["Content-Type"] == PROBLEM
    assert json.loads(body)["code"] == code


@pytest.mark.parametrize("address", ["/api/locks", "/api/watchdog/status"])
def test_a_key_in_letters_of_another_alphabet_is_no_key(running: Server, address: str) -> None:
    key = "Api-Key ключ.секрет".encode().decode("latin-1")
    status, headers, body = ask(running, "GET", address, {"Authorization": key})

    # The web server hands on such a header without its value.
    assert status == 401
    assert json.loads(body)["code"] == "NOT_AUTHENTICATED"
    assert headers["Content-Type"] == PROBLEM


def test_a_forwarding_that_cannot_be_read_is_a_forwarding(running: Server) -> None:
    forwarded = "é, 192.0.2.7".encode().decode("latin-1")
    status, _, _ = ask(running, "GET", "/api/watchdog/status", {"X-Forwarded-For": forwarded})

    assert status == 401


def test_a_body_of_unknown_length_is_refused_or_read_but_never_a_server_error(
    running: Server,
) -> None:
    headers = by(running, "robot") | {"Transfer-Encoding": "chunked"}
    status, _, _ = ask(running, "POST", "/api/locks/acquire", headers, iter([b"{", b"}"]))

    assert status in (400, 411)


@pytest.mark.parametrize("address", ["/api/watchdog/status", "/healthz", "/api/watchdog/badge.svg"])
def test_a_head_request_gets_the_headers_alone(running: Server, address: str) -> None:
    status, headers, body = ask(running, "HEAD", address)

    assert status == 200
    assert headers["Content-Type"]
    assert body == b""


def test_a_key_of_the_command_line_opens_the_api_at_once_and_seconds_after_its_end_no_more(
    running: Server, tmp_path: Path
) -> None:
    made = running.manage("api_key", "create", "desk", "--role", "reader")
    assert made.returncode == 0, made.stderr
    headers = {"Authorization": f"Api-Key {made.stdout.strip()}"}
    assert ask(running, "GET", "/api/locks", headers)[0] == 200

    assert running.manage("api_key", "revoke", "desk").returncode == 0

    deadline = time.monotonic() + 3.5
    while ask(running, "GET", "/api/locks", headers)[0] != 401:
        assert time.monotonic() < deadline, "a revoked key still opens the API"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("create", "robot"), "There is a key named 'robot' already"),
        (("create", "x", "--role", "king"), "There is no role 'king'"),
        (("revoke", "nobody"), "There is no key named 'nobody'"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence_and_exit_1(
    running: Server, arguments: tuple[str, ...], sentence: str
) -> None:
    done = running.manage("api_key", *arguments)

    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert sentence in line
