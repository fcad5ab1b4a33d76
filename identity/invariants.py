"""The rules of identity: one small function each, and the tuple of them all. Pure.

An invariant looks at evidence and yields findings: something right or something wrong, or nothing
where it does not apply. A right one mends an open violation of the same market, code and subject.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from identity.facts import TenureFact
from identity.lexicon import Lexicon, Product
from identity.liveness import RunFact, one_executor, restarted
from identity.reports import SelfTest
from identity.robotlog import NormalisedEvent, Shape, name_in, read_line
from identity.vocabulary import INVARIANTS_STATUS, SELF_TEST, STREAM_PREFIX, carries_identity

STREAM_ID_NOT_CANONICAL = "STREAM_ID_NOT_CANONICAL"
INSTRUMENT_MISMATCH = "INSTRUMENT_MISMATCH"
EXECUTION_INSTRUMENT_MISSING = "EXECUTION_INSTRUMENT_MISSING"
EXECUTION_NOT_OF_CANONICAL = "EXECUTION_NOT_OF_CANONICAL"
EVENT_IDENTITY_INCOMPLETE = "EVENT_IDENTITY_INCOMPLETE"
UNKNOWN_INSTRUMENT = "UNKNOWN_INSTRUMENT"
MAPPING_DRIFT = "MAPPING_DRIFT"
DUPLICATE_EXECUTOR = "DUPLICATE_EXECUTOR"
STALE_FENCING_TOKEN = "STALE_FENCING_TOKEN"  # noqa: S105 it is a rule's name
# What a robot says of itself is kept apart from what the rules above find, and counts as much.
ROBOT_REPORTED_VIOLATION = "ROBOT_REPORTED_VIOLATION"

CODES = (
    STREAM_ID_NOT_CANONICAL,
    INSTRUMENT_MISMATCH,
    EXECUTION_INSTRUMENT_MISSING,
    EXECUTION_NOT_OF_CANONICAL,
    EVENT_IDENTITY_INCOMPLETE,
    UNKNOWN_INSTRUMENT,
    MAPPING_DRIFT,
    DUPLICATE_EXECUTOR,
    STALE_FENCING_TOKEN,
)
# Their subject is a run, so a successor's right finding has another subject.
ABOUT_A_RUN = frozenset({STALE_FENCING_TOKEN, DUPLICATE_EXECUTOR})


@dataclass(slots=True)
class Finding:
    """What an invariant says: right, or wrong with a message for an operator."""

    code: str
    market: str
    subject: str
    right: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class Claimant:
    """A live run, when it claimed the market, with what it executes there and by which token."""

    run: RunFact
    since: datetime
    execution_instrument: str
    fencing_token: int | None = None


@dataclass(slots=True)
class Evidence:
    """What the invariants judge: one event, or the live claimants of one market.

    `tenures` are those that lasted at or after the event's time, None where nobody was asked.
    `stream_id` is the stream the event speaks for; `""` also where it speaks for none.
    """

    lexicon: Lexicon
    event: NormalisedEvent | None = None
    self_test: SelfTest | None = None
    tenures: Sequence[TenureFact] | None = None
    scope: str = ""
    market_of_claims: str = ""
    claimants: Sequence[Claimant] = ()
    market: str = field(init=False)
    bears_identity: bool = field(init=False)
    stream_id: str = field(init=False)
    subject: str = field(init=False)

    def __post_init__(self) -> None:
        event = self.event
        self.market = market_of(event, self.lexicon) if event else self.market_of_claims
        self.bears_identity = event is not None and bears_identity(event)
        self.stream_id = event.stream_id if event and self.bears_identity else ""
        self.subject = self.stream_id or (event.event_type if event else "")


Invariant = Callable[[Evidence], Iterator[Finding]]


def bears_identity(event: NormalisedEvent) -> bool:
    """Whether an event's names are meant as identity, not in passing."""
    return (
        event.on_stream
        or carries_identity(event.event_type)
        or event.event_type == INVARIANTS_STATUS
    )


def market_of(event: NormalisedEvent, lexicon: Lexicon) -> str:
    """The market an event belongs to: by its canonical, stream, execution name or instrument."""
    for name in event.canonical_names:
        if product := lexicon.product(name):
            return product.canonical
    if event.stream_id and (market := lexicon.market_of_stream(event.stream_id)):
        return market
    for name in (*event.execution_names, event.instrument):
        if name and (product := lexicon.product(name)):
            return product.canonical
    return ""


def stream_id_not_canonical(evidence: Evidence) -> Iterator[Finding]:
    """A stream's id is its canonical instrument's symbol and a number."""
    event, lexicon = evidence.event, evidence.lexicon
    if event is None:
        return
    named: list[tuple[str, str]] = []
    if evidence.stream_id or event.shape is Shape.JOURNAL:
        named.append((event.stream_id, evidence.market))
    if evidence.self_test:
        named += [(name, lexicon.market_of_stream(name)) for name in evidence.self_test.stream_ids]
    for stream_id, market in named:
        right = bool(lexicon.canonical_of_stream(stream_id))
        said = f"The stream id {stream_id!r}" if stream_id else "An empty stream id"
        message = "" if right else f"{said} is not a canonical instrument and a number, like ES1."
        yield Finding(STREAM_ID_NOT_CANONICAL, market, stream_id, right, message)


def instrument_mismatch(evidence: Evidence) -> Iterator[Finding]:
    """What a stream or event calls its canonical instrument is one, and its stream's own."""
    event, lexicon = evidence.event, evidence.lexicon
    if event is None or not evidence.bears_identity:
        return
    stream_id = evidence.stream_id
    of_stream = lexicon.canonical_of_stream(stream_id)
    expected = of_stream or evidence.market
    is_own = event.event_type.startswith(STREAM_PREFIX)
    # Another event's word about a stream neither mends nor repeats what the stream says of itself.
    subject = stream_id if is_own else f"{event.event_type} {stream_id}".strip()
    seen, wrong = False, ""
    for name, product in _known(event.canonical_names, lexicon):
        seen = True
        if product.execution != expected:
            wrong = f"{subject} names {name!r} as its canonical instrument, not {expected}."
    instrument = (is_own and name_in(event.data.get("instrument"))) or event.instrument
    meant = lexicon.product(instrument) if of_stream else None
    if meant is not None:
        seen = True
        # Lines are filed by either identity; only a stream's own event says what its instrument is.
        literal = is_own and (event.on_stream or "instrument" in event.data)
        if (meant.execution if literal else meant.canonical) != of_stream:
            wrong = f"{subject} has the instrument {instrument!r}, not {of_stream}."
    if seen:
        yield Finding(INSTRUMENT_MISMATCH, evidence.market, subject, not wrong, wrong)


def execution_instrument_missing(evidence: Evidence) -> Iterator[Finding]:
    """A stream says which execution instrument its orders go to."""
    event = evidence.event
    if event is None:
        return
    is_stream = event.event_type.startswith(STREAM_PREFIX) or (
        event.on_stream and not carries_identity(event.event_type)
    )
    key = "execution_instrument"
    says = event.shape is Shape.JOURNAL or key in event.record or key in event.data
    if not is_stream or not (says or event.execution_names):
        return
    right = bool(event.execution_names)
    named = f"Stream {event.stream_id}" if event.stream_id else "A stream without an id"
    message = "" if right else f"{named} has no execution instrument."
    yield Finding(EXECUTION_INSTRUMENT_MISSING, evidence.market, event.stream_id, right, message)


def execution_not_of_canonical(evidence: Evidence) -> Iterator[Finding]:
    """Orders go to an execution instrument of the canonical instrument they are made for."""
    event, lexicon = evidence.event, evidence.lexicon
    if event is None or not evidence.bears_identity:
        return
    products = _known(event.canonical_names, lexicon)
    canonical = products[0][1].canonical if products else ""
    canonical = canonical or lexicon.market_of_stream(evidence.stream_id)
    executions = _known(event.execution_names, lexicon)
    if not canonical or not executions:
        return
    wrong = [name for name, product in executions if product.canonical != canonical]
    message = f"{evidence.subject} of {canonical} executes {wrong[0]!r}." if wrong else ""
    yield Finding(EXECUTION_NOT_OF_CANONICAL, canonical, evidence.subject, not wrong, message)


def event_identity_incomplete(evidence: Evidence) -> Iterator[Finding]:
    """An order, fill, intent, protective, stream or trade event carries both identities."""
    event = evidence.event
    if event is None or event.shape is Shape.JOURNAL or not carries_identity(event.event_type):
        return
    missing = [
        name
        for name, given in (
            ("canonical", event.canonical_names),
            ("execution", event.execution_names),
        )
        if not given
    ]
    message = f"{event.event_type} carries no {' and no '.join(missing)} identity."
    yield Finding(
        EVENT_IDENTITY_INCOMPLETE,
        evidence.market,
        event.event_type,
        not missing,
        message if missing else "",
    )


def is_complete(record: dict[str, Any]) -> bool:
    """Whether a line as it was written carries both identities."""
    event = read_line(record)
    return isinstance(event, NormalisedEvent) and bool(
        event.canonical_names and event.execution_names
    )


def unknown_instrument(evidence: Evidence) -> Iterator[Finding]:
    """Every instrument that is named as identity is in the registry."""
    event = evidence.event
    if event is None:
        return
    names: list[str] = []
    if evidence.bears_identity:
        names += [*event.canonical_names, *event.execution_names, event.instrument]
    if evidence.self_test:
        names += [name for pair in evidence.self_test.mappings for name in pair]
    names = [name for name in names if name]
    if not names:
        return
    unknown = [name for name in names if evidence.lexicon.product(name) is None]
    message = (
        f"{evidence.subject} names {unknown[0]!r}, which the registry lacks." if unknown else ""
    )
    yield Finding(UNKNOWN_INSTRUMENT, evidence.market, evidence.subject, not unknown, message)


def mapping_drift(evidence: Evidence) -> Iterator[Finding]:
    """The robot's own mapping of execution to canonical instruments is the registry's."""
    for execution, canonical in evidence.self_test.mappings if evidence.self_test else ():
        product = evidence.lexicon.product(execution)
        if product is None:
            continue
        right = product.canonical == canonical.strip().upper()
        message = f"The robot maps {execution} to {canonical}, the registry to {product.canonical}."
        yield Finding(MAPPING_DRIFT, product.canonical, SELF_TEST, right, "" if right else message)


def duplicate_executor(evidence: Evidence) -> Iterator[Finding]:
    """At most one live run claims a market."""
    in_order = sorted(evidence.claimants, key=lambda one: (one.since, one.run.run_id))
    for number, second in enumerate(in_order):
        # One that it meets is enough: the breach is the newcomer's.
        first = next((one for one in in_order[:number] if _are_two(one, second)), None)
        if first is not None:
            message = (
                f"Two live runs execute {evidence.market}: {_described(first)} and "
                f"{_described(second)}."
            )
            yield Finding(DUPLICATE_EXECUTOR, evidence.market, second.run.run_id, False, message)


def _are_two(first: Claimant, second: Claimant) -> bool:
    if one_executor(first.run, second.run) or restarted(second.run, first.run):
        return False
    return first.fencing_token is None or first.fencing_token != second.fencing_token


def stale_fencing_token(evidence: Evidence) -> Iterator[Finding]:
    """Who acts with a fencing token acts within the tenure it belongs to."""
    event = evidence.event
    if event is None or event.fencing_token is None or evidence.tenures is None:
        return
    at, market = event.occurred_at, evidence.market
    if at is None or not market:
        return
    right = any(
        tenure.fencing_token == event.fencing_token
        and (tenure.ended_at is None or at <= tenure.ended_at)
        for tenure in evidence.tenures
        if tenure.market == market and tenure.scope == evidence.scope
    )
    message = (
        f"Run {event.run_id or '(unnamed)'} acted on {market} with fencing token "
        f"{event.fencing_token}, whose tenure was over."
    )
    yield Finding(STALE_FENCING_TOKEN, market, event.run_id, right, "" if right else message)


INVARIANTS: tuple[Invariant, ...] = (
    stream_id_not_canonical,
    instrument_mismatch,
    execution_instrument_missing,
    execution_not_of_canonical,
    event_identity_incomplete,
    unknown_instrument,
    mapping_drift,
    duplicate_executor,
    stale_fencing_token,
)


def judge(evidence: Evidence) -> list[Finding]:
    """Everything the invariants find in this evidence."""
    return [finding for invariant in INVARIANTS for finding in invariant(evidence)]


def _known(names: Sequence[str], lexicon: Lexicon) -> list[tuple[str, Product]]:
    return [(name, product) for name in names if (product := lexicon.product(name))]


def _described(claimant: Claimant) -> str:
    run = claimant.run
    where = f" on {run.host}" if run.host else ""
    with_what = f" with {claimant.execution_instrument}" if claimant.execution_instrument else ""
    return f"{run.run_id}{where}{with_what}"
