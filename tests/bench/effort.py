"""How long each measurement takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict


class Slices(TypedDict):
    seconds: float
    rounds: int


@dataclass(frozen=True)
class Effort:
    """`slices`: of a comparison of rates; `repeats`: of what is timed once at a time."""

    slices: Slices
    repeats: int


QUICK = Effort({"seconds": 0.25, "rounds": 5}, repeats=5)
THOROUGH = Effort({"seconds": 1.0, "rounds": 11}, repeats=11)
