"""Lists can be narrowed by days and values, and opening one does not read the whole table."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from identity.models import IdentityEvent, IngestError, IngestSource
from watchdog_project import narrowing

pytestmark = pytest.mark.django_db

EVENTS = "/admin/identity/identityevent/"
NOON = datetime(2026, 3, 2, 18, 0, 0, tzinfo=UTC)


@pytest.fixture
def operator() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("operator"))
    return client


def an_event(at: datetime, market: str = "ES") -> None:
    IdentityEvent.objects.create(
        identity_key=f"{market} {at}",
        event_type="STREAM_STATE",
        market=market,
        occurred_at=at,
        received_at=at,
    )


def offered(client: Client, address: str, parameter: str) -> list[str]:
    """What the links of a page offer for a parameter, in order, each once."""
    page = client.get(address).content.decode()
    links = [
        parse_qs(urlsplit(unescape(one)).query) for one in re.findall(r'href="(\?[^"]*)"', page)
    ]
    return list(dict.fromkeys(link[parameter][0] for link in links if parameter in link))


def test_a_list_of_one_month_is_drilled_by_its_days(operator: Client) -> None:
    # Eleven in the evening in Chicago: by the clock of the list it is still the second.
    an_event(datetime(2026, 3, 3, 5, 0, tzinfo=UTC))
    an_event(datetime(2026, 3, 4, 18, 0, tzinfo=UTC))

    assert offered(operator, EVENTS, "occurred_at__day") == ["2", "3", "4"]
    second = f"{EVENTS}?occurred_at__year=2026&occurred_at__month=3&occurred_at__day=2"
    page = operator.get(second).content.decode()
    assert "March 2" in page
    assert page.count("STREAM_STATE</a>") == 1


def test_a_list_of_some_years_is_drilled_from_the_year_to_the_day(operator: Client) -> None:
    for at in (datetime(2024, 12, 30, 18, tzinfo=UTC), NOON, NOON + timedelta(days=40)):
        an_event(at)

    assert offered(operator, EVENTS, "occurred_at__year") == ["2024", "2025", "2026"]
    year = f"{EVENTS}?occurred_at__year=2026"
    assert offered(operator, year, "occurred_at__month") == ["3", "4"]
    assert offered(operator, f"{year}&occurred_at__month=4", "occurred_at__day") == ["11"]


def test_days_without_a_row_of_what_is_chosen_are_not_offered_at_its_ends(operator: Client) -> None:
    an_event(NOON, "NQ")
    an_event(NOON + timedelta(days=3))
    an_event(NOON + timedelta(days=5), "NQ")

    assert offered(operator, f"{EVENTS}?market=ES", "occurred_at__day") == ["5"]


def test_an_empty_list_and_one_that_knows_no_days_have_nothing_to_drill(operator: Client) -> None:
    assert offered(operator, EVENTS, "occurred_at__day") == []
    assert operator.get("/admin/identity/watchedmarket/").status_code == 200


def test_a_filter_offers_what_the_newest_rows_hold_and_what_is_chosen(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(narrowing, "LOOKED_AT", 2)
    for number, market in enumerate(("CL", "NQ", "ES")):
        an_event(NOON + timedelta(minutes=number), market)

    assert offered(operator, EVENTS, "market") == ["ES", "NQ"]
    assert offered(operator, f"{EVENTS}?market=CL", "market") == ["CL", "ES", "NQ"]
    assert offered(operator, f"{EVENTS}?q=cl", "market") == ["ES", "NQ"]
    found = operator.get(f"{EVENTS}?q=cl").content.decode()
    assert found.count("STREAM_STATE</a>") == 1


def test_errors_are_narrowed_to_the_sources_of_the_newest_and_to_any_by_its_link(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(narrowing, "LOOKED_AT", 2)
    sources = [IngestSource.objects.create(name=f"{n}.log", fingerprint=str(n)) for n in range(3)]
    for source in sources:
        IngestError.objects.create(at=NOON, code="NOT_JSON", source=source)
    errors = "/admin/identity/ingesterror/"

    assert offered(operator, errors, "source__id__exact") == [
        str(source.pk) for source in (sources[2], sources[1])
    ]
    page = operator.get(f"{errors}?source__id__exact={sources[0].pk}").content.decode()
    assert "0.log" in page
    assert page.count("NOT_JSON</") == 1


@pytest.mark.parametrize(
    "path",
    [
        "identity/identityevent",
        "identity/robotrun",
        "identity/ingesterror",
        "identity/violation",
        "locks/lockevent",
        "locks/tenure",
        "watchdog/alert",
        "watchdog/delivery",
        "axes/accesslog",
    ],
)
def test_opening_a_list_asks_no_row_for_its_day_and_no_table_for_all_its_values(
    operator: Client, path: str
) -> None:
    with CaptureQueriesContext(connection) as queries:
        assert operator.get(f"/admin/{path}/").status_code == 200

    asked = [query["sql"] for query in queries]
    assert not [sql for sql in asked if "trunc" in sql.lower()]
    assert not [sql for sql in asked if "DISTINCT" in sql and "LIMIT" not in sql]
