"""What an operator does in the console: asked first, with a reason, once, and kept in history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib import import_module

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.test import Client

from identity.models import Violation, WatchedMarket
from identity.status import market_identities
from locks.kill_switch import kill_switch_engaged
from locks.models import KillSwitch, LockEvent, LockRecord, LockState
from tests.watchdog import console_rows

REASON = "the desk called"


def client_in(group: str) -> Client:
    if not Group.objects.filter(name=group).exists():
        # Emptying the tables after a transactional test takes the migration's rows along.
        import_module("watchdog_project.migrations.0002_operators_groups").make_groups(apps, None)
    user = User.objects.create_user(f"{group}-one", is_staff=True)
    user.groups.add(Group.objects.get(name=group))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def operator(db: None) -> Client:
    console_rows.everything()
    return client_in("operator")


@pytest.fixture
def viewer(db: None) -> Client:
    console_rows.everything()
    return client_in("viewer")


def last_entry() -> tuple[str, str]:
    entry = LogEntry.objects.latest("pk")
    return entry.user.get_username(), entry.get_change_message()


def acts() -> dict[str, str]:
    """The address of each act -> the page of the row that offers it."""
    pages = {
        "locks/lockrecord": (LockRecord.objects.get().pk, ["revoke"]),
        "locks/killswitch": (KillSwitch.objects.get(market="").pk, ["stop", "release"]),
        "identity/violation": (Violation.objects.get().pk, ["acknowledge", "accept", "mend"]),
        "identity/watchedmarket": (WatchedMarket.objects.get().pk, ["forget"]),
    }
    found = {
        f"/admin/{model}/{pk}/{name}/": f"/admin/{model}/{pk}/change/"
        for model, (pk, names) in pages.items()
        for name in names
    }
    return found | {"/admin/locks/killswitch/engage/": "/admin/locks/killswitch/"}


@pytest.mark.django_db
def test_a_viewer_sees_no_act_and_a_forged_one_is_refused(viewer: Client) -> None:
    form = {"reason": REASON, "fencing_token": 7, "market": "", "until": "2099-01-01"}
    before = [list(model.objects.values()) for model in (LockRecord, KillSwitch, Violation)]

    for act, page in acts().items():
        shown = viewer.get(page, follow=True)
        assert shown.status_code == 200, page
        assert act not in shown.content.decode()
        assert viewer.get(act).status_code == 403
        assert viewer.post(act, form).status_code == 403

    assert [list(model.objects.values()) for model in (LockRecord, KillSwitch, Violation)] == before
    assert WatchedMarket.objects.get().forgotten_at is None
    assert not LogEntry.objects.exists()


@pytest.mark.django_db
def test_each_act_says_what_will_happen_and_demands_a_reason(operator: Client) -> None:
    for act, page in acts().items():
        offered = act in operator.get(page, follow=True).content.decode()
        assert offered == (not act.endswith("/release/")), act
        asked = operator.get(act).content.decode()
        unexplained = operator.post(act, {"reason": "  ", "fencing_token": 7})
        assert '<textarea name="reason"' in asked, act
        assert "Say why" in unexplained.content.decode(), act

    assert LockRecord.objects.get().state == LockState.HELD
    assert not KillSwitch.objects.filter(engaged=True).exists()
    assert Violation.objects.get().ended_at is None
    assert not LogEntry.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_lease_is_revoked_by_the_token_that_was_seen(operator: Client) -> None:
    record = LockRecord.objects.get()
    address = f"/admin/locks/lockrecord/{record.pk}/revoke/"
    assert 'name="fencing_token" value="7"' in operator.get(address).content.decode()

    answer = operator.post(address, {"reason": REASON, "fencing_token": 7})

    assert answer.status_code == 302
    record.refresh_from_db()
    assert (record.state, record.fencing_token) == (LockState.REVOKED, 8)
    event = LockEvent.objects.get(type="CANONICAL_MARKET_LOCK_REVOKED")
    assert (event.data["reason"], event.data["revoked_by"]) == (REASON, "operator-one")
    assert last_entry() == ("operator-one", f"Revoked the lease of ES, token 7: {REASON}")


@pytest.mark.django_db(transaction=True)
def test_a_lease_that_changed_hands_meanwhile_is_not_taken_from_the_new_holder(
    operator: Client,
) -> None:
    record = LockRecord.objects.get()
    LockRecord.objects.update(fencing_token=9, run_id="another")

    answer = operator.post(
        f"/admin/locks/lockrecord/{record.pk}/revoke/", {"reason": REASON, "fencing_token": 7}
    )

    assert answer.status_code == 409
    assert "with token 9 now. Look again." in answer.content.decode()
    assert LockRecord.objects.get().state == LockState.HELD
    assert not LogEntry.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("market", ["", "ES"])
def test_orders_are_stopped_and_allowed_again(operator: Client, market: str) -> None:
    form = {"reason": REASON, "market": market}

    operator.post("/admin/locks/killswitch/engage/", form)

    assert kill_switch_engaged(market)
    assert kill_switch_engaged() == (market == "")
    switch = KillSwitch.objects.get(market=market)
    assert (switch.reason, switch.changed_by) == (REASON, "operator-one")
    assert last_entry()[1] == f"Engaged the kill switch for {market or 'all markets'}: {REASON}"

    operator.post(f"/admin/locks/killswitch/{switch.pk}/release/", {"reason": "over"})

    assert not kill_switch_engaged(market)
    assert last_entry()[1] == f"Released the kill switch for {market or 'all markets'}: over"


@pytest.mark.django_db
def test_a_market_that_the_registry_lacks_cannot_be_switched(operator: Client) -> None:
    answer = operator.post("/admin/locks/killswitch/engage/", {"reason": REASON, "market": "EZ"})

    assert "Select a valid choice" in answer.content.decode()
    assert not KillSwitch.objects.filter(market="EZ").exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("act", "form", "said", "status"),
    [
        ("acknowledge", {}, "Acknowledged", "VIOLATION"),
        ("accept", {"until": "2099-01-01"}, "Accepted", "OK"),
        ("mend", {}, "Mended", "OK"),
    ],
)
def test_a_violation_is_dealt_with(
    operator: Client, act: str, form: dict[str, str], said: str, status: str
) -> None:
    violation = Violation.objects.get()

    operator.post(f"/admin/identity/violation/{violation.pk}/{act}/", form | {"reason": REASON})

    assert last_entry() == ("operator-one", f"{said}: {REASON}")
    assert [one.status for one in market_identities(datetime.now(UTC))] == [status]


@pytest.mark.django_db
def test_an_acceptance_lasts_through_the_day_it_names_and_not_a_past_one(operator: Client) -> None:
    violation = Violation.objects.get()
    address = f"/admin/identity/violation/{violation.pk}/accept/"

    past = operator.post(address, {"until": "2020-01-01", "reason": REASON})
    assert past.status_code == 409
    assert "lies ahead" in past.content.decode()

    operator.post(address, {"until": "2099-01-01", "reason": REASON})
    violation.refresh_from_db()
    assert violation.accepted_until == datetime(2099, 1, 2, 6, tzinfo=UTC)


@pytest.mark.django_db
def test_what_ended_meanwhile_is_said_to_have_ended(operator: Client) -> None:
    Violation.objects.update(ended_at=datetime.now(UTC) - timedelta(minutes=1))
    pk = Violation.objects.get().pk

    answer = operator.post(f"/admin/identity/violation/{pk}/mend/", {"reason": REASON})

    assert answer.status_code == 409
    assert "not open any more" in answer.content.decode()
    page = operator.get(f"/admin/identity/violation/{pk}/change/").content.decode()
    assert f"/admin/identity/violation/{pk}/mend/" not in page


@pytest.mark.django_db
def test_a_market_is_forgotten_until_there_is_news_of_it(operator: Client) -> None:
    pk = WatchedMarket.objects.get().pk

    operator.post(f"/admin/identity/watchedmarket/{pk}/forget/", {"reason": REASON})

    watched = WatchedMarket.objects.get()
    assert (watched.forgotten_by, watched.forgotten_reason) == ("operator-one", REASON)
    assert last_entry()[1] == f"Forgot ES: {REASON}"
    assert market_identities(datetime.now(UTC)) == []


@pytest.mark.django_db
def test_every_page_that_the_console_lists_can_be_seen_by_a_viewer(viewer: Client) -> None:
    ours = {"locks", "identity", "watchdog"}
    for model in admin.site._registry:
        if model._meta.app_label in ours:
            address = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
            assert viewer.get(address).status_code == 200, address


@pytest.mark.django_db
def test_only_an_administrator_edits_the_registry_and_lets_people_in(db: None) -> None:
    console_rows.everything()
    addresses = ("/admin/identity/canonicalinstrument/add/", "/admin/auth/user/add/")
    for group, status in (("viewer", 403), ("operator", 403), ("administrator", 200)):
        client = client_in(group)
        assert [client.get(address).status_code for address in addresses] == [status, status]
