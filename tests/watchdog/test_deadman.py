"""The dead man's ping: sent with every sweep, never in its way, and no secret in the log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest
from django.core.checks import run_checks
from django.test import override_settings

from locks.jobs import job_lease
from tests.server import free_port
from tests.watchdog.pings import SECRET, Monitor, a_monitor
from watchdog_project import tasks
from watchdog_project.deadman import DeadMan, dead_man, url_objection, with_suffix
from watchdog_project.heartbeat import REAP, SWEEP, beat
from watchdog_project.models import TaskHeartbeat

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    with a_monitor() as monitor:
        yield monitor


@pytest.fixture
def pinging(monitor: Monitor) -> DeadMan:
    return DeadMan(monitor.url, timeout=5)


def nothing(now: datetime) -> None:
    pass


def fails(now: datetime) -> None:
    raise RuntimeError("of the database at 10.0.0.7")


def test_a_sweep_tells_that_it_begins_and_that_it_is_done(monitor: Monitor) -> None:
    with override_settings(WATCHDOG_DEADMAN_URL=monitor.url):
        tasks.sweep_identity.apply().get()

    monitor.wait_for(1)
    assert monitor.pings == ["/start", ""]


def test_other_periodic_work_pings_nobody(monitor: Monitor) -> None:
    with override_settings(WATCHDOG_DEADMAN_URL=monitor.url):
        tasks.reap_stale_locks.apply().get()
        tasks.sweep_identity.apply().get()

    monitor.wait_for(1)
    assert monitor.pings == ["/start", ""]


def test_a_sweep_that_fails_says_so_and_of_what_kind_it_was_and_no_more(
    monitor: Monitor, pinging: DeadMan
) -> None:
    assert beat(SWEEP, fails, watcher=pinging) is False

    monitor.wait_for(1, "/fail")
    assert monitor.pings == ["/start", "/fail"]
    assert monitor.bodies == ["", "RuntimeError"]


def test_a_sweep_that_another_process_is_at_is_told_by_that_one(
    monitor: Monitor, pinging: DeadMan
) -> None:
    with job_lease("sweep_identity"):
        assert beat(SWEEP, nothing, watcher=pinging) is False
    assert beat(REAP, nothing, watcher=pinging) is True

    monitor.wait_for(1)
    assert monitor.pings == ["/start", ""]


def test_without_an_address_nobody_is_pinged_and_nothing_is_started() -> None:
    quiet = DeadMan("", timeout=3)

    assert beat(SWEEP, nothing, watcher=quiet) is True
    assert quiet._sender is None


def test_a_monitor_that_hangs_keeps_no_sweep_waiting(
    monitor: Monitor, pinging: DeadMan, caplog: pytest.LogCaptureFixture
) -> None:
    monitor.gate.clear()
    beat(SWEEP, nothing, watcher=pinging)
    monitor.wait_for(1, "/start")

    began = time.monotonic()
    for _ in range(4):
        assert beat(SWEEP, nothing, watcher=pinging) is True

    assert time.monotonic() - began < 5, "one request alone may take that long"
    assert monitor.pings == ["/start"]
    assert "is left out: the ones before it hang" in caplog.text
    monitor.gate.set()
    monitor.wait_for(1)


@pytest.mark.parametrize("status", [404, 500])
def test_a_monitor_that_answers_an_error_is_told_of_once_and_pinged_again(
    monitor: Monitor, pinging: DeadMan, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    caplog.set_level("INFO", "watchdog_project.deadman")
    monitor.status = status
    for count in (1, 2):
        beat(SWEEP, nothing, watcher=pinging)
        monitor.wait_for(count)
    settled(lambda: pinging.problem)
    monitor.status = 200
    beat(SWEEP, nothing, watcher=pinging)
    monitor.wait_for(3)
    settled(lambda: not pinging.problem)

    said = [record.message for record in caplog.records if "ping" in record.message]
    assert said == [
        f"The ping to 127.0.0.1 failed: it answered {status}. It is sent again.",
        "The ping to 127.0.0.1 arrives again.",
    ]


def test_a_monitor_that_is_not_there_fails_no_sweep_and_its_secret_is_not_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    alone = DeadMan(f"http://127.0.0.1:{free_port()}/ping/{SECRET}", timeout=1)

    assert beat(SWEEP, nothing, watcher=alone) is True
    settled(lambda: alone.problem)

    assert TaskHeartbeat.objects.get(task=SWEEP).finished_at is not None
    assert "refused" in alone.problem
    assert SECRET not in caplog.text
    assert SECRET not in repr(alone.problem)


def settled(happened: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("url", "suffix", "address"),
    [
        ("https://hc.example/u", "", "https://hc.example/u"),
        ("https://hc.example/u", "/fail", "https://hc.example/u/fail"),
        ("https://hc.example/u/", "/start", "https://hc.example/u/start"),
        ("https://m.example/push?key=1&m=ok", "/fail", "https://m.example/push/fail?key=1&m=ok"),
        ("https://m.example/push?key=1", "", "https://m.example/push?key=1"),
    ],
)
def test_the_addresses_are_those_of_healthchecks(url: str, suffix: str, address: str) -> None:
    assert with_suffix(url, suffix) == address


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("hc.example/u", "http://"),
        ("ftp://hc.example/u", "http://"),
        ("file:///etc/passwd", "http://"),
        ("https:///u", "names no host"),
        ("https://hc.example:0/u", "names no host"),
        ("https://hc.example:99999/u", "no address"),
        ("https://[hc.example/u", "no address"),
        ("https://hc.example/u#top", "space or a #"),
        ("https://hc.example/u u", "space or a #"),
    ],
)
def test_an_address_that_cannot_be_pinged_is_refused_at_start(url: str, reason: str) -> None:
    assert reason in url_objection(url)

    with override_settings(WATCHDOG_DEADMAN_URL=url):
        (found,) = run_checks()
    assert found.id == "watchdog.E008"
    assert reason in str(found.msg)
    assert "hc.example/u" not in str(found.msg)


@pytest.mark.parametrize("url", ["", "https://hc.example/u", "http://127.0.0.1:8000/p?k=1"])
def test_an_address_that_can_be_pinged_or_none_is_fine(url: str) -> None:
    with override_settings(WATCHDOG_DEADMAN_URL=url):
        assert not run_checks()


@pytest.mark.parametrize("seconds", [0, -1, 11])
def test_a_ping_that_may_take_longer_than_anybody_waits_is_refused(seconds: float) -> None:
    with override_settings(WATCHDOG_DEADMAN_TIMEOUT=seconds):
        assert {found.id for found in run_checks()} == {"watchdog.E009"}


def test_a_process_has_one_sender_for_one_address() -> None:
    with override_settings(WATCHDOG_DEADMAN_URL="http://127.0.0.1:9/a"):
        assert dead_man() is dead_man()
