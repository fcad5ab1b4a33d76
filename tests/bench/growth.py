"""How cost grows: the status, a renewal and the dashboard with 10 to 10,000 markets."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from tests.bench import stage
from tests.bench.effort import QUICK, Effort
from tests.bench.rounds import Row, against_limit
from tests.server import ROOT

PICTURE = ROOT / "docs" / "images" / "growth.svg"
WIDTH, HEIGHT, MARGIN = 640, 320, 56
COLOURS = ("#2563eb", "#c2410c", "#15803d")


def rows(effort: Effort) -> list[Row]:
    sizes = (10, 100, 1_000) if effort == QUICK else (10, 100, 1_000, 10_000)
    with tempfile.TemporaryDirectory(prefix="watchdog-bench-") as home, stage.postgres() as url:
        stage.set_up_django(Path(home), url)
        found: dict[str, list[tuple[int, float]]] = {}
        queries: list[int] = []
        there = 0
        for size in sizes:
            _add_markets(there, size)
            there = size
            for name, call in _calls().items():
                found.setdefault(name, []).append((size, _median_ms(call, effort.repeats)))
            queries.append(_count_queries())
        if effort != QUICK:
            PICTURE.write_text(_picture(found))
    per_size = [
        f"{size:,} markets: "
        + ", ".join(f"{name} {dict(f)[size]:.1f} ms" for name, f in found.items())
        for size in sizes
    ]
    status = dict(found["status"])
    return [
        against_limit(
            "status of 1,000 markets, in process", [status[1000]], 50, "ms",
            *per_size, f"queries: {', '.join(map(str, queries))}",
        )
    ]  # fmt: skip


def _calls() -> dict[str, Callable[[], object]]:
    from django.utils import timezone

    from locks.leases import Holder, LockId
    from locks.services import renew_lease
    from watchdog_project.status import snapshot

    holder = Holder(LockId("canonical_market", "M00001"), "run-1", "0" * 32, "0badcafe", 1)
    return {
        "status": lambda: snapshot(timezone.now()),
        "status of one market": lambda: snapshot(timezone.now(), "M00001"),
        "renewal": lambda: renew_lease(holder),
    }


def _add_markets(begin: int, end: int) -> None:
    """Markets that are watched, pass, and are held."""
    from django.utils import timezone

    from identity.models import EventOrigin, InvariantResult, RobotRun, WatchedMarket
    from locks.leases import hash_nonce
    from locks.models import LockRecord

    now = timezone.now()
    names = [f"M{number:05d}" for number in range(begin + 1, end + 1)]
    watched = WatchedMarket.objects.bulk_create(
        [
            WatchedMarket(market=name, first_evidence_at=now, evidence_at=now, run_id=f"run-{name}")
            for name in names
        ]
    )
    RobotRun.objects.bulk_create(
        [RobotRun(run_id=f"run-{name}", first_seen_at=now, last_seen_at=now) for name in names]
    )
    InvariantResult.objects.bulk_create(
        [
            InvariantResult(
                watched=row, origin=EventOrigin.SWEEP, passed=True, checked_at=now,
                evidence_at=now, changed_at=now, stream_ids=[f"{row.market}1"],
            )
            for row in watched
        ]
    )  # fmt: skip
    LockRecord.objects.bulk_create(
        [
            LockRecord(
                name=name, state="HELD", fencing_token=1, run_id="run-1",
                nonce_hash=hash_nonce("0" * 32), key_prefix="0badcafe", acquired_at=now,
                renewed_at=now, expires_at=now + timedelta(hours=9), ttl=30_000.0,
            )
            for name in names
        ]
    )  # fmt: skip


def _count_queries() -> int:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext
    from django.utils import timezone

    from watchdog_project.status import snapshot

    with CaptureQueriesContext(connection) as queries:
        snapshot(timezone.now())
    return len(queries)


def _median_ms(call: Callable[[], object], repeats: int) -> float:
    call()
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


def _picture(found: dict[str, list[tuple[int, float]]]) -> str:
    """Both scales are logarithmic; each line says itself what it is."""
    import math

    low, high = -1.0, 4.0

    def x(size: int) -> float:
        return MARGIN + (math.log10(size) - 1) / 3 * (WIDTH - 2 * MARGIN - 90)

    def y(ms: float) -> float:
        share = (math.log10(max(ms, 0.1)) - low) / (high - low)
        return HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN + 24)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        ' font-family="sans-serif" font-size="12">',
        "<title>Milliseconds per call over the number of markets, both logarithmic</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for power in range(int(low), int(high) + 1):
        at = y(10.0**power)
        parts.append(
            f'<path d="M{MARGIN} {at:.0f}H{WIDTH - MARGIN - 90}" stroke="#ddd"/>'
            f'<text x="{MARGIN - 6}" y="{at + 4:.0f}" text-anchor="end">{10.0**power:g} ms</text>'
        )
    sizes = sorted({size for line in found.values() for size, _ in line})
    parts += [
        f'<text x="{x(size):.0f}" y="{HEIGHT - MARGIN + 18}" text-anchor="middle">{size:,}</text>'
        for size in sizes
    ]
    parts.append(f'<text x="{MARGIN}" y="{HEIGHT - 14}">markets</text>')
    for colour, (name, line) in zip(COLOURS, found.items(), strict=False):
        points = " ".join(f"{x(size):.1f},{y(ms):.1f}" for size, ms in line)
        last_size, last = line[-1]
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
            f'<text x="{x(last_size) + 8:.0f}" y="{y(last) + 4:.0f}" fill="{colour}">{name}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])
