"""What the conditions look at: plain values, gathered in bulk elsewhere.

Times are aware datetimes, durations timedeltas. A fact that is not known is None, and None is
neither well nor wrong: it opens nothing and closes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

Pair = tuple[str, str]
"""A market and its scope."""


@dataclass(frozen=True, slots=True)
class Session:
    """Whether a market trades. `open` None: unknown, which is not closed.

    `changed_at` is when it last opened or closed, where that is known.
    """

    open: bool | None = None
    changed_at: datetime | None = None
    next_change_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """One run was refused a held lease, once or again and again; times are the database's."""

    run_id: str
    host: str
    execution_instrument: str
    first_at: datetime
    last_at: datetime
    count: int = 1


@dataclass(frozen=True, slots=True)
class Lease:
    """The lease record of one market as it is now.

    `refusals` were given for the tenure that runs, or that was the last; `expiry_seen_at` is when
    its end was noticed, for a lease that expired; `lost_at` when a run was last refused the renewal
    of a lease it had held, unless an operator had revoked that.
    """

    market: str
    scope: str
    state: str
    fencing_token: int
    run_id: str
    host: str
    execution_instrument: str
    acquired_at: datetime | None
    renewed_at: datetime | None
    expires_at: datetime | None
    refusals: Sequence[Refusal] = ()
    expiry_seen_at: datetime | None = None
    lost_at: datetime | None = None
    lost_run_id: str = ""
    lost_host: str = ""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Robots of one market said lately that they found another instance of themselves running.

    `run_id` is that of the last who said so; the times are theirs.
    """

    market: str
    scope: str
    run_id: str
    first_at: datetime
    last_at: datetime
    count: int


@dataclass(frozen=True, slots=True)
class Breach:
    """An open violation that counts: not accepted, and not known from old logs only."""

    market: str
    scope: str
    code: str
    subject: str
    message: str
    run_id: str
    host: str
    opened_at: datetime
    last_seen_at: datetime
    count: int = 1


@dataclass(frozen=True, slots=True)
class Standing:
    """A watched market's identity status. `historical`: all its evidence is from old logs."""

    market: str
    scope: str
    status: str
    run_id: str
    evidence_at: datetime
    checked_at: datetime | None
    historical: bool = False


@dataclass(frozen=True, slots=True)
class Liveness:
    """What is known of the life of the run that executes a market, as of now.

    Each `…_since` is None while that is well, and else the time since which it is not. A run that
    stopped cleanly, and one known from old logs only, has no such fact at all. `connection_lost`
    is a sustained loss: a flap that mends within 30 s is none.
    """

    market: str
    scope: str
    run_id: str
    host: str
    heard_at: datetime
    silent_since: datetime | None = None
    engine_stalled_since: datetime | None = None
    data_stalled_since: datetime | None = None
    connection_lost_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Switch:
    """A kill switch that is engaged, or that is missing, which counts as engaged."""

    market: str
    since: datetime | None
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Job:
    """A periodic task that did not finish in time, since when, and its last error."""

    task: str
    overdue_since: datetime
    error: str = ""


@dataclass(frozen=True, slots=True)
class Intake:
    """A place that events come from and that cannot be read, since when, and why."""

    name: str
    failing_since: datetime
    error: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that the conditions may look at, as of `now`.

    A part that could not be read is named in `unread` (by its field's name); the alerts that rest
    on it stay as they are.
    """

    now: datetime
    leases: Sequence[Lease] = ()
    duplicates: Sequence[Duplicate] = ()
    breaches: Sequence[Breach] = ()
    standings: Sequence[Standing] = ()
    liveness: Sequence[Liveness] = ()
    switches: Sequence[Switch] = ()
    jobs: Sequence[Job] = ()
    intakes: Sequence[Intake] = ()
    sessions: Mapping[Pair, Session] = field(default_factory=dict)
    unread: frozenset[str] = frozenset()
