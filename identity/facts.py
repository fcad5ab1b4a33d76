"""What identity must be told of leases; the locks themselves are not its business."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class TenureFact:
    """One holder's time with one token on one market; `ended_at` is None while it lasts.

    `folder` is the project root whose host lock goes with it, `""` where that is not known.
    """

    market: str
    scope: str
    fencing_token: int
    run_id: str
    host: str
    execution_instrument: str
    acquired_at: datetime
    renewed_at: datetime | None
    ended_at: datetime | None
    clean: bool
    folder: str = ""


TenureFacts = Callable[[datetime], Sequence[TenureFact]]
"""Tenures that lasted at or after the given time; the running ones are always among them."""
