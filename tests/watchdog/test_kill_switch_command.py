"""The kill switch from the command line."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from locks.kill_switch import kill_switch_engaged
from locks.models import KillSwitch, LockEvent

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _switch(instruments: None) -> None:
    # Emptying the tables after a test takes the migration's row along.
    KillSwitch.objects.get_or_create(market="")


def kill_switch(*arguments: str) -> str:
    out = StringIO()
    call_command("kill_switch", *arguments, stdout=out)
    return out.getvalue()


def test_it_is_engaged_and_released_with_a_reason_that_is_kept() -> None:
    said = kill_switch("engage", "--reason", "fat finger")
    assert said.startswith("all markets: ENGAGED by ")
    assert said.endswith(": fat finger\n")
    assert kill_switch_engaged()
    assert "released" in kill_switch("release", "--reason", "mended")
    assert not kill_switch_engaged()
    reasons = LockEvent.objects.order_by("at").values_list("type", "data__reason")
    assert list(reasons) == [
        ("KILL_SWITCH_ACTIVE", "fat finger"),
        ("KILL_SWITCH_RELEASED", "mended"),
    ]


def test_one_market_alone_is_switched() -> None:
    said = kill_switch("engage", "--market", "es", "--reason", "news")
    assert "all markets: released" in said
    assert "ES: ENGAGED" in said
    assert not kill_switch_engaged()


def test_without_a_reason_nothing_is_switched() -> None:
    with pytest.raises(CommandError, match="Say why"):
        kill_switch("engage")
    assert not kill_switch_engaged()


def test_a_market_that_does_not_exist_is_refused() -> None:
    with pytest.raises(CommandError, match="EZ is no canonical instrument"):
        kill_switch("engage", "--market", "EZ", "--reason", "typo")
    assert not KillSwitch.objects.filter(market="EZ").exists()


def test_a_switch_that_is_missing_is_shown_as_engaged() -> None:
    KillSwitch.objects.all().delete()
    assert "all markets: ENGAGED (its row is missing" in kill_switch("status")
