"""Over HTTP, with two workers of granian on PostgreSQL: ours against a plain Django view."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench import load, stage
from tests.bench.effort import Effort
from tests.bench.rounds import Row, against_limit, compare

CONNECTIONS = 16
PLAIN = "tests.bench.plain:application"
OURS = "watchdog_project.wsgi:application"


def rows(effort: Effort) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="watchdog-bench-") as home, stage.postgres() as url:
        stage.set_up_django(Path(home), url)
        from watchdog_project.api_keys import create_api_key

        key = create_api_key("bench", "robot")
        # Budgets are for a robot gone wild; here the server is what is to be found out.
        environment = os.environ | {
            "WATCHDOG_KEY_REQUESTS_PER_SECOND": "1000000",
            "WATCHDOG_KEY_REPORTS_PER_SECOND": "1000000",
        }
        with stage.web(OURS, environment) as ours, stage.web(PLAIN, environment) as plain:
            return [
                *_renewals(effort, ours, plain, key),
                *_polls(effort, ours, plain, key),
                *_events(effort, ours, key),
            ]


def _renewals(effort: Effort, ours: int, plain: int, key: str) -> list[Row]:
    held = [_acquired(ours, key, number) for number in range(CONNECTIONS)]
    our = [_always(load.post("/api/locks/renew", body, key)) for body in held]
    theirs = [_always(load.post("/renew", body, key)) for body in held]
    latencies: list[float] = []

    def measured(seconds: float) -> float:
        done = load.ask(ours, our, 200, seconds)
        latencies.append(done.percentile(99) / done.percentile(50))
        return done.rate

    name = f"renew over HTTP, {CONNECTIONS} connections"
    peer = {
        "a plain Django view with one statement": (
            lambda seconds: load.ask(plain, theirs, 200, seconds).rate,
            0.9,
        )
    }
    found = compare(name, measured, peer, **effort.slices)
    spread = against_limit(f"{name}: p99 over p50", latencies, 3.0, "x")
    return [*found, spread]


def _polls(effort: Effort, ours: int, plain: int, key: str) -> list[Row]:
    with urllib.request.urlopen(_asking(ours, "/api/watchdog/status", key)) as answer:
        tag = answer.headers["ETag"]
    state = {"tag": tag}

    def poll() -> bytes:
        return load.get(
            "/api/watchdog/status", If_None_Match=state["tag"], Authorization=f"Api-Key {key}"
        )

    def measured(seconds: float) -> float:
        with urllib.request.urlopen(_asking(ours, "/api/watchdog/status", key)) as answer:
            state["tag"] = answer.headers["ETag"]
        return load.ask(ours, [poll] * CONNECTIONS, 304, seconds).rate

    nothing = load.get("/nothing", Authorization=f"Api-Key {key}")
    peer = {
        "a Django view without a database": (
            lambda seconds: load.ask(plain, [_always(nothing)] * CONNECTIONS, 304, seconds).rate,
            0.6,
        )
    }
    return compare("status poll, unchanged", measured, peer, **effort.slices)


def _events(effort: Effort, ours: int, key: str) -> list[Row]:
    def one() -> bytes:
        return load.post("/api/events", json.dumps(_event()).encode(), key)

    def thousand() -> bytes:
        lines = "\n".join(json.dumps(_event()) for _ in range(1000))
        return load.post("/api/events", lines.encode(), key, "application/x-ndjson")

    rates = [
        load.ask(ours, [one] * CONNECTIONS, 200, effort.slices["seconds"]).rate
        for _ in range(effort.slices["rounds"])
    ]
    in_bulk = [load.ask(ours, [thousand], 200, 0.1).rate * 1000 for _ in range(effort.repeats)]
    return [
        # 373/s is what Healthchecks' ping reached on two cores, with persistent connections.
        against_limit(f"POST of one event, {CONNECTIONS} connections", rates, 2.5 * 373, "/s"),
        against_limit("POST of 1,000 events as NDJSON, one connection", in_bulk, 10_000, "/s"),
    ]


def _event() -> dict[str, Any]:
    from django.utils import timezone

    return {
        "event_id": uuid.uuid4().hex,
        "ts_utc": timezone.now().isoformat(),
        "event_type": "STREAM_STATE_CHANGED",
        "run_id": "bench",
        "stream": "ES1",
        "instrument": "ES",
        "execution_instrument": "MES",
        "canonical_instrument": "ES",
    }


def _acquired(port: int, key: str, number: int) -> bytes:
    """A lease of its own for each connection; the body that renews it."""
    from identity.registry import load_registry

    market = sorted(load_registry().canonicals)[number]
    asked = {
        "execution_instrument": market,
        "canonical_instrument": market,
        "run_id": f"bench-{number}",
        "nonce": secrets.token_hex(16),
        "host": "bench",
    }
    request = _asking(port, "/api/locks/acquire", key, asked)
    with urllib.request.urlopen(request, timeout=30) as answer:
        grant = json.load(answer)
    kept = {name: grant[name] for name in ("kind", "name", "scope", "run_id", "fencing_token")}
    return json.dumps({**kept, "nonce": asked["nonce"]}).encode()


def _asking(port: int, path: str, key: str, body: Any = None) -> urllib.request.Request:
    return urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Api-Key {key}", "Content-Type": "application/json"},
    )


def _always(request: bytes) -> Callable[[], bytes]:
    return lambda: request
