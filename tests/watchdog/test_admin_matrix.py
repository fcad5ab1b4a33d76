"""Every page and act of the admin against everybody who could open it.

The pages are read from the admin's own routes: one that this table does not know fails it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.contrib.sessions.models import Session
from django.test import Client, RequestFactory
from django.urls import URLPattern, URLResolver, get_resolver
from django_celery_beat.models import (
    PeriodicTask,
)

from tests.watchdog import console_rows

pytestmark = pytest.mark.django_db

# Nobody has no session, a customer is no staff, a newcomer is staff and in no group yet.
PEOPLE = ("nobody", "customer", "newcomer", "viewer", "operator", "administrator")
RANK = {who: rank for rank, who in enumerate(PEOPLE)}

# The least that may: of each act, and of the pages that are no model's.
ACTS = {
    "index": "newcomer",
    "app_list": "newcomer",
    "password_change": "newcomer",
    "password_change_done": "newcomer",
    "search": "newcomer",
    "jsi18n": "newcomer",
    # Who is let in at all sees how the markets stand, as over the API.
    "market": "newcomer",
    "runbook": "newcomer",
    "csv": "viewer",
    "identity_watchedmarket_change": "newcomer",  # leads to the market's page
    "auth_user_password_change": "administrator",
    "locks_lockrecord_revoke": "operator",
    "locks_killswitch_engage": "operator",
    "locks_killswitch_stop": "operator",
    "locks_killswitch_release": "operator",
    "identity_violation_acknowledge": "operator",
    "identity_violation_accept": "operator",
    "identity_violation_mend": "operator",
    "identity_watchedmarket_forget": "operator",
    "watchdog_alert_acknowledge": "operator",
    "watchdog_alert_snooze": "operator",
    "watchdog_channel_test": "operator",
    "watchdog_delivery_retry": "operator",
    "watchdog_maintenancewindow_end": "operator",
    "watchdog_apikey_rotate": "administrator",
    "watchdog_apikey_revoke": "administrator",
}
NOT_ASKED = {
    "login",  # for everybody
    "logout",  # would end the session that asks
    "autocomplete",  # asked below
    "view_on_site",  # leads to a row's own page, of which there are none
}
# Who may look at a model's rows, unless viewers may.
LOOK = {"auth_user": "administrator", "auth_group": "administrator"} | dict.fromkeys(
    ("axes_accesslog", "axes_accessattempt"), "administrator"
)
# What can be made, changed or removed at all: by an administrator, unless EDITORS says otherwise.
# The first market and product of the registry are under a lease here.
EDITED = {
    "identity_canonicalinstrument": {"add", "change"},
    "identity_executioninstrument": {"add", "change"},
    "identity_logfolder": {"add", "change", "delete"},
    "watchdog_apikey": {"add"},
    "watchdog_sessionday": {"add", "change"},
    "watchdog_alertrule": {"change"},
    "watchdog_channel": {"add", "change", "delete"},
    "watchdog_maintenancewindow": {"add"},
    "auth_user": {"add", "change", "delete"},
    "auth_group": {"add", "change", "delete"},
    "axes_accessattempt": {"delete"},
    "django_celery_beat_periodictask": {"add", "change", "delete"},
    "django_celery_beat_intervalschedule": {"add", "change", "delete"},
    "django_celery_beat_crontabschedule": {"add", "change", "delete"},
    "django_celery_beat_clockedschedule": {"add", "change", "delete"},
    "django_celery_beat_solarschedule": {"add", "change", "delete"},
}
EDITORS = {"watchdog_sessionday": "operator", "watchdog_maintenancewindow": "operator"}
# Acts on rows chosen in a list, by whoever may change (or remove) them.
LISTED = {
    "django_celery_beat_periodictask": {
        "delete_selected", "enable_tasks", "disable_tasks", "toggle_tasks", "run_tasks",
    },
    "identity_logfolder": {"delete_selected"},
    "auth_user": {"delete_selected"},
    "auth_group": {"delete_selected"},
    "django_celery_beat_intervalschedule": {"delete_selected"},
    "django_celery_beat_crontabschedule": {"delete_selected"},
    "django_celery_beat_clockedschedule": {"delete_selected"},
    "django_celery_beat_solarschedule": {"delete_selected"},
}  # fmt: skip
# What stands in the routes beside the models' own.
OF_A_ROUTE = {"market": "ES", "app_label": "locks", "model_name": "lockrecord"}
FORGED = {
    "reason": "forged",
    "fencing_token": 7,
    "grace_hours": 1,
    "market": "",
    "until": "2099-01-01",
    "post": "yes",
    "name": "forged",
    "role": "operator",
    "symbol": "FORGED",
    "username": "forged",
    "password1": "forged-forged-1",
    "password2": "forged-forged-1",
}


@pytest.fixture
def rows() -> None:
    """One of everything that has a page."""
    console_rows.everything()
    console_rows.of_the_libraries(User.objects.create_superuser("root"))


def person(who: str) -> User:
    user = User.objects.create_user(who, is_staff=who != "customer")
    if who in ("viewer", "operator", "administrator"):
        if not Group.objects.filter(name=who).exists():
            # Emptying the tables after a transactional test takes the migrations' rows along.
            for name, make in (
                ("0002_operators_groups", "make_groups"),
                ("0007_administrators_see_log_ins", "grant"),
            ):
                getattr(import_module(f"watchdog_project.migrations.{name}"), make)(apps, None)
        user.groups.add(Group.objects.get(name=who))
    return user


def session_of(who: str) -> Client:
    client = Client()
    if who != "nobody":
        client.force_login(person(who))
    return client


def routes(urls: list[URLPattern | URLResolver], prefix: str = "") -> Iterator[tuple[str, str]]:
    for pattern in urls:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, route)
        elif pattern.name:
            yield pattern.name, route


def owner_of(name: str) -> str:
    return "auth_user" if name.startswith("auth_user_") else name.rpartition("_")[0]


def pages() -> dict[str, str]:
    """Each page's name -> its address, of the first row where it is a row's."""
    first = {
        f"{model._meta.app_label}_{model._meta.model_name}": model._default_manager.order_by("pk")
        .values_list("pk", flat=True)
        .first()
        for model in admin.site._registry
    }
    beside = [
        (str(pattern.name), str(pattern.pattern).removeprefix("admin/"))
        for pattern in get_resolver().url_patterns
        if isinstance(pattern, URLPattern) and str(pattern.pattern).startswith("admin/")
    ]
    found = {}
    for name, route in [*routes(admin.site.get_urls()), *beside]:
        if name not in NOT_ASKED:
            for part, value in OF_A_ROUTE.items():
                route = re.sub(rf"<\w+:{part}>", value, route)
            row = re.sub(r"<(path|id):?\w*>|<\w+:\w+>|<id>", str(first.get(owner_of(name))), route)
            row = re.sub(r"^\^\(\?P<app_label>.*", "auth/", row)
            found[name] = f"/admin/{row}".replace("//", "/")
    return found


def least_for(name: str) -> str | None:
    """The least that may open the page, None for nobody at all; KeyError for an unknown page."""
    if name in ACTS:
        return ACTS[name]
    owner, _, page = name.rpartition("_")
    if page in ("changelist", "history", "change"):
        return LOOK.get(owner, "viewer")
    if page in ("add", "delete"):
        editor = EDITORS.get(owner, "administrator")
        return editor if page in EDITED.get(owner, ()) else None
    raise KeyError(f"{name} is not in the table: say who may")


def may(who: str, least: str | None) -> bool:
    return least is not None and RANK[who] >= RANK[least]


def everything_kept() -> dict[str, list[Any]]:
    kept = [model for model in apps.get_models() if model is not Session]
    return {model._meta.label: list(model._base_manager.order_by("pk").values()) for model in kept}


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("who", PEOPLE)
def test_each_page_opens_for_who_may_and_for_nobody_else(who: str) -> None:
    client, wrong = session_of(who), {}

    for name, address in pages().items():
        answer = client.get(address)
        if answer.status_code == 302 and "/admin/login/" not in answer["Location"]:
            answer = client.get(answer["Location"])
        if RANK[who] < RANK["newcomer"]:
            right = answer.status_code == 302 and "/admin/login/" in answer["Location"]
        elif name == "app_list":
            # Who may look at nothing of an app is told that there is none.
            right = answer.status_code == (200 if who == "administrator" else 404)
        elif may(who, least_for(name)):
            right = answer.status_code == 200
        else:
            right = answer.status_code == 403
        if not right:
            wrong[name] = answer.status_code

    assert not wrong


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("who", PEOPLE[:-1])
def test_a_forged_act_of_who_may_not_changes_nothing(who: str) -> None:
    client = session_of(who)
    before = everything_kept()

    for name, address in pages().items():
        owner, _, page = name.rpartition("_")
        least = least_for(name)
        if page == "change" and name not in ACTS:
            least = (
                EDITORS.get(owner, "administrator") if "change" in EDITED.get(owner, ()) else None
            )
        if not may(who, least):
            answer = client.post(address, FORGED)
            assert answer.status_code in (302, 403, 405), (name, answer.status_code)

    assert everything_kept() == before


@pytest.mark.parametrize("who", PEOPLE[2:])
def test_what_can_be_done_to_chosen_rows_is_offered_to_who_may_change_them(who: str) -> None:
    request = RequestFactory().get("/admin/")
    request.user = person(who)
    offered = {}
    for model, page in admin.site._registry.items():
        if names := set(page.get_actions(request)):
            offered[f"{model._meta.app_label}_{model._meta.model_name}"] = names

    assert offered == (LISTED if who == "administrator" else {})


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("who", ["viewer", "operator"])
@pytest.mark.parametrize("act", ["disable_tasks", "run_tasks", "delete_selected"])
def test_who_may_only_look_cannot_stop_the_periodic_work(who: str, act: str) -> None:
    task = PeriodicTask.objects.get(name="a task")

    session_of(who).post(
        "/admin/django_celery_beat/periodictask/",
        {"action": act, "_selected_action": [task.pk], "post": "yes"},
    )

    assert PeriodicTask.objects.get(pk=task.pk).enabled


@pytest.mark.usefixtures("rows")
def test_no_row_is_found_by_autocomplete_that_may_not_be_looked_at() -> None:
    asked = "/admin/autocomplete/?app_label=identity&model_name=executioninstrument"
    address = f"{asked}&field_name=canonical&term=E"

    told = {who: session_of(who).get(address).status_code for who in PEOPLE}

    assert told == {
        "nobody": 302, "customer": 302, "newcomer": 403, "viewer": 200, "operator": 200,
        "administrator": 200,
    }  # fmt: skip


def test_a_page_that_the_table_does_not_know_is_an_error() -> None:
    with pytest.raises(KeyError, match="say who may"):
        least_for("locks_lockrecord_steal")
