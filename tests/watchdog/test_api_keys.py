"""`manage.py api_key`: a key is shown once, and bad input is one clear sentence."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.core.management import CommandError, call_command

from watchdog_project.api_keys import create_api_key, principal_of
from watchdog_project.models import ApiKey, Role

pytestmark = pytest.mark.django_db


def test_a_new_key_stands_alone_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("api_key", "create", "desk 1", "--role", "operator")

    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 1
    principal = principal_of(told.out.strip())
    assert principal is not None
    assert (principal.name, principal.role) == ("desk 1", Role.OPERATOR)
    assert "shown this once" in told.err


def test_a_key_is_a_robots_unless_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("api_key", "create", "trader-1")

    principal = principal_of(capsys.readouterr().out.strip())
    assert principal is not None
    assert principal.role == Role.ROBOT


def test_the_secret_is_nowhere_in_the_database() -> None:
    key = create_api_key("trader-1", "robot")

    secret = key.partition(".")[2]
    assert len(secret) >= 43
    row = ApiKey.objects.values().get()
    assert secret not in str(row)
    assert row["prefix"] == key.partition(".")[0]


def test_a_name_that_is_taken_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    create_api_key("trader-1", "robot")

    with pytest.raises(CommandError, match="There is a key named 'trader-1' already"):
        call_command("api_key", "create", "trader-1")

    assert capsys.readouterr().out == ""
    assert ApiKey.objects.count() == 1


def test_an_unknown_role_is_refused_and_the_roles_are_named() -> None:
    with pytest.raises(CommandError, match="no role 'king'; the roles are reader, robot, operator"):
        call_command("api_key", "create", "x", "--role", "king")

    assert not ApiKey.objects.exists()


@pytest.mark.parametrize(
    "name", ["", "   ", "a\nb", "x" * 129, "nul\x00", "\u202eksed", "a\u2028b", "a\u200bb"]
)
def test_a_name_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(CommandError, match="1 to 128 printable characters"):
        call_command("api_key", "create", name)


def test_a_revoked_key_is_refused_and_its_name_stays_taken() -> None:
    key = create_api_key("trader-1", "robot")

    call_command("api_key", "revoke", "trader-1")

    assert principal_of(key) is None
    with pytest.raises(CommandError, match="revoked now; choose another name"):
        call_command("api_key", "create", "trader-1")


def test_revoking_twice_says_when_it_was_done_and_changes_nothing() -> None:
    create_api_key("trader-1", "robot")
    ApiKey.objects.update(revoked_at=datetime(2026, 3, 2, 15, tzinfo=UTC))

    with pytest.raises(CommandError, match="was revoked already, at 2026-03-02 15:00"):
        call_command("api_key", "revoke", "trader-1")

    assert ApiKey.objects.get().revoked_at == datetime(2026, 3, 2, 15, tzinfo=UTC)


def test_revoking_a_key_that_is_not_there_is_refused() -> None:
    with pytest.raises(CommandError, match="There is no key named 'nobody'"):
        call_command("api_key", "revoke", "nobody")


def test_the_list_names_every_key_and_gives_none_away(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = create_api_key("desk", "operator"), create_api_key("trader-1", "robot")
    call_command("api_key", "revoke", "desk")
    capsys.readouterr()

    call_command("api_key", "list")

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(first.partition(".")[0])
    assert "revoked" in lines[0]
    assert lines[0].endswith("desk")
    assert "in force" in lines[1]
    assert "never used  all markets" in lines[1]
    for key in (first, second):
        assert key.partition(".")[2] not in "\n".join(lines)
