"""Lists as CSV: filtered as they are shown, without secrets, and no cell is ever a formula."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from identity.models import IdentityEvent, Violation
from tests.watchdog import console_rows
from watchdog_project.csv_export import cell

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator() -> Client:
    console_rows.everything()
    client = Client()
    client.force_login(User.objects.create_superuser("operator"))
    return client


def rows(client: Client, address: str) -> list[dict[str, str]]:
    answer: Any = client.get(f"/admin/csv/{address}")
    assert answer.status_code == 200, address
    text = b"".join(answer.streaming_content).decode()
    return list(csv.DictReader(io.StringIO(text)))


def test_a_list_is_exported_as_it_is_filtered_and_leads_there_itself(operator: Client) -> None:
    console_rows.a_violation("NQ", now=console_rows.timezone.now())

    page = operator.get("/admin/identity/violation/?market=NQ").content.decode()

    assert 'href="/admin/csv/identity/violation/?market=NQ"' in page
    found = rows(operator, "identity/violation/?market=NQ")
    assert [(row["market"], row["code"]) for row in found] == [("NQ", "EVENT_IDENTITY_INCOMPLETE")]


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "\r=1", "＝1", "\n=cmd|' /C calc'!A0"]
)
def test_what_a_spreadsheet_would_run_is_made_text(operator: Client, text: str) -> None:
    Violation.objects.update(message=text)

    assert rows(operator, "identity/violation/")[0]["message"] == f"'{text}"


def test_numbers_and_ordinary_words_stay_what_they_are() -> None:
    assert [cell(value) for value in (-5, 2.5, True, None, "ES1", "a-b", "")] == [
        -5, 2.5, True, None, "ES1", "a-b", ""
    ]  # fmt: skip
    assert cell({"a": "=1"}) == '{"a": "=1"}'


def test_no_secret_leaves_with_it(operator: Client) -> None:
    for address in ("locks/lockrecord/", "locks/tenure/", "watchdog/apikey/", "watchdog/channel/"):
        answer: Any = operator.get(f"/admin/csv/{address}")
        if answer.status_code == 200:
            text = b"".join(answer.streaming_content).decode()
            assert "5ec4e7" not in text
            assert not {"nonce_hash", "secret_hash", "sealed_url"} & set(text.split(","))


def test_it_is_refused_to_who_may_not_see_the_list(operator: Client) -> None:
    user = User.objects.create_user("clerk", is_staff=True)
    client = Client()
    client.force_login(user)
    assert client.get("/admin/csv/identity/violation/").status_code == 403

    user.user_permissions.add(Permission.objects.get(codename="view_violation"))
    assert client.get("/admin/csv/identity/violation/").status_code == 200
    assert Client().get("/admin/csv/identity/violation/").status_code == 302


def test_what_is_no_list_of_ours_is_not_found(operator: Client) -> None:
    for address in ("auth/user/", "sessions/session/", "no/such/"):
        assert operator.get(f"/admin/csv/{address}").status_code == 404


def test_a_filter_that_there_is_not_is_refused(operator: Client) -> None:
    assert operator.get("/admin/csv/identity/violation/?opened_at__gte=never").status_code in (
        302,
        400,
    )


def test_many_rows_are_read_a_few_at_a_time(operator: Client) -> None:
    event = IdentityEvent.objects.get()
    for number in range(30):
        event.pk, event.identity_key = None, f"more-{number}"
        event.save()

    assert len(rows(operator, "identity/identityevent/")) == 31
