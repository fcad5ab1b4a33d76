"""Status and badge over HTTP: the contract's shape, cheap polling, and who may look."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import OperationalError, connection
from pytest_django import Settings
from rest_framework import serializers
from rest_framework.test import APIClient

from tests.alerts.cast import breach, facts
from tests.watchdog.cast import NOW, a_passing_market, a_violation
from tests.watchdog.conftest import ClientOf
from tests.watchdog.test_problems import assert_problem
from watchdog_project.alerts.services import look
from watchdog_project.schema import StatusAnswer
from watchdog_project.status import snapshot

pytestmark = pytest.mark.django_db

STATUS, BADGE = "/api/watchdog/status", "/api/watchdog/badge.svg"


def test_the_status_is_the_snapshot_as_json(local: APIClient, es_is_executed: None) -> None:
    with time_machine.travel(NOW, tick=False):
        answer = local.get(STATUS)

    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/json"
    body = answer.json()
    assert body["status"] == "OK"
    assert body["last_identity_invariants_pass"] is True
    assert body["snapshot_utc"] == "2026-03-02T15:00:00Z"
    assert body["timestamp_chicago"] == "2026-03-02T09:00:00-06:00"
    assert body["last_identity_invariants_event_chicago"] == "2026-03-02T08:59:50-06:00"
    assert body["sweep"] == {
        "last_finished_at": "2026-03-02T14:59:50Z",
        "age_seconds": 10.0,
        "overdue": False,
    }
    assert body["markets"][0]["lock"]["expires_in"] == 12.0
    assert body["markets"][0]["session"] == {"open": None, "next_change_at": None}


def test_the_schema_and_the_snapshot_name_the_same_fields(es_is_executed: None) -> None:
    a_violation("ES")
    look(facts(NOW, breaches=[breach("ES")]))

    assert_fields(snapshot(NOW), StatusAnswer())


def assert_fields(told: dict[str, Any], described: serializers.Serializer[Any]) -> None:
    assert set(told) == set(described.fields)
    for name, field in described.fields.items():
        inner = getattr(field, "child", field)
        if isinstance(inner, serializers.Serializer):
            found = told[name][0] if isinstance(told[name], list) else told[name]
            assert_fields(found, inner)


def test_one_market_can_be_asked_for_in_any_notation(
    local: APIClient, es_is_executed: None
) -> None:
    a_passing_market("NQ")

    body = local.get(STATUS, {"market": "MES 03-26"}).json()

    assert [row["market"] for row in body["markets"]] == ["ES"]


def test_a_market_that_is_registered_but_not_watched_is_unknown(
    local: APIClient, es_is_executed: None
) -> None:
    with time_machine.travel(NOW, tick=False):
        body = local.get(STATUS, {"market": "CL"}).json()

    assert body["status"] == "UNKNOWN"
    assert body["markets"] == []


@pytest.mark.parametrize("address", [STATUS, BADGE])
@pytest.mark.parametrize("market", ["EZ", "", "MES\x00", "x" * 500, "ES;DROP"])
def test_a_market_that_nobody_knows_is_not_found(
    local: APIClient, instruments: None, address: str, market: str
) -> None:
    answer = local.get(address, {"market": market})

    assert_problem(answer, 404, "UNKNOWN_INSTRUMENT")


def test_a_market_without_a_name_can_be_asked_for_where_there_is_evidence_of_it(
    local: APIClient, instruments: None
) -> None:
    a_passing_market("")

    body = local.get(STATUS, {"market": ""}).json()

    assert [row["market"] for row in body["markets"]] == [""]


@pytest.mark.parametrize("address", [STATUS, BADGE])
def test_paths_work_with_and_without_a_trailing_slash(
    local: APIClient, db: None, address: str
) -> None:
    assert local.get(address).status_code == 200
    assert local.get(f"{address}/").status_code == 200


def tag_at(client: APIClient, at: datetime) -> str:
    with time_machine.travel(at, tick=False):
        return str(client.get(STATUS)["ETag"])


def test_the_tag_stays_while_nothing_but_time_has_changed(
    local: APIClient, es_is_executed: None
) -> None:
    assert tag_at(local, NOW) == tag_at(local, NOW + timedelta(seconds=59))


def test_the_tag_changes_every_minute_so_that_no_copy_is_older(
    local: APIClient, es_is_executed: None
) -> None:
    assert tag_at(local, NOW) != tag_at(local, NOW + timedelta(seconds=60))


def test_the_tag_changes_with_what_the_snapshot_says(
    local: APIClient, es_is_executed: None
) -> None:
    before = tag_at(local, NOW)
    a_violation("ES")

    assert tag_at(local, NOW) != before


def test_the_tag_changes_when_the_lease_changes_hands(
    local: APIClient, es_is_executed: None
) -> None:
    from locks.models import LockRecord

    before = tag_at(local, NOW)
    LockRecord.objects.update(fencing_token=43, run_id="another")

    assert tag_at(local, NOW) != before


def test_a_renewal_alone_does_not_change_the_tag(local: APIClient, es_is_executed: None) -> None:
    from locks.models import LockRecord

    before = tag_at(local, NOW)
    LockRecord.objects.update(renewed_at=NOW, expires_at=NOW + timedelta(seconds=15))

    assert tag_at(local, NOW) == before


@pytest.mark.parametrize("address", [STATUS, BADGE])
def test_who_has_it_already_is_told_so_in_no_bytes(
    local: APIClient, es_is_executed: None, address: str
) -> None:
    with time_machine.travel(NOW, tick=False):
        first = local.get(address)
        second = local.get(address, HTTP_IF_NONE_MATCH=first["ETag"])

    assert first["Cache-Control"] == "no-cache"
    assert "Authorization" in first["Vary"]
    assert second.status_code == 304
    assert second.content == b""
    assert second["ETag"] == first["ETag"]
    assert second["Cache-Control"] == "no-cache"


def test_a_tag_of_another_state_gets_the_whole_answer(
    local: APIClient, es_is_executed: None
) -> None:
    answer = local.get(STATUS, HTTP_IF_NONE_MATCH='W/"0123"')

    assert answer.status_code == 200
    assert answer.json()["markets"]


@pytest.mark.parametrize("address", [STATUS, BADGE])
@pytest.mark.parametrize("remote", ["127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1"])
def test_this_host_may_look_without_a_key(
    local: APIClient, db: None, address: str, remote: str
) -> None:
    assert local.get(address, REMOTE_ADDR=remote).status_code == 200


@pytest.mark.parametrize("address", [STATUS, BADGE])
@pytest.mark.parametrize(
    "origin",
    [
        {"REMOTE_ADDR": "192.0.2.7"},
        {"REMOTE_ADDR": "::ffff:192.0.2.7"},
        {"REMOTE_ADDR": ""},
        {"REMOTE_ADDR": "localhost"},
        {"HTTP_X_FORWARDED_FOR": "127.0.0.1"},
        {"HTTP_X_FORWARDED_FOR": ""},
        {"HTTP_FORWARDED": "for=127.0.0.1"},
        {"HTTP_X_REAL_IP": "127.0.0.1"},
        {"HTTP_VIA": "1.1 proxy"},
    ],
)
def test_nobody_else_may_look_without_a_key(
    local: APIClient, db: None, address: str, origin: dict[str, str]
) -> None:
    assert_problem(local.get(address, **origin), 401, "NOT_AUTHENTICATED")


@pytest.mark.parametrize("address", [STATUS, BADGE])
def test_this_host_may_not_look_either_where_the_settings_say_so(
    local: APIClient, settings: Settings, address: str
) -> None:
    settings.WATCHDOG_PUBLIC_STATUS = False

    assert_problem(local.get(address), 401, "NOT_AUTHENTICATED")


def test_a_wrong_key_is_refused_though_none_would_do(local: APIClient, db: None) -> None:
    answer = local.get(STATUS, HTTP_AUTHORIZATION="Api-Key 0123abcd.wrong")

    assert_problem(answer, 401, "INVALID_API_KEY")


def test_only_status_and_badge_are_public(local: APIClient, db: None) -> None:
    for address in ("/api/locks", "/api/locks/events", "/api/kill-switch", "/api/schema"):
        assert local.get(address).status_code == 401


@pytest.mark.django_db(transaction=True)
def test_the_status_is_told_without_a_database_and_is_unknown(
    client_of: ClientOf, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WATCHDOG_PUBLIC_STATUS = True
    client = client_of("nobody")

    def refuse(*_: object) -> None:
        raise OperationalError("connection to server at 10.0.0.7 refused")

    connection.close()
    with monkeypatch.context() as outage:
        outage.setattr(connection, "get_new_connection", refuse)
        told, badge, named = (
            client.get(STATUS),
            client.get(BADGE),
            client.get(STATUS, {"market": "ES"}),
        )

    assert told.status_code == named.status_code == badge.status_code == 200
    assert told.json()["status"] == named.json()["status"] == "UNKNOWN"
    assert told.json()["last_identity_invariants_pass"] is None
    assert "identity: OperationalError" in told.json()["unreadable"]
    assert "UNKNOWN" in badge.content.decode()
    assert "10.0.0.7" not in json.dumps(told.json())
