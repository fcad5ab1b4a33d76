"""The guard for NinjaTrader reads JSON itself; what it takes and what it refuses."""

from __future__ import annotations

import json

import pytest

from tests.ninjatrader.conftest import StartDriver

VALUES = [
    {"a": [1, -2.5, 1e3, 9223372036854775807, True, False, None, "ä\U0001f600\"\\/\b\f\n\r\t\x01"]},
    [], {}, "", 0, [[[[]]]], {"": {"": []}}, 0.1, -0.0,
]  # fmt: skip
BAD = [
    "", " ", "{", "}", "[1,]", '{"a":1,}', "{a:1}", "{'a':1}", "01", "+1", "1.", ".5", "1e", "nul",
    "True", '"', '"\n"', '"\\x"', '"\\u12"', "[1 2]", "[1]]", "NaN", "Infinity", "1e999", "//",
    "[" * 65 + "]" * 65, "[" * 100_000, '{"a" 1}', "--1", '"\\ud8g0"',
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_what_is_read_and_written_again_is_the_same(
    start_driver: StartDriver, value: object
) -> None:
    driver = start_driver()
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        assert json.loads(driver.call("parse", text=text)) == value


def test_what_is_no_json_is_refused(start_driver: StartDriver) -> None:
    driver = start_driver()
    for text in BAD:
        assert driver.call("readable", text=text) is False, text
    assert driver.call("readable", text='{"a": [' + "[" * 60 + "]" * 60 + "]}") is True


def test_bytes_that_are_no_utf_8_are_no_object(start_driver: StartDriver) -> None:
    assert start_driver().call("object", hex=b'{"a": "\xff"}'.hex()) is None
    assert start_driver().call("object", hex=b'\xef\xbb\xbf{"a": 1}'.hex()) == {"a": 1}
    assert start_driver().call("object", hex=b"[1]".hex()) is None
