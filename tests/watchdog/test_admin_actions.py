"""What can be changed in the admin, by whom, and what cannot."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.test import Client

from identity.models import CanonicalInstrument, ExecutionInstrument, LogFolder
from locks.models import LockRecord, LockState
from tests.watchdog import console_rows
from watchdog_project.api_keys import create_api_key, principal_of
from watchdog_project.models import ApiKey, Role

pytestmark = pytest.mark.django_db

EVIDENCE = [
    "identity.claim",
    "identity.identityevent",
    "identity.ingesterror",
    "identity.ingestsource",
    "identity.invariantresult",
    "identity.robotrun",
    "identity.stream",
    "identity.violation",
    "identity.watchedmarket",
    "locks.killswitch",
    "locks.lockevent",
    "locks.lockrecord",
    "locks.tenure",
    "watchdog.alert",
    "watchdog.auditentry",
    "watchdog.delivery",
    "watchdog.taskheartbeat",
]


@pytest.fixture
def operator() -> Client:
    user = User.objects.create_superuser("operator")
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def reader() -> Client:
    """Somebody on the staff who may look at everything and change nothing."""
    user = User.objects.create_user("reader", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.parametrize("label", EVIDENCE)
def test_evidence_can_be_looked_at_and_neither_made_nor_changed_nor_removed(
    operator: Client, label: str
) -> None:
    console_rows.everything()
    model = next(m for m in admin.site._registry if m._meta.label_lower == label)
    row = model._default_manager.order_by("pk").first()
    assert row is not None
    base = f"/admin/{label.replace('.', '/')}/"

    assert operator.get(f"{base}{row.pk}/change/", follow=True).status_code == 200
    assert operator.post(f"{base}add/", {}).status_code == 403
    assert operator.post(f"{base}{row.pk}/change/", {"run_id": "forged"}).status_code == 403
    assert operator.post(f"{base}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    assert model._default_manager.filter(pk=row.pk).values().get() == _values(row)


def _values(row: object) -> dict[str, object]:
    fields = row._meta.concrete_fields  # type: ignore[attr-defined]
    return {field.attname: getattr(row, field.attname) for field in fields}


def test_no_page_gives_away_a_nonce_or_the_hash_of_a_key(operator: Client) -> None:
    console_rows.everything()
    ApiKey.objects.create(name="reader", prefix="abcd1234", secret_hash="5ec4e7", role=Role.READER)
    for address in (
        "locks/lockrecord/",
        f"locks/lockrecord/{LockRecord.objects.get().pk}/change/",
        f"locks/tenure/{LockRecord.objects.get().tenures.get().pk}/change/",
        "watchdog/apikey/",
        f"watchdog/apikey/{ApiKey.objects.get().pk}/change/",
    ):
        page = operator.get(f"/admin/{address}").content.decode()
        assert "5ec4e7" not in page, address


def test_what_robots_write_is_shown_as_text_and_never_run(operator: Client) -> None:
    console_rows.everything()

    page = operator.get("/admin/identity/identityevent/1/change/?").content.decode()
    event = operator.get("/admin/identity/identityevent/").content.decode()

    assert "<script>alert(1)" not in page + event


def test_a_new_key_is_shown_once_and_works(operator: Client) -> None:
    page = operator.post("/admin/watchdog/apikey/add/", {"name": "trader-1", "role": "robot"})

    assert page.status_code == 200
    key = re.search(r'id="wd-key"[^>]*>([^<]+)<', page.content.decode())
    assert key is not None
    principal = principal_of(key[1])
    assert principal is not None
    assert (principal.name, principal.role) == ("trader-1", Role.ROBOT)
    made = ApiKey.objects.get(name="trader-1")
    secret = key[1].partition(".")[2]
    for address in ("", f"{made.pk}/change/", f"{made.pk}/history/"):
        later = operator.get(f"/admin/watchdog/apikey/{address}").content.decode()
        assert secret not in later
    assert secret not in str(operator.session.items()) + str(operator.cookies)


def test_a_second_key_of_the_same_name_is_refused(operator: Client) -> None:
    create_api_key("trader-1", Role.ROBOT)

    page = operator.post("/admin/watchdog/apikey/add/", {"name": "trader-1", "role": "robot"})

    assert "already exists" in page.content.decode()
    assert ApiKey.objects.count() == 1


def test_a_key_is_revoked_after_a_word_on_what_that_does(operator: Client) -> None:
    key = create_api_key("trader-1", Role.ROBOT)
    address = f"/admin/watchdog/apikey/{ApiKey.objects.get().pk}/revoke/"

    asked = operator.get(address)
    assert "cannot be undone" in asked.content.decode()
    assert principal_of(key) is not None

    assert operator.post(address, {"reason": " "}).status_code == 200
    assert principal_of(key) is not None
    operator.post(address, {"reason": "laptop lost"})

    assert principal_of(key) is None
    history = operator.get(f"/admin/watchdog/apikey/{ApiKey.objects.get().pk}/history/")
    assert "Revoked: laptop lost" in history.content.decode()


def test_a_key_of_the_admin_has_an_end_and_the_markets_it_may_lock(operator: Client) -> None:
    console_rows.a_registry()
    form = {
        "name": "trader-1",
        "role": "robot",
        "markets": "MES 03-26, nq",
        "expires_at_0": "2100-01-01",
        "expires_at_1": "00:00:00",
    }
    add = "/admin/watchdog/apikey/add/"

    unknown = operator.post(add, form | {"markets": "MES, XYZ"}).content.decode()
    over = operator.post(add, form | {"expires_at_0": "2020-01-01"}).content.decode()
    made = operator.post(add, form)

    assert "XYZ" in unknown
    assert "over already" in over
    assert made.status_code == 200
    assert "no-store" in made["Cache-Control"]
    key = ApiKey.objects.get()
    assert key.markets == ["ES", "NQ"]
    assert key.expires_at is not None
    assert key.expires_at.year in (2099, 2100)


def test_a_key_is_rotated_and_the_old_secret_has_its_hours(operator: Client) -> None:
    old = create_api_key("trader-1", Role.ROBOT)
    address = f"/admin/watchdog/apikey/{ApiKey.objects.get().pk}/rotate/"

    page = operator.post(address, {"reason": "yearly", "grace_hours": "1"})

    shown = re.search(r'id="wd-key"[^>]*>([^<]+)<', page.content.decode())
    assert shown is not None
    for key in (old, shown[1]):
        assert principal_of(key) is not None
    later = datetime.now(UTC) + timedelta(hours=1, seconds=1)
    assert principal_of(old, later) is None
    assert principal_of(shown[1], later) is not None


def test_a_reader_cannot_make_or_revoke_keys(reader: Client) -> None:
    key = create_api_key("trader-1", Role.ROBOT)
    pk = ApiKey.objects.get().pk

    page = reader.get(f"/admin/watchdog/apikey/{pk}/change/").content.decode()
    made = reader.post("/admin/watchdog/apikey/add/", {"name": "mine", "role": "operator"})
    revoked = reader.post(f"/admin/watchdog/apikey/{pk}/revoke/", {"reason": "why not"})
    rotated = reader.post(
        f"/admin/watchdog/apikey/{pk}/rotate/", {"reason": "why not", "grace_hours": "0"}
    )

    assert "Revoke this key" not in page
    assert "Rotate this key" not in page
    assert (made.status_code, revoked.status_code, rotated.status_code) == (403, 403, 403)
    assert principal_of(key) is not None
    assert ApiKey.objects.count() == 1


def remap(client: Client, product: ExecutionInstrument, canonical: str) -> str:
    target = CanonicalInstrument.objects.get(symbol=canonical)
    answer = client.post(
        f"/admin/identity/executioninstrument/{product.pk}/change/",
        {"canonical": target.pk, "name": product.name, "multiplier": "5"},
    )
    return answer.content.decode()


@pytest.mark.parametrize("state", [LockState.HELD, LockState.EXPIRED, LockState.REVOKED])
def test_a_product_under_a_lease_or_its_delay_cannot_be_remapped(
    operator: Client, state: LockState
) -> None:
    console_rows.a_registry()
    lock = console_rows.a_held_lock("ES")
    lock.state = state
    lock.free_at = datetime.now(UTC) + timedelta(seconds=60) if state != LockState.HELD else None
    lock.save()
    product = ExecutionInstrument.objects.get(symbol="MES")

    page = remap(operator, product, "NQ")

    assert "ES is under a lease or its delay" in page
    product.refresh_from_db()
    assert product.canonical.symbol == "ES"


def test_a_product_of_a_free_market_can_be_remapped(operator: Client) -> None:
    console_rows.a_registry()
    lock = console_rows.a_held_lock("ES")
    LockRecord.objects.filter(pk=lock.pk).update(state=LockState.FREE)
    product = ExecutionInstrument.objects.get(symbol="MES")

    remap(operator, product, "NQ")

    product.refresh_from_db()
    assert product.canonical.symbol == "NQ"


def test_a_markets_scope_rule_stays_while_it_is_under_a_lease(operator: Client) -> None:
    console_rows.a_registry()
    console_rows.a_held_lock("ES")
    market = CanonicalInstrument.objects.get(symbol="ES")
    form = {"name": market.name, "exchange": market.exchange, "calendar_key": "", "lease_ttl": 15}
    address = f"/admin/identity/canonicalinstrument/{market.pk}/change/"

    refused = operator.post(address, form | {"exclusive_per_account": "on"})

    assert "under a lease or its delay" in refused.content.decode()
    assert operator.post(address, form | {"name": "S&P 500"}).status_code == 302
    market.refresh_from_db()
    assert (market.exclusive_per_account, market.name) == (False, "S&P 500")


def test_a_product_under_a_lease_cannot_be_removed(operator: Client) -> None:
    console_rows.a_registry()
    console_rows.a_held_lock("ES")
    product = ExecutionInstrument.objects.get(symbol="MES")

    answer = operator.post(
        f"/admin/identity/executioninstrument/{product.pk}/delete/", {"post": "yes"}
    )

    assert answer.status_code == 403
    assert ExecutionInstrument.objects.filter(symbol="MES").exists()


def test_a_log_folder_that_is_not_there_is_refused_with_a_sentence(
    operator: Client, tmp_path: Path
) -> None:
    form = {"scope": "", "host": "", "active": "on"}

    refused = operator.post(
        "/admin/identity/logfolder/add/", form | {"path": str(tmp_path / "gone")}
    )
    assert "There is no folder" in refused.content.decode()
    assert operator.post("/admin/identity/logfolder/add/", form | {"path": str(tmp_path)})
    assert LogFolder.objects.get().path == str(tmp_path)
