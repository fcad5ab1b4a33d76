"""Health of the process, readiness for work, and the API's description of itself."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection
from django.utils import timezone
from rest_framework.test import APIClient

from tests.watchdog.conftest import ClientOf
from watchdog_project.heartbeat import SWEEP
from watchdog_project.models import TaskHeartbeat

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("address", ["/healthz", "/healthz/"])
def test_a_process_that_runs_is_healthy(address: str) -> None:
    answer = APIClient().get(address)

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize("address", ["/readyz", "/readyz/"])
def test_a_process_whose_database_answers_is_ready(address: str) -> None:
    finished_at = timezone.now()
    TaskHeartbeat.objects.create(task=SWEEP, interval=60, finished_at=finished_at)

    answer = APIClient().get(address)

    assert answer.status_code == 200
    told = answer.json()
    assert (told["ready"], told["database"], told["sweep"]) == (True, "ok", "ok")
    assert told["last_sweep_at"] is not None


def test_an_overdue_sweep_is_told_and_does_not_take_the_lease_authority_away() -> None:
    TaskHeartbeat.objects.create(
        task=SWEEP, interval=60, finished_at=timezone.now() - timedelta(hours=1)
    )

    answer = APIClient().get("/readyz")

    assert answer.status_code == 200
    assert answer.json()["sweep"] == "overdue"


@pytest.mark.django_db(transaction=True)
def test_without_its_database_a_process_is_healthy_and_not_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise OperationalError("no")

    connection.close()
    with monkeypatch.context() as outage:
        outage.setattr(connection, "get_new_connection", refuse)
        health, ready = APIClient().get("/healthz"), APIClient().get("/readyz")

    assert health.status_code == 200
    assert ready.status_code == 503
    assert ready.json() == {
        "ready": False,
        "database": "unavailable",
        "sweep": "unknown",
        "last_sweep_at": None,
        "overdue_tasks": [],
    }


@pytest.mark.parametrize("address", ["/api/schema", "/api/schema/"])
def test_the_schema_is_told_to_readers(client_of: ClientOf, address: str) -> None:
    answer = client_of("reader").get(address, HTTP_ACCEPT="application/vnd.oai.openapi+json")

    assert answer.status_code == 200
    told = answer.json()
    assert "/api/watchdog/status" in told["paths"]
    assert "/api/locks/acquire" in told["paths"]
    assert set(told["components"]["securitySchemes"]) == {"apiKey", "adminSession"}


def test_the_schema_is_made_without_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("spectacular", "--validate", "--fail-on-warn")

    assert "openapi: 3" in capsys.readouterr().out


def test_the_docs_load_nothing_from_elsewhere(client_of: ClientOf) -> None:
    answer = client_of("staff").get("/api/docs/")

    page = answer.content.decode()
    assert answer.status_code == 200
    assert "swagger-ui" in page
    assert "https://" not in page.replace("https://github.com", "")


def test_who_opens_the_docs_without_a_session_is_sent_to_the_login(client_of: ClientOf) -> None:
    answer = client_of("nobody").get("/api/docs")

    assert answer.status_code == 302
    assert answer["Location"] == "/admin/login/?next=/api/docs"


@pytest.mark.parametrize("address", ["/", "/admin"])
def test_the_front_door_leads_to_the_console(address: str) -> None:
    answer = APIClient().get(address)

    assert answer.status_code == 302
    assert answer["Location"] == "/admin/"
