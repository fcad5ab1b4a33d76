"""Side by side means interleaved: each round lets every contestant run once, one after another.

The machine is never alone, so a figure means little; the ratio within a round means something.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Slice = Callable[[float], float]
"""Runs for about so many seconds and returns a figure: calls per second, or seconds per call."""


@dataclass(frozen=True)
class Row:
    """A comparison: medians, and the median of the rounds' ratios.

    `ratio` is above 1 where ours is better, whichever way the figures go. `target`: what it must
    be at least. `notes`: other figures that belong to it.
    """

    name: str
    unit: str
    ours: float
    peer: float
    peer_name: str
    ratio: float
    target: float
    rounds: int
    notes: tuple[str, ...] = field(default=())

    @property
    def met(self) -> bool:
        return self.ratio >= self.target

    def line(self) -> str:
        verdict = "met" if self.met else "NOT MET"
        return (
            f"{self.ratio:8.2f} x  (target {self.target:g}, {verdict:7})  {self.name}: "
            f"{told(self.ours, self.unit)}, {self.peer_name} {told(self.peer, self.unit)}"
        )


def told(figure: float, unit: str) -> str:
    if unit == "/s":
        return f"{figure:,.0f}/s"
    return f"{figure:.1f} {unit}" if figure < 100 else f"{figure:,.0f} {unit}"


def compare(
    name: str,
    ours: Slice,
    peers: Mapping[str, tuple[Slice, float]],
    *,
    seconds: float,
    rounds: int,
    unit: str = "/s",
) -> list[Row]:
    """A row for each peer (its slice, and the target against it), all measured in one go."""
    figures: dict[str, list[float]] = {"ours": [], **{peer: [] for peer in peers}}
    runs = {"ours": ours, **{peer: run for peer, (run, _) in peers.items()}}
    for run in runs.values():
        run(seconds / 5)
    for number in range(rounds):
        # Who goes first changes, so that nobody always runs in another's wake.
        order = sorted(runs, reverse=bool(number % 2))
        for contestant in order:
            figures[contestant].append(runs[contestant](seconds))
    return [
        Row(
            name=name,
            unit=unit,
            ours=statistics.median(figures["ours"]),
            peer=statistics.median(figures[peer]),
            peer_name=peer,
            ratio=statistics.median(_ratios(figures["ours"], figures[peer], unit)),
            target=target,
            rounds=rounds,
        )
        for peer, (_, target) in peers.items()
    ]


def _ratios(ours: Sequence[float], peer: Sequence[float], unit: str) -> list[float]:
    if unit == "/s":
        return [mine / theirs for mine, theirs in zip(ours, peer, strict=True)]
    return [theirs / mine for mine, theirs in zip(ours, peer, strict=True)]


def against_limit(name: str, figures: Sequence[float], limit: float, unit: str, *notes: str) -> Row:
    """A row whose peer is a fixed limit; seconds must be below it, a rate above."""
    ours = statistics.median(figures)
    ratio = ours / limit if unit == "/s" else limit / ours
    return Row(name, unit, ours, limit, "limit", ratio, 1.0, len(figures), notes)
