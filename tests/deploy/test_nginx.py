"""The proxy's configuration on the real nginx, with TLS, in front of two real web processes."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

import pytest

from tests.certificates import make_certificate
from tests.deploy.cast import DEPLOY
from tests.server import ROOT, Server, Template, free_port

MARKETS = ["ES", "NQ", "CL", "GC", "YM"]
MAIN = """
{user}
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/watchdog.conf;
}}
"""


@dataclass
class Proxied:
    url: str
    certificate: Path
    webs: list[Server]
    error_log: Path

    def get(self, path: str, role: str = "reader") -> tuple[int, Message]:
        request = urllib.request.Request(
            f"{self.url}{path}", headers={"Authorization": f"Api-Key {self.webs[0].keys[role]}"}
        )
        context = ssl.create_default_context(cafile=str(self.certificate))
        try:
            with urllib.request.urlopen(request, timeout=10, context=context) as answer:
                return answer.status, answer.headers
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.headers


def rendered(folder: Path, port: int, webs: list[Server]) -> None:
    """The configuration as it is, on ports and paths of this test's own."""
    text = (DEPLOY / "nginx" / "watchdog.conf").read_text()
    for ours, theirs in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/nginx/watchdog.upstream", f"{folder}/watchdog.upstream"),
        ("/etc/nginx/tls/", f"{folder}/"),
    ):
        assert ours in text
        text = text.replace(ours, theirs)
    (folder / "watchdog.conf").write_text(text)
    upstream = (DEPLOY / "nginx" / "watchdog.upstream").read_text()
    for number, web in enumerate(webs):
        assert f"127.0.0.1:800{number}" in upstream
        upstream = upstream.replace(f"127.0.0.1:800{number}", f"127.0.0.1:{web.port}")
    (folder / "watchdog.upstream").write_text(upstream)
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder, user=user))


@pytest.fixture
def proxied(server_template: Template, tmp_path: Path) -> Iterator[Proxied]:
    nginx = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if nginx is None:
        pytest.skip("there is no nginx on this machine")
    webs = [Server(server_template, tmp_path / f"web{number}") for number in range(2)]
    for web in webs:
        web.environment = webs[0].environment | {"WATCHDOG_TRUSTED_PROXIES": "1"}
    folder = tmp_path / "nginx"
    folder.mkdir()
    certificate, _ = make_certificate(folder)
    port = free_port()
    rendered(folder, port, webs)
    command = [nginx, "-c", str(folder / "nginx.conf"), "-p", str(folder)]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr, checked.stderr
    for web in webs:
        web.start()
    process = subprocess.Popen(command)
    try:
        told = Proxied(f"https://127.0.0.1:{port}", certificate, webs, folder / "error.log")
        wait_until(lambda: reached(told))
        yield told
    finally:
        process.terminate()
        process.wait(20)
        for web in webs:
            web.stop()


def reached(proxied: Proxied) -> bool:
    try:
        return proxied.get("/healthz")[0] == 200
    except urllib.error.URLError:
        return False


def wait_until(true: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_request_is_answered_over_tls_and_named_by_the_proxy(proxied: Proxied) -> None:
    status, headers = proxied.get("/api/watchdog/status")
    assert status == 200
    assert len(headers["X-Request-Id"]) == 32
    assert [proxied.get(path)[0] for path in ("/metrics", "/metrics/")] == [404, 404]


def test_robots_keep_their_leases_when_one_of_two_web_processes_is_killed(
    proxied: Proxied, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    fleet = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.fleet", *MARKETS],
        cwd=ROOT,
        env=os.environ
        | {
            "WATCHDOG_URL": proxied.url,
            "WATCHDOG_API_KEY": proxied.webs[0].keys["robot"],
            "WATCHDOG_PROJECT_ROOT": str(tmp_path),
            "SSL_CERT_FILE": str(proxied.certificate),
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert fleet.stdout is not None
    assert fleet.stdout.readline() == "holding\n"
    first, second = proxied.webs
    first.stop(kill=True)
    failed = sum(proxied.get("/api/locks")[0] != 200 for _ in range(100))
    first.start()
    second.stop(kill=True)
    failed += sum(proxied.get("/api/locks")[0] != 200 for _ in range(100))
    # Everybody has to renew at least once while one is away.
    time.sleep(6)
    out, _ = fleet.communicate(timeout=60)
    told = json.loads(out)
    tell(
        f"Each of two web processes killed behind nginx: {failed} of 200 requests failed, least "
        f"time left until stop {told['least_seconds_left']} s"
    )
    assert told["lost"] == []
    assert told["least_seconds_left"] > 2
    assert failed == 0, proxied.error_log.read_text()
