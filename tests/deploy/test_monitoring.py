"""Dashboard and alert rules name what is measured, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.utils import timezone
from prometheus_client import REGISTRY

from tests.watchdog.cast import a_held_lease, a_passing_market, a_sweep_finished, a_violation
from watchdog_project import metrics

DEPLOY = Path(__file__).resolve().parent.parent.parent / "deploy"
RULES = DEPLOY / "prometheus" / "watchdog.rules.yml"
# Prometheus' own, and what its client adds on Linux.
OF_OTHERS = {"up", "process_resident_memory_bytes"}
NAME = re.compile(r"\b(?:watchdog|process)_[a-z_]+\b|\bup\b")


def expressions() -> dict[str, str]:
    dashboard = json.loads((DEPLOY / "grafana" / "watchdog.json").read_text())
    found = {
        f"panel {panel['title']}, {target['refId']}": target["expr"]
        for panel in dashboard["panels"]
        for target in panel["targets"]
    }
    return found | {f"rule {rule['alert']}": rule["expr"] for rule in rules()}


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return list(group["rules"])


@pytest.fixture
def measured(db: None) -> dict[str, set[str]]:
    """Each sample's name, with the labels it has, of an installation where something goes on."""
    a_sweep_finished()
    a_passing_market("ES")
    a_held_lease("ES")
    a_violation("ES")
    metrics.count_request("lock-renew", "POST", 200, 0.01)
    found: dict[str, set[str]] = {}
    families = [*metrics.Standing(timezone.now).collect(), *REGISTRY.collect()]
    for family in families:
        found.setdefault(family.name, set())
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    # Without anything that fires there is no sample of it.
    found["watchdog_alerts_firing"] |= {"kind", "severity"}
    return found


def test_every_metric_and_label_that_is_named_exists(measured: dict[str, set[str]]) -> None:
    wrong = []
    for where, expression in expressions().items():
        for name in NAME.findall(expression):
            if name not in measured.keys() | OF_OTHERS:
                wrong.append(f"{where}: {name}")
            for selected in re.findall(rf"{name}\{{([^}}]*)\}}", expression):
                labels = set(re.findall(r"(\w+)=", selected)) - {"job"}
                if labels - measured.get(name, set()):
                    wrong.append(f"{where}: {name} has no {labels}")
    assert wrong == []


def test_every_grouping_is_by_labels_that_the_metric_has(measured: dict[str, set[str]]) -> None:
    wrong = []
    for where, expression in expressions().items():
        grouped = re.search(r"by \(([^)]*)\)", expression)
        if grouped:
            labels = {one.strip() for one in grouped[1].split(",")}
            has = set().union(*(measured.get(name, set()) for name in NAME.findall(expression)))
            if labels - has:
                wrong.append(f"{where}: {labels - has}")
    assert wrong == []


@pytest.mark.django_db
def test_what_is_measured_of_the_standing_is_shown_or_watched() -> None:
    shown = set(NAME.findall(" ".join(expressions().values())))
    told = {family.name for family in metrics.Standing(timezone.now).collect()}
    not_shown = {name for name in told if not {name, f"{name}_total"} & shown} - {
        "watchdog_task_interval_seconds",
        "watchdog_last_event_timestamp_seconds",
    }
    assert not_shown == set()


def test_every_rule_says_what_is_wrong_and_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"]["summary"].endswith((".", ").")), rule
        assert rule["annotations"]["action"]


def test_the_scrape_is_told_where_and_with_which_key() -> None:
    told = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    (job,) = told["scrape_configs"]
    assert job["metrics_path"] == "/metrics"
    assert job["authorization"]["type"] == "Api-Key"
    assert told["rule_files"] == [RULES.name]
