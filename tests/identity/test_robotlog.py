"""What a line says, whatever a robot, a rotation or a power cut made of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from identity.robotlog import (
    MAX_LINE_BYTES,
    NormalisedEvent,
    Shape,
    Unreadable,
    parse_moment,
    read_line,
)
from tests.identity.cast import NOW, journal, line


def read(value: Any) -> NormalisedEvent:
    found = read_line(value if isinstance(value, bytes) else json.dumps(value).encode())
    assert isinstance(found, NormalisedEvent), found
    return found


def refused(value: bytes) -> Unreadable:
    found = read_line(value)
    assert isinstance(found, Unreadable), found
    return found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_no_bytes_at_all_raise(content: bytes) -> None:
    assert isinstance(read_line(content), (NormalisedEvent, Unreadable))


@given(JSON)
def test_no_json_at_all_raises_and_what_is_read_can_be_stored(value: Any) -> None:
    found = read_line(json.dumps(value).encode())
    if isinstance(found, NormalisedEvent):
        json.dumps(found.record, allow_nan=False).encode()


@settings(max_examples=50)
@given(st.dictionaries(st.text(), JSON), st.dictionaries(st.text(), JSON))
def test_any_value_in_any_place_leaves_a_line_readable_or_refused(
    data: dict[str, Any], top: dict[str, Any]
) -> None:
    found = read_line(json.dumps({**line("X", data=data), **top}).encode())
    if isinstance(found, NormalisedEvent):
        stored = json.dumps(found.record, allow_nan=False, ensure_ascii=False)
        assert "\x00" not in stored
        stored.encode()


@given(
    st.datetimes(
        min_value=datetime(2001, 1, 1),  # noqa: DTZ001
        max_value=datetime(2199, 1, 1),  # noqa: DTZ001
        timezones=st.integers(-839, 839).map(lambda minutes: timezone(timedelta(minutes=minutes))),
    ),
    st.sampled_from(["", "0", "9", "123"]),
)
def test_a_time_with_more_digits_than_microseconds_is_the_same_time(
    at: datetime, more: str
) -> None:
    digits = f"{at.microsecond:06d}{more}"
    offset = at.strftime("%z")
    text = f"{at:%Y-%m-%dT%H:%M:%S}.{digits}{offset[:3]}:{offset[3:5]}"
    assert parse_moment(text) == at


@pytest.mark.parametrize(
    "text",
    [
        "01/04/2026 14:00:25 +00:00", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z",
        "0001-01-01T00:00:00Z", "2026-04-01T25:00:00Z", "2026-04-01", "1775052025", "", "now",
        "2026-04-01T14:00:25+99:99", "9999-12-31T23:59:59-01:00", "２０２６-04-01T14:00:25Z",
    ],
)  # fmt: skip
def test_a_time_that_is_ambiguous_or_none_is_not_guessed(text: str) -> None:
    assert parse_moment(text) is None
    refused(json.dumps({**line("X"), "ts_utc": text}).encode())


def test_seven_digits_and_an_escaped_plus_are_read() -> None:
    written = b'{"ts_utc":"2026-04-01T14:00:25.2153057\\u002B00:00","event":"X","data":null}'
    assert read(written).occurred_at == datetime(2026, 4, 1, 14, 0, 25, 215305, tzinfo=UTC)


def test_a_byte_order_mark_and_both_line_ends_are_no_part_of_a_line() -> None:
    plain = json.dumps(line("X")).encode()
    assert read(b"\xef\xbb\xbf" + plain + b"\r") == read(plain)


def test_nul_bytes_around_a_line_are_skipped_and_inside_it_refused() -> None:
    plain = json.dumps(line("X")).encode()
    assert read(b"\x00" * 10 + plain) == read(plain)
    refused(plain[:20] + b"\x00" + plain[20:])
    refused(b"\x00" * 100)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"rubbish", b"[]", b"7", b"null", b'"x"', b'{"event":', b"\xff\xfe{}",
        b"[" * 100_000, b'{"a":' * 100_000, b'{"event":"X"' + b" " * MAX_LINE_BYTES + b"}",
    ],
)  # fmt: skip
def test_what_is_no_json_object_is_refused_with_a_sentence_and_a_sample(content: bytes) -> None:
    found = refused(content)
    assert found.code == "UNREADABLE"
    assert found.detail.endswith(".")
    assert len(found.sample) <= 500


def test_deeply_nested_data_is_refused() -> None:
    deep: Any = "x"
    for _ in range(40):
        deep = {"a": deep}
    assert "nested" in refused(json.dumps(line("X", data=deep)).encode()).detail


def test_a_key_given_twice_with_two_values_is_refused_and_with_one_is_not() -> None:
    start = json.dumps(line("X"))[:-1]
    refused(f'{start}, "run_id": "other"}}'.encode())
    read(f'{start}, "run_id": "run-a"}}'.encode())


def test_numbers_that_no_column_holds_are_kept_as_text() -> None:
    start = json.dumps(line("X", data={}))[:-1]
    written = f'{start}, "a": {"9" * 5000}, "b": NaN, "c": 1e999, "d": -Infinity, "e": 7}}'
    record = read(written.encode()).record
    assert (record["a"], record["b"], record["c"]) == ("9" * 5000, "NaN", "1e999")
    assert (record["d"], record["e"]) == ("-Infinity", 7)


def test_lone_surrogates_and_nul_escapes_become_storable_text() -> None:
    found = read(b'{"event":"A\\ud800B\\u0000","ts_utc":"2026-04-01T14:00:25Z"}')
    assert found.event_type == "A�B�"
    found.event_type.encode()


def test_a_line_without_a_name_is_refused() -> None:
    assert refused(json.dumps({**line("X"), "event": None}).encode()).code == "NO_EVENT_NAME"


def test_masked_and_opaque_values_are_no_names() -> None:
    data = {
        "canonical_instrument": "[REDACTED]",
        "execution_instrument": "System.Collections.Generic.List`1[System.String]",
    }
    found = read(line("ORDER_X", data=data))
    assert (found.canonical_instrument, found.execution_instrument) == ("", "")


def test_both_identities_are_found_wherever_they_may_stand() -> None:
    for where in ({"canonical_instrument": "ES"}, {"data": {"canonical_instrument": "ES"}}):
        assert read({**line("X"), **where}).canonical_instrument == "ES"
    for where in (
        {"execution_instrument": "MES"},
        {"data": {"execution_instrument": "MES"}},
        {"data": {"execution_instrument_key": "MES"}},
        {"execution_instrument_full_name": "MES"},
    ):
        assert read({**line("X"), **where}).execution_instrument == "MES"
    assert read(line("X", instrument="MES")).execution_instrument == ""


def test_a_feed_line_is_the_same_event() -> None:
    found = read(
        {
            "event_seq": 7,
            "run_id": "run-a",
            "event_type": "ORDER_SUBMITTED",
            "timestamp_utc": "2026-04-01T15:00:00.0000000+00:00",
            "stream": "ES1",
            "instrument": "ES",
            "execution_instrument": "MES",
            "canonical_instrument": "ES",
            "execution_instrument_full_name": "MES 06-26",
            "data": {},
        }
    )
    assert (found.shape, found.event_type, found.occurred_at) == (
        Shape.FEED,
        "ORDER_SUBMITTED",
        NOW,
    )
    assert found.execution_names == ("MES", "MES 06-26")


def test_a_time_in_chicago_counts_only_with_its_offset() -> None:
    feed = {"event_type": "X", "timestamp_chicago": "2026-11-01T01:30:00"}
    refused(json.dumps(feed).encode())
    feed["timestamp_chicago"] += "-06:00"
    assert read(feed).occurred_at == datetime(2026, 11, 1, 7, 30, tzinfo=UTC)


def test_the_engines_own_stream_is_none() -> None:
    found = read(line("X", stream="__engine__", data={"stream": "NG1"}))
    assert (found.stream_id, found.on_stream) == ("NG1", False)
    assert read(line("X", stream="NG1")).on_stream


def test_a_journal_is_read_with_and_without_its_wrapper() -> None:
    wrapped = journal("ES1", "MES")
    for value in (wrapped, wrapped["record"]):
        found = read(value)
        assert found.shape is Shape.JOURNAL
        assert (found.stream_id, found.execution_instrument) == ("ES1", "MES")
        assert found.occurred_at == NOW
    assert read(wrapped).run_id == "state"


def test_a_journal_without_a_time_has_the_day_in_its_files_name_and_says_so() -> None:
    found = read(journal("", "", at=None))
    assert found.occurred_at == datetime(2026, 4, 1, tzinfo=UTC)
    assert not found.time_is_exact


@pytest.mark.parametrize(
    ("given", "token"),
    [
        (7, 7),
        ("7", 7),
        ("x", None),
        (True, None),
        (-1, None),
        (2**63, None),
        (2**63 - 1, 2**63 - 1),
    ],
)
def test_a_fencing_token_is_a_64_bit_integer_or_none(given: Any, token: int | None) -> None:
    assert read({**line("X"), "fencing_token": given}).fencing_token == token


def test_names_too_long_for_a_column_stay_distinct() -> None:
    one, other = (read(line("X", run="r" * 500 + end)).run_id for end in "ab")
    assert len(one) == len(other) == 128
    assert one != other
