"""Each rule of identity: what breaks it, what keeps it, and what it has nothing to say about."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canonical_guard.symbols import builtin_registry
from identity.invariants import CODES, INVARIANTS, Evidence, judge, market_of
from identity.lexicon import Lexicon
from identity.reports import read_self_test
from identity.robotlog import NormalisedEvent, read_line
from tests.identity.cast import ago, complete, incomplete, journal, leases, line, tenure

LEXICON = Lexicon(builtin_registry())


def evidence(value: dict[str, Any], **more: Any) -> Evidence:
    event = read_line(value)
    assert isinstance(event, NormalisedEvent)
    return Evidence(LEXICON, event, **more)


def broken(value: dict[str, Any], **more: Any) -> set[tuple[str, str, str]]:
    """Code, market and subject of everything wrong."""
    found = judge(evidence(value, **more))
    assert all(finding.message for finding in found if not finding.right)
    return {(one.code, one.market, one.subject) for one in found if not one.right}


def test_there_is_one_function_for_each_code() -> None:
    assert len(INVARIANTS) == len(CODES) == 9
    assert {function.__name__.upper() for function in INVARIANTS} == set(CODES)


def test_a_complete_order_breaks_nothing() -> None:
    assert broken(complete()) == set()


@pytest.mark.parametrize(
    "prefix", ["ORDER", "EXECUTION", "INTENT", "PROTECTIVE", "STREAM", "TRADE"]
)
def test_an_event_of_each_prefix_must_carry_both_identities(prefix: str) -> None:
    name = f"{prefix}_SOMETHING"
    assert broken(incomplete(name)) == {("EVENT_IDENTITY_INCOMPLETE", "ES", name)}
    for key in ("canonical_instrument", "execution_instrument"):
        assert (("EVENT_IDENTITY_INCOMPLETE", "ES", name)) in broken(
            line(name, data={key: "MES" if key.startswith("exec") else "ES"})
        )


@pytest.mark.parametrize("name", ["ORDERS", "ENGINE_ALIVE", "REORDER_X", "BE_TRIGGERED", "order_x"])
def test_other_events_need_no_identity(name: str) -> None:
    assert broken(incomplete(name)) == set()


def test_the_instrument_alone_is_neither_identity_but_tells_the_market() -> None:
    assert broken(line("ORDER_X", instrument="MNQ")) == {
        ("EVENT_IDENTITY_INCOMPLETE", "NQ", "ORDER_X")
    }
    assert broken(line("ORDER_X")) == {("EVENT_IDENTITY_INCOMPLETE", "", "ORDER_X")}


@pytest.mark.parametrize(
    ("stream", "market"),
    [("MES1", "ES"), ("ES", ""), ("ES0", ""), ("ES01", ""), ("ZZ1", ""), ("1", ""), ("es1", "ES")],
)
def test_a_stream_id_is_a_canonical_symbol_and_a_number(stream: str, market: str) -> None:
    found = broken(line("RANGE_BUILT", stream=stream))
    assert found == {("STREAM_ID_NOT_CANONICAL", market, stream)}


@given(st.sampled_from(sorted(LEXICON.canonicals)), st.integers(1, 9999))
def test_every_canonical_symbol_and_number_is_a_stream_id(symbol: str, number: int) -> None:
    assert LEXICON.canonical_of_stream(f"{symbol}{number}") == symbol
    assert broken(line("RANGE_BUILT", stream=f"{symbol}{number}")) == set()


@given(st.text(max_size=20))
def test_no_stream_id_raises(text: str) -> None:
    lexicon = Lexicon({"6E": "6E", "E7": "6E", "M2K": "RTY", "RTY": "RTY", "6": "6"})
    symbol = lexicon.canonical_of_stream(text)
    assert text.startswith(symbol)
    lexicon.market_of_stream(text)


def test_a_symbol_may_end_in_a_digit_itself() -> None:
    lexicon = Lexicon({"TY10": "TY10", "TY": "TY"})
    assert lexicon.canonical_of_stream("TY101") == "TY10"
    assert lexicon.canonical_of_stream("TY1") == "TY"


def test_a_line_that_only_mentions_a_stream_is_not_its_evidence() -> None:
    assert broken(line("OPPOSITE_ENTRY_CANCELLED", data={"stream": "MES1"})) == set()


def test_a_journal_needs_a_stream_and_an_execution_instrument_that_belong_together() -> None:
    assert broken(journal("ES1", "MES")) == set()
    assert broken(journal("", "")) == {
        ("STREAM_ID_NOT_CANONICAL", "", ""),
        ("EXECUTION_INSTRUMENT_MISSING", "", ""),
    }
    assert broken(journal("NG1", "")) == {("EXECUTION_INSTRUMENT_MISSING", "NG", "NG1")}
    assert broken(journal("UNTRACKED_RECOVERY", "MGC")) == {
        ("STREAM_ID_NOT_CANONICAL", "GC", "UNTRACKED_RECOVERY")
    }
    assert broken(journal("NG1", "MNQ")) == {("EXECUTION_NOT_OF_CANONICAL", "NG", "NG1")}


def test_a_stream_that_says_its_execution_instrument_is_empty_lacks_one() -> None:
    value = line("RANGE_BUILT", stream="ES1", execution_instrument="", canonical_instrument="ES")
    assert broken(value) == {("EXECUTION_INSTRUMENT_MISSING", "ES", "ES1")}
    assert broken(line("RANGE_BUILT", stream="ES1")) == set()


@pytest.mark.parametrize(
    "execution", [{"execution_instrument": "MNQ"}, {"execution_instrument_full_name": "MNQ 06-26"}]
)
def test_an_order_of_one_market_must_not_go_to_anothers_product(execution: Any) -> None:
    value = line("ORDER_X", data={"canonical_instrument": "NG", **execution})
    assert broken(value) == {("EXECUTION_NOT_OF_CANONICAL", "NG", "ORDER_X")}


def test_two_words_for_one_identity_must_agree() -> None:
    value = complete(execution_instrument="MNQ")
    assert broken(value) == {("EXECUTION_NOT_OF_CANONICAL", "ES", "ES1")}
    value = complete(canonical_instrument="NQ")
    codes = {code for code, _, _ in broken(value)}
    assert "INSTRUMENT_MISMATCH" in codes


def test_a_micro_is_no_canonical_instrument() -> None:
    value = line("ORDER_X", data={"canonical_instrument": "MES", "execution_instrument": "MES"})
    assert broken(value) == {("INSTRUMENT_MISMATCH", "ES", "ORDER_X")}


def test_a_streams_own_instrument_is_its_canonical_one() -> None:
    names = {"canonical_instrument": "ES", "execution_instrument": "MES"}
    right = line("STREAM_ARMED", stream="ES1", instrument="ES", data=names)
    wrong = line("STREAM_ARMED", stream="ES1", instrument="MES", data=names)
    other = line("RANGE_BUILT", stream="ES1", instrument="MNQ")
    assert broken(right) == set()
    assert broken(wrong) == {("INSTRUMENT_MISMATCH", "ES", "ES1")}
    assert broken(other) == {("INSTRUMENT_MISMATCH", "ES", "RANGE_BUILT ES1")}


def test_an_order_filed_under_its_execution_instrument_is_no_mismatch() -> None:
    assert broken(complete(stream="ES1")) == set()


def test_an_instrument_the_registry_lacks_is_unknown_and_of_no_market() -> None:
    value = line("ORDER_X", data={"canonical_instrument": "QQQ", "execution_instrument": "SPY"})
    assert broken(value) == {("UNKNOWN_INSTRUMENT", "", "ORDER_X")}
    assert broken(line("ENGINE_ALIVE", instrument="QQQ")) == set()


def test_a_self_tests_mapping_is_the_registrys() -> None:
    def self_test(mappings: Any) -> set[tuple[str, str, str]]:
        value = line(
            "CANONICALIZATION_SELF_TEST",
            data={"instrument_mappings": mappings, "canonical_stream_ids": ["ES1", "MNQ1"]},
        )
        event = read_line(value)
        assert isinstance(event, NormalisedEvent)
        return broken(value, self_test=read_self_test(event))

    wrong_stream = ("STREAM_ID_NOT_CANONICAL", "NQ", "MNQ1")
    drift = ("MAPPING_DRIFT", "ES", "CANONICALIZATION_SELF_TEST")
    assert self_test({"MES": "ES"}) == {wrong_stream}
    assert self_test({"MES": "NQ"}) == {wrong_stream, drift}
    assert self_test("MES->MES, MNQ->NQ") == {wrong_stream, drift}
    unknown = ("UNKNOWN_INSTRUMENT", "", "CANONICALIZATION_SELF_TEST")
    assert self_test({"SPY": "ES"}) == {wrong_stream, unknown}


def test_a_token_is_judged_against_the_tenure_at_the_events_time() -> None:
    over = tenure(41, acquired_at=ago(300), ended_at=ago(100))
    running = tenure(42, acquired_at=ago(90))
    facts = leases(over, running)(ago(1000))

    def with_token(token: int, age: float) -> set[str]:
        value = complete(at=ago(age), fencing_token=token)
        return {code for code, _, _ in broken(value, tenures=facts)}

    assert with_token(41, 200) == set()
    assert with_token(41, 50) == {"STALE_FENCING_TOKEN"}
    assert with_token(42, 50) == set()
    assert with_token(43, 50) == {"STALE_FENCING_TOKEN"}
    assert broken(complete(fencing_token=1)) == set(), "nobody was asked"


def test_the_market_is_told_by_the_strongest_name() -> None:
    def market(**names: Any) -> str:
        event = read_line(line("ORDER_X", **names))
        assert isinstance(event, NormalisedEvent)
        return market_of(event, LEXICON)

    weaker = {"stream": "NQ1", "execution_instrument": "MGC", "instrument": "MYM"}
    assert market(canonical_instrument="ES", **weaker) == "ES"
    assert market(**weaker) == "NQ"
    assert market(execution_instrument="MGC 06-26", instrument="MYM") == "GC"
    assert market(instrument="/MYM") == "YM"
    assert market() == ""


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "stream": st.sampled_from(["ES1", "MES1", "", "__engine__"]) | st.text(max_size=8),
            "instrument": st.sampled_from(["ES", "MES", "NQ", ""]) | st.text(max_size=8),
            "canonical_instrument": st.sampled_from(["ES", "MES", ""]) | st.text(max_size=8),
            "execution_instrument": st.sampled_from(["ES", "MES", "MNQ"]) | st.text(max_size=8),
            "fencing_token": st.integers(),
        },
    ),
    st.sampled_from(["ORDER_X", "STREAM_X", "ENGINE_ALIVE", "IDENTITY_INVARIANTS_STATUS"]),
)
def test_every_finding_has_a_code_a_known_market_and_a_message_if_wrong(
    names: dict[str, Any], event: str
) -> None:
    for finding in judge(evidence(line(event, **names), tenures=[])):
        assert finding.code in CODES
        assert finding.market in LEXICON.canonicals | {""}
        assert bool(finding.message) is not finding.right
