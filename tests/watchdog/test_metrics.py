"""What Prometheus reads, and what it must never do: wait for many queries, or hear secrets."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from prometheus_client.parser import text_string_to_metric_families
from rest_framework.test import APIClient

from tests.watchdog.cast import a_held_lease, a_passing_market
from watchdog_project import metrics

pytestmark = pytest.mark.django_db(transaction=True)
ClientOf = Callable[[str], APIClient]
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scraped(client: APIClient) -> Samples:
    answer = client.get("/metrics")
    assert answer.status_code == 200, answer.content
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.content.decode())
        for sample in family.samples
    }


def test_a_market_that_passes_under_a_lease_is_told_as_such(
    client_of: ClientOf, es_is_executed: None
) -> None:
    told = scraped(client_of("reader"))

    es = {("market", "ES"), ("scope", "")}
    assert told["watchdog_lease_held", frozenset(es)] == 1
    statuses = {
        dict(labels)["status"]: value
        for (name, labels), value in told.items()
        if name == "watchdog_market_status" and ("market", "ES") in labels
    }
    assert sum(statuses.values()) == 1, "it stands in one way"
    assert told["watchdog_kill_switch_engaged", frozenset({("market", "")})] == 0
    assert told["watchdog_authority_epoch", frozenset()] == 0
    assert told["watchdog_ingested_events_total", frozenset()] >= 0
    sweep = frozenset({("task", "sweep_identity")})
    assert told["watchdog_task_age_seconds", sweep] > 0


def test_a_request_is_counted_by_its_route_and_never_by_what_the_caller_made_up(
    client_of: ClientOf,
) -> None:
    client = client_of("reader")
    client.get("/api/locks")
    client.generic("BREW", "/api/locks")
    client.get("/api/nothing/of/that/name/0123")

    told = scraped(client)
    assert told[
        "watchdog_http_requests_total",
        frozenset({("route", "locks"), ("method", "GET"), ("status", "200")}),
    ]
    seen = [dict(labels) for name, labels in told if name == "watchdog_http_requests_total"]
    assert {labels["method"] for labels in seen} <= metrics.METHODS | {"other"}
    assert not any("0123" in labels["route"] for labels in seen)


def test_more_markets_cost_no_more_queries(client_of: ClientOf, es_is_executed: None) -> None:
    client = client_of("reader")
    scraped(client)
    with CaptureQueriesContext(connection) as few:
        scraped(client)
    for market in ("NQ", "CL", "GC"):
        a_passing_market(market)
        a_held_lease(market)
    with CaptureQueriesContext(connection) as many:
        told = scraped(client)

    assert told["watchdog_lease_held", frozenset({("market", "CL"), ("scope", "")})] == 1
    assert len(many) == len(few) <= 20


@pytest.mark.parametrize(("who", "status"), [("nobody", 401), ("customer", 401), ("robot", 200)])
def test_metrics_are_for_readers(client_of: ClientOf, who: str, status: int) -> None:
    assert client_of(who).get("/metrics").status_code == status
