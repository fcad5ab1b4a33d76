"""Every privileged act, by whichever door, leaves a row: who, when, what, and why."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.test import Client
from rest_framework.test import APIClient

from identity.models import CanonicalInstrument, Violation, WatchedMarket
from locks.models import KillSwitch, LockEvent, LockRecord
from tests.watchdog import console_rows
from tests.watchdog.test_admin_matrix import ACTS, RANK
from watchdog_project.alerts.models import Alert, Delivery, MaintenanceWindow
from watchdog_project.api_keys import create_api_key
from watchdog_project.models import ApiKey, AuditEntry, SessionDay

pytestmark = pytest.mark.django_db(transaction=True)

WHY = "the desk called"
HERE = getpass.getuser()
Doing = Callable[[], Any]
# (who, when, why)
Row = tuple[str, datetime | None, str]


@dataclass(frozen=True)
class Doors:
    """One caller by each door; each does what he is told by `admin`, `api` or `command`."""

    browser: Client
    program: APIClient

    def admin(self, address: str, **form: Any) -> None:
        answer = self.browser.post(f"/admin/{address}", {"reason": WHY, **form})
        assert answer.status_code in (200, 302), (address, answer.status_code)

    def api(self, address: str, **body: Any) -> None:
        answer = self.program.post(f"/api/{address}", {"reason": WHY, **body})
        assert answer.status_code == 200, answer.json()

    @staticmethod
    def command(*words: str) -> None:
        call_command(*words, "--reason", WHY)


def lock_event(by: str) -> Row:
    event = LockEvent.objects.filter(code="").latest("id")
    return event.data.get(by, ""), event.at, event.data.get("reason", "")


def audit_entry(action: str) -> Row:
    entry = AuditEntry.objects.filter(action=action).latest("id")
    return entry.actor, entry.at, entry.reason


def history() -> Row:
    entry = LogEntry.objects.latest("pk")
    return entry.user.get_username(), entry.action_time, entry.get_change_message()


def noted() -> Row:
    """Of an act that changes no row of evidence: the history alone tells of it."""
    who, when, message = history()
    return who, when, message.rpartition(": ")[2]


def alert() -> Row:
    step = Alert.objects.get().steps.latest("id")
    return step.by, step.at, step.reason


def violation(which: str) -> Row:
    row = Violation.objects.get()
    if which == "ended":
        return row.ended_by, row.ended_at, row.end_reason
    if which == "accepted":
        # When it was accepted stands in the history; the row tells until when.
        return row.accepted_by, history()[1], row.accepted_reason
    return row.acknowledged_by, row.acknowledged_at, row.acknowledged_reason


def watched() -> Row:
    row = WatchedMarket.objects.get()
    return row.forgotten_by, row.forgotten_at, row.forgotten_reason


def pk(model: Any, **which: Any) -> int:
    return int(model.objects.get(**which).pk)


TOKEN = {"name": "ES", "fencing_token": 7}

# The act's name in the admin's routes (or its door and address) -> how it is done, the row it
# leaves, and who is named there.
TABLE: dict[str, tuple[Callable[[Doors], None], Callable[[], Row], str]] = {
    "locks_lockrecord_revoke": (
        lambda d: d.admin(f"locks/lockrecord/{pk(LockRecord)}/revoke/", fencing_token=7),
        lambda: lock_event("revoked_by"),
        "dora",
    ),
    "locks_killswitch_engage": (
        lambda d: d.admin("locks/killswitch/engage/", market="ES"),
        lambda: lock_event("by"),
        "dora",
    ),
    "locks_killswitch_stop": (
        lambda d: d.admin(f"locks/killswitch/{pk(KillSwitch, market='')}/stop/"),
        lambda: lock_event("by"),
        "dora",
    ),
    "locks_killswitch_release": (
        lambda d: (
            d.admin(f"locks/killswitch/{pk(KillSwitch, market='')}/stop/"),
            d.admin(f"locks/killswitch/{pk(KillSwitch, market='')}/release/"),
        ),
        lambda: lock_event("by"),
        "dora",
    ),
    "identity_violation_acknowledge": (
        lambda d: d.admin(f"identity/violation/{pk(Violation)}/acknowledge/"),
        lambda: violation("acknowledged"),
        "dora",
    ),
    "identity_violation_accept": (
        lambda d: d.admin(f"identity/violation/{pk(Violation)}/accept/", until=_ahead()),
        lambda: violation("accepted"),
        "dora",
    ),
    "identity_violation_mend": (
        lambda d: d.admin(f"identity/violation/{pk(Violation)}/mend/"),
        lambda: violation("ended"),
        "dora",
    ),
    "identity_watchedmarket_forget": (
        lambda d: d.admin(f"identity/watchedmarket/{pk(WatchedMarket)}/forget/"),
        watched,
        "dora",
    ),
    "watchdog_alert_acknowledge": (
        lambda d: d.admin(f"watchdog/alert/{pk(Alert)}/acknowledge/"),
        alert,
        "dora",
    ),
    "watchdog_alert_snooze": (
        lambda d: d.admin(f"watchdog/alert/{pk(Alert)}/snooze/", minutes="60"),
        alert,
        "dora",
    ),
    "watchdog_delivery_retry": (
        lambda d: d.admin(f"watchdog/delivery/{pk(Delivery)}/retry/"),
        noted,
        "dora",
    ),
    "watchdog_maintenancewindow_end": (
        lambda d: d.admin(f"watchdog/maintenancewindow/{pk(MaintenanceWindow)}/end/"),
        noted,
        "dora",
    ),
    "watchdog_apikey_rotate": (
        lambda d: d.admin(f"watchdog/apikey/{_old_key()}/rotate/", grace_hours=1),
        lambda: audit_entry("API_KEY_ROTATED"),
        "dora",
    ),
    "watchdog_apikey_revoke": (
        lambda d: d.admin(f"watchdog/apikey/{_old_key()}/revoke/"),
        lambda: audit_entry("API_KEY_REVOKED"),
        "dora",
    ),
    "api locks/revoke": (
        lambda d: d.api("locks/revoke", **TOKEN),
        lambda: lock_event("revoked_by"),
        "program",
    ),
    "api kill-switch": (
        lambda d: d.api("kill-switch", engaged=True),
        lambda: lock_event("by"),
        "program",
    ),
    "api alerts/acknowledge": (
        lambda d: d.api(f"alerts/{pk(Alert)}/acknowledge"),
        alert,
        "program",
    ),
    "api alerts/snooze": (
        lambda d: d.api(
            f"alerts/{pk(Alert)}/snooze",
            until=(datetime.now(UTC) + timedelta(hours=1)).isoformat(),
        ),
        alert,
        "program",
    ),
    "command kill_switch": (
        lambda d: d.command("kill_switch", "engage"),
        lambda: lock_event("by"),
        HERE,
    ),
    "command violation": (
        lambda d: d.command("violation", "mend", str(pk(Violation))),
        lambda: violation("ended"),
        HERE,
    ),
    "command api_key rotate": (
        lambda d: (_old_key(), d.command("api_key", "rotate", "old")),
        lambda: audit_entry("API_KEY_ROTATED"),
        HERE,
    ),
    "command api_key revoke": (
        lambda d: (_old_key(), d.command("api_key", "revoke", "old")),
        lambda: audit_entry("API_KEY_REVOKED"),
        HERE,
    ),
}  # type: ignore[assignment]
# Edits, of which the admin's history says what was changed by whom; their form is their reason.
EDITS: dict[str, Callable[[Doors], None]] = {
    "key made": lambda d: d.admin("watchdog/apikey/add/", name="new", role="operator"),
    "market edited": lambda d: d.admin(
        f"identity/canonicalinstrument/{pk(CanonicalInstrument, symbol='NQ')}/change/",
        name="changed",
        exchange="CME",
        lease_ttl=30,
    ),
    "person made": lambda d: d.admin(
        "auth/user/add/",
        username="new",
        usable_password="true",
        password1="a-long-enough-one",
        password2="a-long-enough-one",
    ),
    "person put into a group": lambda d: d.admin(
        f"auth/user/{pk(User, username='dora')}/change/",
        username="dora",
        is_staff="on",
        is_superuser="on",
        is_active="on",
        groups=[pk(Group, name="desk")],
        date_joined_0="2026-01-01",
        date_joined_1="00:00:00",
    ),
    "hours corrected": lambda d: d.admin(
        f"watchdog/sessionday/{pk(SessionDay)}/change/", corrected_hours="closed"
    ),
}
# Acts of the admin that need no reason: who does them changes his own password, or a person's.
WITHOUT_A_REASON = {
    "auth_user_password_change",
    "watchdog_channel_test",  # changes nothing, and who gets the message sees it
}


def _ahead() -> str:
    return f"{datetime.now(UTC) + timedelta(days=5):%Y-%m-%d}"


def _old_key() -> int:
    create_api_key("old", "robot")
    return pk(ApiKey, name="old")


@pytest.fixture
def doors() -> Doors:
    console_rows.everything()
    Group.objects.create(name="desk")
    browser, program = Client(), APIClient()
    browser.force_login(User.objects.create_superuser("dora"))
    program.credentials(HTTP_AUTHORIZATION=f"Api-Key {create_api_key('program', 'operator')}")
    return Doors(browser, program)


@pytest.mark.parametrize("name", TABLE)
def test_an_act_leaves_a_row_that_says_who_when_and_why(doors: Doors, name: str) -> None:
    do, row, who = TABLE[name]
    started = datetime.now(UTC)

    do(doors)

    named, at, why = row()
    assert named.partition("@")[0] == who
    assert at is not None
    assert timedelta(seconds=-1) < at - started < timedelta(seconds=30)
    assert why == WHY
    if name in ACTS:
        assert history()[0] == "dora"
        assert WHY in history()[2]


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_stands_in_the_history(doors: Doors, name: str) -> None:
    before = LogEntry.objects.count()

    EDITS[name](doors)

    assert LogEntry.objects.count() == before + 1
    assert history()[0] == "dora"
    assert history()[2]


def test_a_key_made_in_the_admin_is_in_the_audit_trail_too(doors: Doors) -> None:
    EDITS["key made"](doors)

    entry = AuditEntry.objects.latest("id")
    assert (entry.action, entry.actor, entry.via) == ("API_KEY_CREATED", "dora", "admin")
    assert (entry.subject, entry.data["role"]) == ("new", "operator")


def test_no_act_of_the_admin_is_left_out_of_the_table() -> None:
    acts = {name for name, least in ACTS.items() if RANK[least] > RANK["viewer"]}

    assert acts - WITHOUT_A_REASON == {name for name in TABLE if "_" in name.partition(" ")[0]}
