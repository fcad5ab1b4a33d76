"""Whatever one line says, it costs only itself: the lines around it are stored, judged, told of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from identity.explain import explain_market
from identity.ingest import ingest_file, ingest_posted
from identity.models import IdentityEvent, IngestError, Violation
from tests.identity.cast import (
    HERE,
    NO_LEASES,
    NOW,
    ago,
    complete,
    incomplete,
    line,
    open_violations,
    post,
    stamp,
    standing,
    swept,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("registry")]


def with_data(data: str, event: str = "ORDER_X") -> bytes:
    return f'{{"ts_utc":"{stamp(NOW)}","event":"{event}","run_id":"odd","data":{data}}}'.encode()


READ = {
    "not a number, and infinity": with_data('{"x":NaN,"y":-Infinity}'),
    "a number that no float holds": with_data('{"x":1e400,"y":-1e400}'),
    "a number too small for a database": with_data('{"x":1e-20000}'),
    "more digits than a database keeps": with_data('{"x":0.' + "1" * 20_000 + "}"),
    "an integer of a hundred thousand digits": with_data('{"x":' + "9" * 100_000 + "}"),
    "the last integers that a column holds": with_data(
        '{"x":9223372036854775807,"y":-9223372036854775808,"z":9223372036854775808}'
    ),
    "NUL in names and values": with_data('{"k\\u0000":"v\\u0000","stream":"ES\\u00001"}'),
    "half a surrogate pair": with_data('{"a":"\\ud83d","b":"\\uDC00","\\ud800":"c"}'),
    "a whole surrogate pair": with_data('{"a":"\\ud83d\\ude00"}'),
    "text beyond ASCII": with_data('{"a":"→ 日本 😀"}'),
    "what COPY takes for its own": with_data('{"x":"\\\\N\\t\\n\\\\.","y":"\\\\"}'),
    "what a statement takes for its own": with_data(
        '{"a":"%s %(b)s {}","canonical_instrument":"%s"}'
    ),
    "a key given twice with one value": with_data('{"a":"1","a":"1"}'),
    "as deep as is allowed": with_data('{"x":' + "[" * 30 + "]" * 30 + "}"),
    "many shallow lists": with_data('{"x":[' + "[]," * 5_000 + "[]]}"),
    "NUL before it, as a power cut leaves": b"\x00" * 100 + with_data("{}"),
    "names far too long": json.dumps(
        line("ORDER_" + "X" * 5_000, run="r" * 5_000, stream="ES" * 4_000, account="a" * 5_000)
    ).encode(),
    "names that are none": json.dumps(
        line("ORDER_X", stream=["x"], data={"canonical_instrument": ["ES"], "instrument": {}})
    ).encode(),
    "data that is no object": with_data("[1, 2]"),
    "a time of another century": json.dumps(
        line("ORDER_X", ts_utc="2099-01-01T00:00:00Z")
    ).encode(),
}
REFUSED = {
    "too deep": with_data('{"x":' + "[" * 31 + "]" * 31 + "}"),
    "far too deep": with_data('{"x":' + "[" * 100_000 + "]" * 100_000 + "}"),
    "a key given twice with two values": with_data('{"a":"1","\\u0061":"2"}'),
    "NUL inside": with_data('"\x00"'),
    "nothing but NUL": b"\x00" * 5_000,
    "no UTF-8": with_data("{}") + b"\xe9",
    "half a surrogate pair as bytes": with_data('"').replace(b'"}', b'\xed\xa0\x80"}'),
    "two objects": with_data("{}") * 2,
    "a list": b"[1]",
    "no event": b"{}",
    "a day that means two": json.dumps(line("ORDER_X", ts_utc="01/04/2026 14:00:25")).encode(),
    "the year one": json.dumps(line("ORDER_X", ts_utc="0001-01-01T00:00:00Z")).encode(),
    "the last hour of all years": json.dumps(
        line("ORDER_X", ts_utc="9999-12-31T23:59:59-23:59")
    ).encode(),
}


@pytest.mark.parametrize("name", [*READ, *REFUSED])
def test_an_odd_line_costs_only_itself(tmp_path: Path, name: str) -> None:
    odd = READ.get(name) or REFUSED[name]
    before, after = (json.dumps(complete(at=ago(n))).encode() for n in (20, 10))
    path = tmp_path / "robot_ODD.jsonl"
    path.write_bytes(b"\n".join([before, odd, after]) + b"\n")
    outcome = ingest_file(path, HERE, NOW)
    assert (outcome.accepted, outcome.rejections) == ((3, 0) if name in READ else (2, 1))
    assert ingest_posted([before, odd, after], HERE, NOW).accepted == outcome.accepted
    for event in IdentityEvent.objects.all():
        json.dumps(event.data, allow_nan=False).encode()
    for market in swept():
        assert explain_market(market, None, NOW, NO_LEASES)
    assert IngestError.objects.count() == (0 if name in READ else 2)


@pytest.mark.parametrize("name", READ)
def test_what_is_kept_of_a_line_is_what_was_judged(name: str) -> None:
    ingest_posted([READ[name]], HERE, NOW)
    kept = IdentityEvent.objects.get(origin="robot").data
    again = dict(kept, event_id="again")
    ingest_posted([again], HERE, NOW)
    first, second = IdentityEvent.objects.filter(origin="robot").order_by("id")
    assert second.data == again
    assert (first.market, first.run_id, first.stream_id) == (
        second.market,
        second.run_id,
        second.stream_id,
    )


def test_a_log_that_lies_in_two_folders_is_one_log(tmp_path: Path) -> None:
    content = b"".join(json.dumps(incomplete(seq=n)).encode() + b"\n" for n in range(3))
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "robot_ES.jsonl").write_bytes(content)
        ingest_file(tmp_path / folder / "robot_ES.jsonl", HERE, NOW)
    assert open_violations() == [("ES", "EVENT_IDENTITY_INCOMPLETE", "ORDER_SUBMITTED", 3)]


def test_a_fleet_gone_mad_is_red_and_told_of_in_bounds() -> None:
    post(*[complete(run=f"run-{n}", at=ago(100 - n / 10)) for n in range(60)])
    swept()
    rows = Violation.objects.filter(code="DUPLICATE_EXECUTOR", ended_at__isnull=True)
    assert 20 <= rows.count() <= 59
    assert max(len(row.runs) for row in rows) <= 21
    assert standing().status == "VIOLATION"
    # It is over once no two of them are left that may execute.
    post(*[line("ENGINE_STOP", run=f"run-{n}") for n in range(58)])
    swept()
    assert standing().status == "VIOLATION"
    post(line("ENGINE_STOP", run="run-58"))
    swept()
    assert not rows.all().exists()
