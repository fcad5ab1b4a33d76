"""Each answer names its request, and each line of the log the request it was written for."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from django.conf import settings
from rest_framework.test import APIClient

from tests.server import Server

ClientOf = Callable[[str], APIClient]
NONCE = "5e" * 16
ASKED = {
    "execution_instrument": "MES",
    "canonical_instrument": "ES",
    "run_id": "the-run",
    "nonce": NONCE,
    "host": "trader-1",
}


@pytest.mark.django_db
def test_an_answer_and_its_problem_carry_the_id_that_the_caller_gave(client_of: ClientOf) -> None:
    answer = client_of("nobody").get("/api/locks", headers={"X-Request-Id": "trace-0123456789"})

    assert answer.headers["X-Request-Id"] == "trace-0123456789"
    assert answer.json()["request_id"] == "trace-0123456789"


@pytest.mark.django_db
@pytest.mark.parametrize(
    "given", ["", "short", "x" * 65, "new\nline-in-it", "<script>alert</script>"]
)
def test_an_id_that_is_none_is_replaced(client_of: ClientOf, given: str) -> None:
    answer = client_of("nobody").get("/nothing/here", headers={"X-Request-Id": given})

    named = answer.headers["X-Request-Id"]
    assert len(named) == 32
    assert named != given


def test_two_requests_have_two_ids_and_a_lease_request_is_told_with_its_run(server: Server) -> None:
    server.stop()
    server.environment["WATCHDOG_LOG_FORMAT"] = "json"
    server.start()
    assert server.request("POST", "/api/locks/acquire", ASKED)[0] == 200
    status, refusal = server.request("POST", "/api/locks/acquire", {**ASKED, "run_id": "another"})
    assert status == 409
    server.stop()

    lines = [json.loads(line) for line in server.log.read_text().splitlines() if line[:1] == "{"]
    told = [line for line in lines if line.get("route") == "lock-acquire"]
    assert [line["status"] for line in told] == [200, 409]
    assert [line["run_id"] for line in told] == ["the-run", "another"]
    assert told[1]["request_id"] == refusal["request_id"] != told[0]["request_id"]
    assert told[0]["key_prefix"] == server.keys["robot"].partition(".")[0]
    assert told[0]["duration_ms"] > 0
    text = server.log.read_text()
    assert NONCE not in text
    assert server.keys["robot"].partition(".")[2] not in text


def test_a_tracebacks_line_is_json_too() -> None:
    script = (
        "import django, logging; django.setup()\n"
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n"
        "    logging.getLogger('somewhere').exception('It failed: %s', 'twice')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=settings.BASE_DIR,
        env=os.environ
        | {"WATCHDOG_LOG_FORMAT": "json", "DJANGO_SETTINGS_MODULE": "watchdog_project.settings"},
        capture_output=True,
        text=True,
        check=True,
    )
    line = json.loads(done.stderr)
    assert (line["level"], line["logger"], line["message"]) == (
        "ERROR", "somewhere", "It failed: twice",
    )  # fmt: skip
    assert "ZeroDivisionError" in line["exc_info"]


@pytest.mark.django_db
def test_who_asks_again_and_again_and_is_well_is_not_news(
    client_of: ClientOf, caplog: pytest.LogCaptureFixture
) -> None:
    client = client_of("reader")
    with caplog.at_level(logging.INFO, "watchdog_project.request_log"):
        client.get("/api/locks")
        client.post("/api/locks/acquire", ASKED)
    assert len([one for one in caplog.records if one.name.endswith("request_log")]) == 1
