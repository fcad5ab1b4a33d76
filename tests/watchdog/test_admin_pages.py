"""Every page of the admin, in the test client: the badge, read-only evidence, kept secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import URLPattern, URLResolver, reverse

from identity.models import Violation
from tests.watchdog import console_rows

pytestmark = pytest.mark.django_db

NOT_PAGES = {
    "jsi18n",  # a script
    "autocomplete",  # JSON
    "search",  # a fragment for the sidebar
    "view_on_site",  # leads out of the admin
}
BADGE = re.compile(r'<div id="watchdog-badge"[^>]*data-look="(\w+)"')


@pytest.fixture
def operator() -> Client:
    user = User.objects.create_superuser("operator")
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def rows() -> None:
    console_rows.everything(datetime.now(UTC))
    console_rows.of_the_libraries(User.objects.get(username="operator"))


def patterns(
    urls: list[URLPattern | URLResolver], prefix: str = ""
) -> Iterator[tuple[str, URLPattern]]:
    for pattern in urls:
        if isinstance(pattern, URLResolver):
            yield from patterns(pattern.url_patterns, prefix + str(pattern.pattern))
        else:
            yield prefix + str(pattern.pattern), pattern


def pages() -> list[str]:
    """The address of every page the admin has, made from its own routes."""
    first_pk = {
        f"{model._meta.app_label}_{model._meta.model_name}": model._default_manager.order_by("pk")
        .values_list("pk", flat=True)
        .first()
        for model in admin.site._registry
    }
    missing = [name for name, pk in first_pk.items() if pk is None]
    assert not missing, f"no row to open a page of: {missing}"
    found = []
    for route, pattern in patterns(admin.site.get_urls()):
        name = pattern.name
        # Routes without a name only lead to a row's own page, or nowhere.
        if not name or name in NOT_PAGES:
            continue
        if route.startswith("^(?P<app_label>"):
            found += [f"{label}/" for label in {m._meta.app_label for m in admin.site._registry}]
            continue
        owner = "auth_user" if name == "auth_user_password_change" else name.rpartition("_")[0]
        route = re.sub(r"<(path|id):?\w*>|<\w+:\w+>|<id>", str(first_pk.get(owner)), route)
        found.append(route.replace("//", "/"))
        if name.endswith(("_changelist", "_add", "_change")):
            found.append(f"{route}?_popup=1")
    return [f"/admin/{route}" for route in found]


def test_the_badge_stands_on_every_page_of_the_admin(operator: Client, rows: None) -> None:
    addresses = pages()
    assert len(addresses) > 100

    without, refused = [], []
    for address in addresses:
        answer = operator.get(address)
        if answer.status_code == 302:
            answer = operator.get(answer["Location"])
        if answer.status_code != 200:
            refused.append((answer.status_code, address.partition("?")[0].split("/")[-2]))
        if answer.status_code == 405:
            continue
        found = BADGE.findall(answer.content.decode())
        if found != ["violation"]:
            without.append((address, found))

    assert without == []
    assert set(refused) == {(403, "add"), (403, "delete"), (405, "logout")}


def test_who_logs_in_sees_the_state_and_nothing_more() -> None:
    console_rows.everything()
    page = Client().get("/admin/login/").content.decode()

    assert BADGE.findall(page) == ["violation"]
    assert console_rows.MESSAGE not in page
    assert 'class="wd-badge-face"' in page
    assert "KILL SWITCH" not in page


def test_the_badge_of_who_is_logged_in_lists_the_violations_and_links_to_them(
    operator: Client, rows: None
) -> None:
    page = operator.get("/admin/locks/lockrecord/").content.decode()

    assert console_rows.MESSAGE in page
    assert f'href="{reverse("admin:identity_violation_changelist")}?state=open"' in page
    assert "<title>✖ VIOLATION ·" in page
    assert "/watchdog/status/violation" in page


def test_a_status_that_cannot_be_read_is_unknown_and_breaks_no_page(
    operator: Client, rows: None
) -> None:
    table = Violation._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO out_of_reach")

    answer = operator.get("/admin/password_change/")

    assert answer.status_code == 200
    assert BADGE.findall(answer.content.decode()) == ["unknown"]


def test_pages_that_refuse_or_find_nothing_carry_the_badge_too(
    operator: Client, rows: None
) -> None:
    nowhere = operator.get("/admin/nowhere/")
    refused = operator.get("/admin/locks/lockrecord/add/")

    assert (nowhere.status_code, refused.status_code) == (404, 403)
    for answer in (nowhere, refused):
        assert BADGE.findall(answer.content.decode()) == ["violation"]


def test_a_stranger_who_gets_lost_is_told_the_state_and_nothing_more() -> None:
    console_rows.everything()

    answer = Client().get("/nowhere")

    assert answer.status_code == 404
    assert BADGE.findall(answer.content.decode()) == ["violation"]
    assert console_rows.MESSAGE not in answer.content.decode()
