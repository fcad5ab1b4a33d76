"""A key from its making to its end: its markets, its rotation, its use, and who did what to it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from locks.models import LockEvent, LockRecord
from watchdog_project import api_keys, key_memory
from watchdog_project.api_keys import (
    ApiKeyRefused,
    create_api_key,
    known_principal,
    principal_of,
    revoke_api_key,
    rotate_api_key,
)
from watchdog_project.audit import Actor
from watchdog_project.key_memory import KeyMemory
from watchdog_project.models import ApiKey, AuditEntry, Via

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
DESK = Actor("desk", Via.ADMIN)


class Clock:
    """Seconds that pass when the test says so."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def shift(self, seconds: float) -> datetime:
        self.seconds += seconds
        return NOW + timedelta(seconds=self.seconds)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A process that has seen no key yet."""
    clock = Clock()
    monkeypatch.setattr(api_keys, "MEMORY", KeyMemory(clock))
    monkeypatch.setattr(key_memory, "MEMORY", api_keys.MEMORY)
    return clock


def hours(number: float) -> timedelta:
    return timedelta(hours=number)


def acquire(key: str, execution: str, canonical: str) -> Any:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Api-Key {key}")
    return client.post(
        "/api/locks/acquire",
        {
            "execution_instrument": execution,
            "canonical_instrument": canonical,
            "run_id": "run-1",
            "nonce": "ab" * 16,
            "host": "trader-1",
        },
    )


@pytest.mark.usefixtures("instruments")
def test_a_key_locks_the_markets_it_was_made_for_and_no_other() -> None:
    key = create_api_key("trader-1", "robot", markets=["MES 03-26", "nq"])

    granted = acquire(key, "MES", "ES")
    refused = acquire(key, "MGC", "GC")

    assert granted.status_code == 200
    assert refused.status_code == 403
    assert refused.json()["code"] == "MARKET_NOT_ALLOWED"
    assert "may lock ES, NQ only" in refused.json()["detail"]
    assert list(LockRecord.objects.values_list("name", flat=True)) == ["ES"]
    assert LockEvent.objects.get(code="MARKET_NOT_ALLOWED").name == "GC"


@pytest.mark.usefixtures("instruments")
def test_a_key_for_a_market_that_is_not_registered_is_not_made() -> None:
    with pytest.raises(CommandError, match="XYZ"):
        call_command("api_key", "create", "trader-1", "--market", "MES", "--market", "XYZ")

    assert not ApiKey.objects.exists()
    assert not AuditEntry.objects.exists()


def test_a_key_is_good_until_its_end_and_not_at_it() -> None:
    key = create_api_key("trader-1", "robot", expires_at=NOW + hours(1), now=NOW)

    assert principal_of(key, NOW + hours(1) - timedelta(microseconds=1)) is not None
    assert principal_of(key, NOW + hours(1)) is None


@pytest.mark.parametrize("end", ["0", "2020-01-01T00:00Z", "2100-01-01T00:00", "soon", "9" * 30])
def test_an_end_that_cannot_be_is_refused_in_one_sentence(end: str) -> None:
    with pytest.raises(CommandError, match=r"over already|number of days"):
        call_command("api_key", "create", "trader-1", "--expires", end)

    assert not ApiKey.objects.exists()


def test_a_rotated_key_is_good_with_both_secrets_until_the_grace_is_over() -> None:
    old = create_api_key("trader-1", "robot", now=NOW)

    new = rotate_api_key("trader-1", NOW, grace=hours(2), by=DESK)

    assert new != old
    before, after = NOW + hours(2) - timedelta(seconds=1), NOW + hours(2)
    assert [principal_of(key, before) is not None for key in (old, new)] == [True, True]
    assert [principal_of(key, after) is not None for key in (old, new)] == [False, True]


def test_without_a_grace_the_old_secret_ends_at_once() -> None:
    old = create_api_key("trader-1", "robot")
    assert known_principal(old, NOW) is not None

    rotate_api_key("trader-1", NOW, grace=hours(0), by=DESK)

    assert known_principal(old, NOW) is None


def test_a_second_rotation_ends_the_first_secret() -> None:
    first = create_api_key("trader-1", "robot", now=NOW)
    second = rotate_api_key("trader-1", NOW, grace=hours(9), by=DESK)
    third = rotate_api_key("trader-1", NOW, grace=hours(9), by=DESK)

    assert [principal_of(key, NOW) is not None for key in (first, second, third)] == [
        False,
        True,
        True,
    ]


def test_a_rotation_does_not_outlive_the_keys_own_end() -> None:
    old = create_api_key("trader-1", "robot", expires_at=NOW + hours(1), now=NOW)
    new = rotate_api_key("trader-1", NOW, grace=hours(9), by=DESK)

    assert [principal_of(key, NOW + hours(1)) for key in (old, new)] == [None, None]


@pytest.mark.usefixtures("instruments")
def test_a_lease_is_renewed_with_the_new_secret() -> None:
    old = create_api_key("trader-1", "robot")
    granted = acquire(old, "MES", "ES").json()
    client = APIClient()
    new = rotate_api_key("trader-1", datetime.now(UTC), grace=hours(1), by=DESK)
    client.credentials(HTTP_AUTHORIZATION=f"Api-Key {new}")

    renewed = client.post(
        "/api/locks/renew",
        {
            "name": "ES",
            "run_id": "run-1",
            "nonce": "ab" * 16,
            "fencing_token": granted["fencing_token"],
        },
    )

    assert renewed.status_code == 200, renewed.json()


@pytest.mark.parametrize("grace", [timedelta(seconds=-1), timedelta(days=31)])
def test_a_grace_that_makes_no_sense_is_refused(grace: timedelta) -> None:
    create_api_key("trader-1", "robot")

    with pytest.raises(ApiKeyRefused, match="0 seconds to 30 days"):
        rotate_api_key("trader-1", NOW, grace=grace, by=DESK)


def test_a_key_that_is_over_is_not_rotated_back_into_life() -> None:
    create_api_key("gone", "robot")
    revoke_api_key("gone", NOW)
    create_api_key("ended", "robot", expires_at=NOW + hours(1), now=NOW)

    for name, sentence in (("gone", "was revoked"), ("ended", "ended at"), ("nobody", "no key")):
        with pytest.raises(ApiKeyRefused, match=sentence):
            rotate_api_key(name, NOW + hours(2), grace=hours(1), by=DESK)


def test_the_command_prints_the_new_secret_alone(capsys: pytest.CaptureFixture[str]) -> None:
    old = create_api_key("trader-1", "robot")

    call_command("api_key", "rotate", "trader-1", "--grace-hours", "0", "--reason", "leaked")

    (new,) = capsys.readouterr().out.splitlines()
    assert principal_of(new) is not None
    assert principal_of(old) is None


def test_a_key_that_was_good_a_moment_ago_costs_no_query(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    key = create_api_key("trader-1", "robot")
    assert known_principal(key, NOW) is not None

    with django_assert_num_queries(0):
        assert known_principal(key, NOW) is not None


def test_a_revoked_key_is_forgotten_at_once_here_and_within_seconds_elsewhere(
    clock: Clock,
) -> None:
    key = create_api_key("trader-1", "robot")
    assert known_principal(key, NOW) is not None
    # As by another process.
    ApiKey.objects.update(revoked_at=NOW)
    assert known_principal(key, clock.shift(2.9)) is not None
    assert known_principal(key, clock.shift(0.2)) is None

    other = create_api_key("trader-2", "robot")
    assert known_principal(other, NOW) is not None
    revoke_api_key("trader-2", NOW)
    assert known_principal(other, NOW) is None


def test_a_key_is_not_remembered_past_its_end(clock: Clock) -> None:
    key = create_api_key("trader-1", "robot", expires_at=NOW + timedelta(seconds=1), now=NOW)

    assert known_principal(key, NOW) is not None
    assert known_principal(key, clock.shift(1)) is None


def test_the_use_of_a_key_is_written_down_once_in_ten_minutes(clock: Clock) -> None:
    key = create_api_key("trader-1", "robot")
    seen = []
    for _ in range(25):
        known_principal(key, clock.shift(60))
        seen.append(ApiKey.objects.get().last_used_at)

    assert seen[0] == NOW + timedelta(seconds=60)
    assert len(set(seen)) == 3


def test_a_use_that_cannot_be_written_down_costs_nobody_his_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = create_api_key("trader-1", "robot")

    def busy(*_: object) -> None:
        raise OperationalError("database is locked")

    monkeypatch.setattr(api_keys, "short_transaction", busy)

    assert known_principal(key, NOW) is not None


def test_what_is_done_with_a_key_is_told_by_whom_when_and_why() -> None:
    create_api_key("trader-1", "robot", by=DESK, now=NOW)
    new = rotate_api_key("trader-1", NOW, grace=hours(1), by=DESK, reason="yearly")
    revoke_api_key("trader-1", NOW, by=Actor("night", Via.COMMAND), reason="laptop lost")

    rows = list(AuditEntry.objects.order_by("id").values())
    assert [(row["action"], row["actor"], row["via"], row["reason"]) for row in rows] == [
        ("API_KEY_CREATED", "desk", "admin", ""),
        ("API_KEY_ROTATED", "desk", "admin", "yearly"),
        ("API_KEY_REVOKED", "night", "command", "laptop lost"),
    ]
    assert {(row["subject"], row["at"]) for row in rows} == {("trader-1", rows[0]["at"])}
    assert new.partition(".")[2] not in json.dumps(rows, default=str)


def test_a_refused_act_leaves_no_entry() -> None:
    create_api_key("trader-1", "robot")
    entries = AuditEntry.objects.count()

    for attempt in (
        lambda: create_api_key("trader-1", "robot"),
        lambda: revoke_api_key("nobody", NOW),
        lambda: rotate_api_key("nobody", NOW, grace=hours(1), by=DESK),
    ):
        with pytest.raises(ApiKeyRefused):
            attempt()

    assert AuditEntry.objects.count() == entries
