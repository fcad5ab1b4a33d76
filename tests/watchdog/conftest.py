"""The cast: who calls the API, and by what means."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Permission, User
from django.utils import timezone
from pytest_django import Settings
from rest_framework.test import APIClient

from identity.registry import seed_registry
from locks.models import KillSwitch
from tests.watchdog.cast import a_held_lease, a_passing_market, a_sweep_finished
from watchdog_project.api_keys import create_api_key, revoke_api_key
from watchdog_project.throttles import BUDGETS

ClientOf = Callable[[str], APIClient]

KEYS = ("reader", "robot", "operator")
SESSIONS = ("staff", "trusted", "superuser", "customer")


@pytest.fixture(autouse=True)
def _kill_switch_is_there(request: pytest.FixtureRequest) -> None:
    # Emptying the tables after a transactional test takes the migration's row along.
    if request.node.get_closest_marker("django_db"):
        request.getfixturevalue("db")
        KillSwitch.objects.get_or_create(market="")


@pytest.fixture(autouse=True)
def _nobody_has_asked_before() -> None:
    BUDGETS.left.clear()


@pytest.fixture
def instruments(db: None) -> None:
    seed_registry()


@pytest.fixture
def client_of(db: None) -> ClientOf:
    """A client for one of the cast: "nobody", a key's role, "revoked", or a session.

    "staff" may log in to the admin, "trusted" also has the permission to operate, "customer" has
    an account and nothing else. None of them raises a server's error here: its answer is looked at.
    """

    def make(who: str) -> APIClient:
        client = APIClient(raise_request_exception=False)
        if who in KEYS:
            client.credentials(HTTP_AUTHORIZATION=f"Api-Key {create_api_key(who, who)}")
        elif who == "revoked":
            key = create_api_key(who, "operator")
            revoke_api_key(who, timezone.now())
            client.credentials(HTTP_AUTHORIZATION=f"Api-Key {key}")
        elif who in SESSIONS:
            client.force_login(user_called(who))
        else:
            assert who == "nobody"
        return client

    return make


def user_called(who: str) -> User:
    if who == "superuser":
        return User.objects.create_superuser(who)
    user = User.objects.create_user(who, is_staff=who != "customer")
    if who == "trusted":
        permission = Permission.objects.get(codename="operate", content_type__app_label="watchdog")
        user.user_permissions.add(permission)
    return user


@pytest.fixture
def local(settings: Settings) -> APIClient:
    """Somebody on this host, without a key, where settings let him look."""
    settings.WATCHDOG_PUBLIC_STATUS = True
    return APIClient(raise_request_exception=False)


@pytest.fixture
def es_is_executed(instruments: None) -> None:
    """One market that passes, under a lease, as of the tests' NOW."""
    a_sweep_finished()
    a_passing_market("ES")
    a_held_lease("ES")
