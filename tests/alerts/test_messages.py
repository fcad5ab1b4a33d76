"""What a message says, and that it says it shortly."""

from __future__ import annotations

from dataclasses import replace

from tests.alerts.cast import NOW, later
from watchdog_project.alerts.kinds import WHAT_TO_DO, Kind, Severity
from watchdog_project.alerts.lifecycle import Step
from watchdog_project.alerts.messages import Line, write_message

SITE = "https://watchdog.example.com"
ONE = Line(
    alert_id=17,
    step=Step.FIRED,
    kind=Kind.DUPLICATE_EXECUTOR_BLOCKED,
    severity=Severity.EMERGENCY,
    market="ES",
    scope="acc-1",
    summary="A second executor of ES was refused while the first is alive.",
    who="holds it: MES run a on trader-1; refused: ES run b on trader-2",
    since=NOW,
    at=NOW,
)


def test_a_message_says_market_scope_who_since_when_what_to_do_and_where_to_look() -> None:
    title, body = write_message([ONE], "key-1", SITE)

    assert title == "EMERGENCY DUPLICATE_EXECUTOR_BLOCKED ES@acc-1"
    for said in (
        "A second executor of ES was refused",
        "Market: ES@acc-1",
        "MES run a on trader-1",
        "ES run b on trader-2",
        "Since: 2026-03-02 09:00:00 CST (15:00:00 UTC)",
        "Do: " + WHAT_TO_DO[ONE.kind],
        "Page: https://watchdog.example.com/admin/watchdog/alert/17/change/",
        "Runbook: https://watchdog.example.com/admin/runbook/#duplicate_executor_blocked",
        "Message key-1: if it comes twice, it is one.",
    ):
        assert said in body


def test_a_recovery_says_so_and_since_when_and_asks_for_nothing() -> None:
    over = replace(ONE, step=Step.RESOLVED, at=later(90))

    title, body = write_message([over], "key-1", SITE)

    assert title == "Recovered: DUPLICATE_EXECUTOR_BLOCKED ES@acc-1"
    assert "Over: 2026-03-02 09:01:30 CST" in body
    assert "Do:" not in body


def test_what_still_fires_says_so() -> None:
    title, _ = write_message([replace(ONE, step=Step.STILL_FIRING)], "k", SITE)

    assert title.startswith("Still firing: EMERGENCY")


def test_five_hundred_alerts_are_one_message_that_somebody_can_read() -> None:
    many = [
        replace(ONE, alert_id=n, market=f"M{n}", scope="", severity=Severity.CRITICAL)
        for n in range(500)
    ]

    title, body = write_message(many, "key-1", SITE)

    assert title.startswith("CRITICAL 500 alerts: M0, M1")
    assert "and 488 more" in title
    assert len(title) <= 200
    assert len(body) < 4000
    assert "And 477 more" in body
    assert "/admin/watchdog/alert/?state=open" in body


def test_the_worst_comes_first_and_what_is_over_last() -> None:
    lines = [
        replace(ONE, alert_id=1, market="CL", step=Step.RESOLVED),
        replace(ONE, alert_id=2, market="NQ", severity=Severity.WARNING),
        replace(ONE, alert_id=3, market="ES", scope=""),
    ]

    title, body = write_message(lines, "key-1", "")

    assert title == "EMERGENCY 2 alerts, 1 recovered: ES, NQ@acc-1, CL@acc-1"
    assert body.index("Market: ES") < body.index("Market: NQ") < body.index("Market: CL")


def test_an_installation_that_does_not_know_its_address_gives_the_path() -> None:
    _, body = write_message([ONE], "key-1", "")

    assert "Page: /admin/watchdog/alert/17/change/" in body


def test_a_log_line_of_any_length_makes_no_message_of_any_length() -> None:
    _, body = write_message([replace(ONE, summary="x" * 10_000, who="y" * 10_000)], "k", SITE)

    assert len(body) < 2500
