"""What somebody on the network would try, against the web process as it is run."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator

import pytest

from tests.server import Server, Template

PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def running(
    server_template: Template, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    web = Server(server_template, tmp_path_factory.mktemp("hostile") / "home")
    web.environment["WATCHDOG_PUBLIC_STATUS"] = "0"
    web.start()
    yield web
    web.stop()
    log = web.log.read_text()
    assert "Traceback" not in log, log[log.index("Traceback") :][:3000]
    for key in web.keys.values():
        assert key.partition(".")[2] not in log


def send(server: Server, raw: bytes) -> tuple[int, bytes]:
    """Bytes as they are -> the status that came back, 0 where none did, and all that did."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(raw)
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except (ConnectionResetError, TimeoutError):
            pass
    found = re.match(rb"HTTP/1\.[01] (\d{3})", answer)
    return (int(found[1]) if found else 0), answer


def request(
    server: Server,
    line: str,
    *headers: str,
    role: str | None = "operator",
    body: bytes = b"",
) -> tuple[int, bytes]:
    told = [line, f"Host: 127.0.0.1:{server.port}", "Connection: close", *headers]
    if role is not None:
        told.append(f"Authorization: Api-Key {server.keys[role]}")
    if body or line.startswith("POST"):
        told += [f"Content-Length: {len(body)}", "Content-Type: application/json"]
    head = "\r\n".join(told).encode("latin-1") + b"\r\n\r\n"
    return send(server, head + body)


def is_alive(server: Server) -> bool:
    return request(server, "GET /healthz HTTP/1.1", role=None)[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        ["X-Long: " + "x" * 1_000_000],
        [f"X-{number}: y" for number in range(5_000)],
        ["Authorization: Api-Key " + "0" * 100_000],
        ["Cookie: sessionid=" + "x" * 60_000],
        ["Content-Length: -1"],
        ["Content-Length: 99999999999999999999"],
        ["Transfer-Encoding: chunked", "Content-Length: 5"],
        ["Host: a", "Host: b"],
    ],
    ids=lambda headers: headers[0][:24],
)
def test_headers_that_no_robot_sends_get_nobody_in_and_bring_nobody_down(
    running: Server, headers: list[str]
) -> None:
    status, _ = request(running, "GET /api/locks HTTP/1.1", *headers, role=None)

    assert status in (0, 400, 401, 411, 413, 431)
    assert is_alive(running)


@pytest.mark.parametrize(
    "path",
    [
        "/api/watchdog/../locks", "/api/%2e%2e/api/locks", "/api/..;/locks", "//api/locks",
        "/api//locks", "/API/locks", "/api/locks%00", "/api/locks%2f", "/api/locks;x=1",
        "/api/locks.json", "/api/locks//", "/api\\locks", "/api/locks%20", "/healthz/../api/locks",
        "/static/../api/locks", "/static/%2e%2e/%2e%2e/manage.py", "/static/..%5c..%5cmanage.py",
        "/api/locks/acquire%0d%0aX-Injected:%20yes", "/%c0%ae%c0%ae/api/locks",
    ],
)  # fmt: skip
def test_no_other_spelling_of_an_address_leads_past_the_key(running: Server, path: str) -> None:
    status, answer = request(running, f"GET {path} HTTP/1.1", role=None)

    assert status in (400, 401, 404)
    assert b"\r\nX-Injected" not in answer.partition(b"\r\n\r\n")[0]
    assert b"SECRET_KEY" not in answer
    assert b"results" not in answer


def test_a_method_is_what_the_request_line_says(running: Server) -> None:
    for header in ("X-HTTP-Method-Override: DELETE", "X-Method-Override: POST"):
        status, answer = request(running, "GET /api/kill-switch HTTP/1.1", header)
        assert status == 200
        assert b'"engaged":false' in answer
    body = b'{"_method": "DELETE", "engaged": false, "reason": "a drill"}'
    assert request(running, "POST /api/kill-switch HTTP/1.1", body=body)[0] == 200


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "DEBUG", "X" * 5000])
def test_a_method_that_is_none_is_refused(running: Server, method: str) -> None:
    status, answer = request(running, f"{method} /api/locks HTTP/1.1")

    assert status in (0, 400, 404, 405, 501)
    # TRACE would send the key back.
    assert running.keys["operator"].encode() not in answer
    assert is_alive(running)


def test_an_address_cannot_write_a_line_of_its_own_into_the_log(running: Server) -> None:
    request(running, "GET /api/x%0aERROR%20the%20guard%20was%20switched%20off HTTP/1.1")

    lines = running.log.read_text().splitlines()
    assert not [line for line in lines if line.startswith("ERROR the guard")]


@pytest.mark.parametrize(
    "sent",
    [
        "Basic b3BlcmF0b3I6b3BlcmF0b3I=", "Bearer {key}", "Api-Key", "Api-Key  ", "Api-Key {key}x",
        "Api-Key {key},{key}", "Token {key}", "Api-Key {prefix}.", "Api-Key .{secret}",
        "Api-Key {prefix}.{reader}",
    ],
)  # fmt: skip
def test_what_is_not_a_whole_key_is_none(running: Server, sent: str) -> None:
    key = running.keys["operator"]
    prefix, _, secret = key.partition(".")
    words = {
        "key": key,
        "prefix": prefix,
        "secret": secret,
        "reader": running.keys["reader"].partition(".")[2],
    }
    header = f"Authorization: {sent.format(**words)}"
    status, answer = request(running, "GET /api/locks HTTP/1.1", header, role=None)

    assert status == 401
    assert secret.encode() not in answer


def test_a_request_that_stops_half_way_takes_no_thread_from_the_others(running: Server) -> None:
    head = f"POST /api/locks/renew HTTP/1.1\r\nHost: 127.0.0.1:{running.port}\r\n"
    slow = [socket.create_connection(("127.0.0.1", running.port), timeout=5) for _ in range(40)]
    try:
        for connection in slow:
            connection.sendall(f"{head}Content-Length: 100\r\n\r\n".encode() + b"{")
        assert is_alive(running)
        assert request(running, "GET /api/locks HTTP/1.1")[0] == 200
    finally:
        for connection in slow:
            connection.close()


def test_a_problem_tells_of_nothing_but_the_request(running: Server) -> None:
    status, answer = request(running, "POST /api/locks/acquire HTTP/1.1", body=b"[" * 60_000)

    head, _, body = answer.partition(b"\r\n\r\n")
    assert status == 400
    assert PROBLEM.encode() in head
    assert json.loads(body)["code"] == "MALFORMED_BODY"
    for word in (b"File ", b".py", b"site-packages", b"Django", b"granian"):
        assert word not in body
