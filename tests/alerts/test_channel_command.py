"""`manage.py channel`: added, tried and listed, and no secret printed."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from django.core.management import CommandError, call_command

from tests.alerts.receivers import Receiver
from watchdog_project.alerts.models import Channel
from watchdog_project.models import AuditEntry

pytestmark = pytest.mark.django_db

Run = Callable[..., str]


@pytest.fixture
def run() -> Run:
    def call(*arguments: str) -> str:
        out = io.StringIO()
        call_command("channel", *arguments, stdout=out)
        return out.getvalue()

    return call


def test_a_channel_is_added_tried_and_listed(run: Run, receiver: Receiver) -> None:
    said = run("add", "hook", receiver.url) + run("test", "hook") + run("list")

    assert len(receiver.got) == 1
    assert "took the test message" in said
    assert "last sent" in said
    assert "s3cret" not in said
    assert AuditEntry.objects.get().subject == "hook"


def test_an_address_can_be_read_from_standard_input(
    run: Run, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(receiver.url + "\n"))

    run("add", "hook", "-", "--least-severity", "emergency")

    assert Channel.objects.get().least_severity == "emergency"


def test_a_wrong_address_is_refused_with_the_reason(run: Run) -> None:
    with pytest.raises(CommandError, match="No service is known by 'bogus'"):
        run("add", "hook", "bogus://x")
    assert not AuditEntry.objects.exists()


def test_a_test_that_fails_says_why_and_the_list_remembers(run: Run) -> None:
    run("add", "hook", "json://127.0.0.1:1/s3cret")

    with pytest.raises(CommandError, match=r"(?i)connection"):
        run("test", "hook")

    assert "FAILING" in run("list")


def test_a_channel_that_is_not_there_is_named(run: Run) -> None:
    with pytest.raises(CommandError, match="no channel 'desk'"):
        run("test", "desk")
