"""What led to each takeover, as far as the record tells; and the counts that are printed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.checker import History, TenureFact
from tests.chaos.contender import CLEAN, STEPPED

UNKNOWN = "late by itself (a loaded machine)"


@dataclass
class Counts:
    """`acquisitions` by the way they were asked for, `takeovers` by the fault before them."""

    acquisitions: Counter[str] = field(default_factory=Counter)
    unheard: int = 0
    takeovers: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    refusals: int = 0
    acts: int = 0
    verified: Counter[bool] = field(default_factory=Counter)

    @property
    def after_a_fault(self) -> int:
        return self.takeovers.total() - self.takeovers[UNKNOWN]

    def table(self) -> list[str]:
        """Lines for people."""
        takeovers = f"{self.takeovers.total():,}, of which after a fault: {self.after_a_fault:,}"
        return [
            f"acquisitions: {self.acquisitions.total():,} "
            f"({', '.join(f'{n:,} {how}' for how, n in sorted(self.acquisitions.items()))}), "
            f"and {self.unheard:,} grants that nobody heard of",
            f"acts recorded: {self.acts:,}; acquires refused: {self.refusals:,}; tokens verified: "
            f"{self.verified[True]:,} good, {self.verified[False]:,} refused",
            f"takeovers: {takeovers}",
            *(f"  {n:>7,}  {cause}" for cause, n in self.takeovers.most_common()),
            "faults injected:",
            *(f"  {n:>7,}  {fault}" for fault, n in self.faults.most_common()),
        ]


class Faults:
    """Faults by whom they befell; those that befell everybody by when."""

    def __init__(self, history: History) -> None:
        self._by_run: dict[str, list[str]] = defaultdict(list)
        self._by_pid: dict[int, list[tuple[float, str]]] = defaultdict(list)
        self._on_all: list[tuple[float, float, str]] = []
        for line in history.faults:
            if line["fault"] == STEPPED:
                continue  # nobody may lose anything to it
            if line["run"] is not None:
                self._by_run[line["run"]].append(line["fault"])
            elif line["pid"] is not None:
                self._by_pid[line["pid"]].append((line["at"], line["fault"]))
            else:
                self._on_all.append((line["at"], line["until"], line["fault"]))

    def of(self, run: str, pid: int | None, begin: float, end: float) -> str | None:
        """The fault that a tenure from `begin` to `end` met."""
        if pid is not None:
            for at, fault in self._by_pid.get(pid, []):
                if begin - 0.05 <= at <= end:
                    return fault
        for at, until, fault in self._on_all:
            if at <= end and until >= begin:
                return fault
        return next(iter(self._by_run.get(run, [])), None)


def count(history: History, tenures: Sequence[TenureFact]) -> Counts:
    counts = Counts(refusals=history.refusals.total(), acts=history.acts)
    counts.verified.update(line["ok"] for line in history.verified)
    counts.faults.update(line["fault"] for line in history.faults if not line.get("counted"))
    said = {(line["lock"], line["token"]): line["how"] for line in history.ended}
    counts.faults.update(how for how in said.values() if how not in (CLEAN, "lost"))
    grants: dict[tuple[str, int], dict[str, Any]] = {
        (line["lock"], line["token"]): line for line in history.grants
    }
    counts.acquisitions.update(line["through"] for line in history.grants)
    counts.unheard = len(tenures) - len(grants)
    faults = Faults(history)
    before: dict[str, TenureFact] = {}
    for tenure in sorted(tenures, key=lambda tenure: (tenure.lock, tenure.acquired)):
        earlier = before.get(tenure.lock)
        before[tenure.lock] = tenure
        if not tenure.takeover or earlier is None:
            continue
        key = (earlier.lock, earlier.token)
        cause = said.get(key)
        if cause in (None, CLEAN, "lost"):
            ended = tenure.acquired if earlier.ended is None else earlier.ended
            pid = grants[key]["pid"] if key in grants else None
            cause = faults.of(earlier.run, pid, earlier.acquired, ended)
        counts.takeovers[cause or UNKNOWN] += 1
    return counts
