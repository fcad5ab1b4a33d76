"""A robot's log line, feed line or execution journal -> one normalised event, or why not. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from identity import strictjson

MAX_LINE_BYTES = 1024 * 1024
SAMPLE_LENGTH = 500
MAX_NAME = 128
MAX_INSTRUMENT = 64
JOURNAL_EVENT = "JOURNAL_RECORD"
ENGINE_STREAM = "__engine__"

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d", re.ASCII)
_DAY = re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.ASCII)
_OPAQUE = re.compile(r"\[REDACTED\]|System\.Collections\b.*")
_DIGITS = re.compile(r"\d{1,19}", re.ASCII)


class Shape(StrEnum):
    LOG = "log"
    FEED = "feed"
    JOURNAL = "journal"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line nothing can be learned from: a stable code, one sentence, the line's beginning."""

    code: str
    detail: str
    sample: str = ""


@dataclass(slots=True)
class NormalisedEvent:
    """What one line says, in one shape; a name it does not say is `""`.

    `canonical_names` and `execution_names` are every place's word for that identity, in order of
    rank; they should agree. `instrument` tells which market is meant, and is neither of the two.
    `occurred_at` is None where the line has no time, and only a day where `time_is_exact` is False.
    `on_stream` says that the line is a stream's own, not one that mentions it. `written` is the
    record as JSON that any database keeps, `""` where it was not read from text.
    """

    shape: Shape
    event_type: str
    occurred_at: datetime | None
    run_id: str = ""
    stream_id: str = ""
    on_stream: bool = False
    instrument: str = ""
    canonical_names: tuple[str, ...] = ()
    execution_names: tuple[str, ...] = ()
    account: str = ""
    host: str = ""
    event_id: str = ""
    fencing_token: int | None = None
    time_is_exact: bool = True
    data: Mapping[str, Any] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    written: str = ""

    @property
    def canonical_instrument(self) -> str:
        return self.canonical_names[0] if self.canonical_names else ""

    @property
    def execution_instrument(self) -> str:
        return self.execution_names[0] if self.execution_names else ""


def read_line(line: bytes | str | dict[str, Any]) -> NormalisedEvent | Unreadable:
    """What a line says; a dictionary is a line that was parsed already. Never raises."""
    value: object = line
    written = ""
    if isinstance(line, (bytes, str)):
        try:
            value, written = strictjson.read(_text_of(line))
        except strictjson.NotReadable as error:
            return Unreadable("UNREADABLE", str(error), sample_of(line))
    read = _read_value(value)
    if isinstance(read, Unreadable):
        return Unreadable(read.code, read.detail, read.sample or sample_of(line))
    read.written = written
    return read


def is_blank(line: bytes) -> bool:
    """Whether a line holds nothing at all, so that it is no line of the log."""
    return not line.strip(b" \t\r\n") or line.strip(b" \t\r\n") == b"\xef\xbb\xbf"


def sample_of(line: object) -> str:
    """The beginning of a line, as text that can be stored and shown."""
    if isinstance(line, bytes):
        text = line[: SAMPLE_LENGTH * 2].decode("utf-8", "replace")
    else:
        text = str(line)[:SAMPLE_LENGTH]
    return str(strictjson.storable(text[:SAMPLE_LENGTH]))


def bounded(text: str, length: int) -> str:
    """At most `length` characters; what is too long stays distinct by a hash at its end."""
    if len(text) <= length:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
    return f"{text[: length - 17]}~{digest}"


def parse_moment(value: object) -> datetime | None:
    """An ISO 8601 time, any number of fractional digits, UTC where it names no zone.

    None for anything else: `01/04/2026` means one day here and another there.
    """
    text = value.strip() if isinstance(value, str) else ""
    if not _MOMENT.match(text):
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not UTC:
            moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    # .NET's empty time is the year 1; it is no time of a robot's.
    return moment if 2000 <= moment.year < 2200 else None


def name_in(value: object, length: int = MAX_NAME) -> str:
    """A name as a robot gives it, trimmed; `""` for null, a masked or opaque value, or no text."""
    if not isinstance(value, str):
        # True is no name.
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""
    text = value.strip()
    if not text:
        return ""
    if text.startswith(("[", "System")) and _OPAQUE.fullmatch(text):
        return ""
    return text if len(text) <= length else bounded(text, length)


def _text_of(line: bytes | str) -> str:
    if len(line) > MAX_LINE_BYTES:
        raise strictjson.NotReadable(f"The line is longer than {MAX_LINE_BYTES} bytes.")
    if isinstance(line, bytes):
        try:
            line = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise strictjson.NotReadable(f"It is not UTF-8: {error.reason}.") from None
    # A power cut leaves NUL bytes where the writer had reserved space.
    return line.strip("\ufeff\x00 \t\r\n")


def _read_value(value: object) -> NormalisedEvent | Unreadable:
    if not isinstance(value, dict):
        return Unreadable("UNREADABLE", "It is not a JSON object.")
    record = value.get("record")
    if isinstance(record, dict) and "event" not in value and "event_type" not in value:
        return _read_journal(record, name_in(value.get("run")), name_in(value.get("file")), value)
    if "Stream" in value and "Instrument" in value and "event" not in value:
        return _read_journal(value, "", "", value)
    return _read_event(value)


def _read_event(record: Mapping[str, Any]) -> NormalisedEvent | Unreadable:
    event_type = _said("event", record) or _said("event_type", record)
    if not event_type:
        return Unreadable("NO_EVENT_NAME", "It has neither `event` nor `event_type`.")
    occurred_at = _time_in(record)
    if occurred_at is None:
        return Unreadable(
            "TIME_UNREADABLE", "It has no ISO 8601 time in `ts_utc` or `timestamp_utc`."
        )
    data = record.get("data")
    if not isinstance(data, dict):
        data = {}
    stream_id = _said("stream", record)
    on_stream = stream_id not in ("", ENGINE_STREAM)
    if not on_stream:
        stream_id = _said("stream", data) or _said("stream_id", data)
    return NormalisedEvent(
        shape=Shape.LOG if "event" in record else Shape.FEED,
        event_type=event_type,
        occurred_at=occurred_at,
        run_id=_said("run_id", record, data),
        stream_id="" if stream_id == ENGINE_STREAM else stream_id,
        on_stream=on_stream,
        instrument=_said("instrument", record, data, length=MAX_INSTRUMENT),
        canonical_names=_names(
            record.get("canonical_instrument"), data.get("canonical_instrument")
        ),
        execution_names=_names(
            record.get("execution_instrument"),
            data.get("execution_instrument"),
            data.get("execution_instrument_key"),
            record.get("execution_instrument_full_name"),
            data.get("execution_instrument_full_name"),
        ),
        account=_said("account", record, data),
        host=_said("host", record, data),
        event_id=_said("event_id", record),
        fencing_token=_token(record.get("fencing_token", data.get("fencing_token"))),
        data=data,
        record=record,
    )


def _time_in(record: Mapping[str, Any]) -> datetime | None:
    for key in ("ts_utc", "timestamp_utc", "timestamp_chicago"):
        stamp = record.get(key)
        # Chicago's wall time without an offset happens twice a year.
        if stamp and (key != "timestamp_chicago" or _has_offset(stamp)):
            moment = parse_moment(stamp)
            if moment is not None:
                return moment
    return None


def _read_journal(
    journal: Mapping[str, Any], run: str, file: str, record: Mapping[str, Any]
) -> NormalisedEvent | Unreadable:
    if "Stream" not in journal or "Instrument" not in journal:
        return Unreadable("UNREADABLE", "The record has no `Stream` and `Instrument`.")
    moments = [
        moment
        for key in ("EntrySubmittedAtUtc", "EntryFilledAtUtc", "CompletedAtUtc")
        if (moment := parse_moment(journal.get(key))) is not None
    ]
    day = _day(journal.get("TradingDate")) or _day(file)
    return NormalisedEvent(
        shape=Shape.JOURNAL,
        event_type=JOURNAL_EVENT,
        occurred_at=max(moments) if moments else day,
        time_is_exact=bool(moments),
        run_id=run or name_in(journal.get("RunId")),
        stream_id=name_in(journal.get("Stream")),
        on_stream=True,
        execution_names=_names(journal.get("Instrument")),
        data=journal,
        record=record,
    )


def _said(key: str, *places: Mapping[str, Any], length: int = MAX_NAME) -> str:
    """The name that the first of these places gives which gives any."""
    for place in places:
        if key in place and (name := name_in(place[key], length)):
            return name
    return ""


def _names(*values: object) -> tuple[str, ...]:
    named: tuple[str, ...] = ()
    for value in values:
        if value is not None and (name := name_in(value, MAX_INSTRUMENT)) and name not in named:
            named += (name,)
    return named


def _day(value: object) -> datetime | None:
    match = _DAY.match(value) if isinstance(value, str) else None
    return parse_moment(f"{match[0]}T00:00:00Z") if match else None


def _has_offset(value: object) -> bool:
    return isinstance(value, str) and bool(re.search(r"(Z|[+-]\d\d:?\d\d)$", value.strip()))


def _token(value: object) -> int | None:
    if isinstance(value, str) and _DIGITS.fullmatch(value.strip()):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63:
        return value
    return None
