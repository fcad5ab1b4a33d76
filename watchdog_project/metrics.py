"""What Prometheus is told: how things stand, from the database, and what this process did.

The first part is the same from every web process and costs a fixed number of queries; the second
is each process's own, so scrape every one of them. With `PROMETHEUS_MULTIPROC_DIR` set, workers of
one web process are told together.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from http import HTTPStatus
from typing import Any

from django.db.models import Count
from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.utils import OpenApiResponse, extend_schema
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from rest_framework.request import Request
from rest_framework.views import APIView

from identity.status import WORST_FIRST
from locks.models import AuthorityEpoch, KillSwitch
from watchdog_project.alerts.lifecycle import State
from watchdog_project.alerts.models import Alert, Delivery, DeliveryState
from watchdog_project.models import Role, TaskHeartbeat
from watchdog_project.status import snapshot

REQUESTS = Counter(
    "watchdog_http_requests", "Requests answered by this process.", ["route", "method", "status"]
)
SECONDS = Histogram(
    "watchdog_http_request_seconds",
    "How long this process took to answer.",
    ["route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0),
)
METHODS = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}


def count_request(route: str, method: str, status: int, seconds: float) -> None:
    # A caller chooses the method's name; he must not choose how many series there are.
    REQUESTS.labels(route, method if method in METHODS else "other", str(status)).inc()
    SECONDS.labels(route).observe(seconds)


class MetricsView(APIView):
    """How things stand, for Prometheus."""

    required_role = {"GET": Role.READER}

    @extend_schema(responses={(200, "text/plain"): OpenApiResponse(str)})
    def get(self, request: Request) -> HttpResponse:
        standing = CollectorRegistry()
        standing.register(Standing(timezone.now))
        text = generate_latest(_of_this_process()) + generate_latest(standing)
        return HttpResponse(
            text,
            status=HTTPStatus.OK,
            content_type=CONTENT_TYPE_LATEST,
            headers={"Cache-Control": "no-store"},
        )


def _of_this_process() -> CollectorRegistry:
    if not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        return REGISTRY
    together = CollectorRegistry()
    MultiProcessCollector(together)  # type: ignore[no-untyped-call]
    return together


class Standing(Collector):
    """The status snapshot and the few tables beside it, as gauges."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.clock = clock

    def describe(self) -> Iterable[Metric]:
        # Registering must not read the database.
        return []

    def collect(self) -> Iterator[Metric]:
        now = self.clock()
        told = snapshot(now)
        yield from _overall(told)
        yield from _markets(told["markets"], now)
        yield from _ingest(told["ingest"])
        yield from _switches()
        yield from _tasks(now)
        yield from _authority(now)
        yield from _alerts()


def _overall(told: dict[str, Any]) -> Iterator[Metric]:
    status = GaugeMetricFamily(
        "watchdog_status", "1 for how the watched markets stand, worst of all.", labels=["status"]
    )
    for one in WORST_FIRST:
        status.add_metric([one.value], float(told["status"] == one.value))
    yield status
    yield GaugeMetricFamily(
        "watchdog_unreadable_parts",
        "Parts of the status that could not be read.",
        len(told["unreadable"]),
    )
    sweep = told["sweep"]
    yield GaugeMetricFamily(
        "watchdog_sweep_overdue", "1 while the identity sweep is overdue.", float(sweep["overdue"])
    )


def _markets(rows: list[dict[str, Any]], now: datetime) -> Iterator[Metric]:
    place = ["market", "scope"]
    status = GaugeMetricFamily(
        "watchdog_market_status", "1 for how the market stands.", labels=[*place, "status"]
    )
    held = GaugeMetricFamily(
        "watchdog_lease_held", "1 while somebody executes the market.", labels=place
    )
    left = GaugeMetricFamily(
        "watchdog_lease_expires_in_seconds", "Until the lease ends unless renewed.", labels=place
    )
    evidence = GaugeMetricFamily(
        "watchdog_evidence_age_seconds", "Age of what the market's status rests on.", labels=place
    )
    violations = GaugeMetricFamily(
        "watchdog_open_violations", "Open violations.", labels=[*place, "code"]
    )
    for row in rows:
        where = [row["market"], row["scope"]]
        identity, lock = row["identity"], row["lock"]
        for one in WORST_FIRST:
            status.add_metric([*where, one.value], float(identity["status"] == one.value))
        held.add_metric(where, float(lock is not None and lock["state"] == "HELD"))
        if lock is not None and lock["expires_in"] is not None:
            left.add_metric(where, lock["expires_in"])
        if identity["evidence_at"] is not None:
            evidence.add_metric(where, (now - identity["evidence_at"]).total_seconds())
        for code, count in _counted(one["code"] for one in identity["violations"]):
            violations.add_metric([*where, code], count)
    yield from (status, held, left, evidence, violations)


def _counted(codes: Iterable[str]) -> list[tuple[str, int]]:
    seen: dict[str, int] = {}
    for code in codes:
        seen[code] = seen.get(code, 0) + 1
    return sorted(seen.items())


def _ingest(told: dict[str, Any]) -> Iterator[Metric]:
    if told["accepted"] is None:
        return
    yield CounterMetricFamily(
        "watchdog_ingested_events", "Events taken in, by all processes.", told["accepted"]
    )
    yield CounterMetricFamily(
        "watchdog_rejected_lines", "Lines that could not be read.", told["rejected"]
    )
    if told["last_event_at"] is not None:
        yield GaugeMetricFamily(
            "watchdog_last_event_timestamp_seconds",
            "When the newest event happened.",
            told["last_event_at"].timestamp(),
        )


def _switches() -> Iterator[Metric]:
    switches = GaugeMetricFamily(
        "watchdog_kill_switch_engaged", "1 while orders are stopped; '' is all.", labels=["market"]
    )
    rows = dict(KillSwitch.objects.values_list("market", "engaged"))
    # Missing reads as engaged.
    for market, engaged in sorted({"": True, **rows}.items()):
        switches.add_metric([market], float(engaged))
    yield switches


def _tasks(now: datetime) -> Iterator[Metric]:
    age = GaugeMetricFamily(
        "watchdog_task_age_seconds", "Since the task last finished well.", labels=["task"]
    )
    interval = GaugeMetricFamily(
        "watchdog_task_interval_seconds", "How often the task is to run.", labels=["task"]
    )
    failing = GaugeMetricFamily(
        "watchdog_task_failing", "1 while the task's last run failed.", labels=["task"]
    )
    for heartbeat in TaskHeartbeat.objects.order_by("task"):
        name = [heartbeat.task.rpartition(".")[2]]
        interval.add_metric(name, heartbeat.interval)
        failing.add_metric(name, float(bool(heartbeat.error)))
        if heartbeat.finished_at is not None:
            age.add_metric(name, (now - heartbeat.finished_at).total_seconds())
    yield from (age, interval, failing)


def _authority(now: datetime) -> Iterator[Metric]:
    epoch = AuthorityEpoch.objects.first()
    if epoch is None:
        return
    held = (epoch.grants_after - now).total_seconds() if epoch.number else 0.0
    yield GaugeMetricFamily(
        "watchdog_authority_epoch", "Grows with each failover and restore.", epoch.number
    )
    yield GaugeMetricFamily(
        "watchdog_grants_held_seconds", "How long no lease is granted yet.", max(held, 0.0)
    )


def _alerts() -> Iterator[Metric]:
    firing = GaugeMetricFamily(
        "watchdog_alerts_firing", "Alerts that fire.", labels=["kind", "severity"]
    )
    rows = Alert.objects.filter(resolved_at=None).exclude(state=State.PENDING.value)
    for row in rows.values("kind", "severity").annotate(count=Count("id")).order_by("kind"):
        firing.add_metric([row["kind"], row["severity"]], row["count"])
    yield firing
    messages = GaugeMetricFamily(
        "watchdog_messages", "Messages of alerts that are not delivered.", labels=["state"]
    )
    waiting = dict.fromkeys(UNDELIVERED, 0)
    undelivered = Delivery.objects.filter(state__in=UNDELIVERED).values_list("state")
    waiting.update(undelivered.annotate(Count("id")).order_by("state"))
    for state, count in waiting.items():
        messages.add_metric([state], count)
    yield messages


UNDELIVERED = [DeliveryState.WAITING.value, DeliveryState.DEAD.value]
