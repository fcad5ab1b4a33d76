"""The server answers as docs/protocol says, case by case: the real views, over both databases."""

from __future__ import annotations

import json
from contextlib import nullcontext
from functools import partial

import pytest

from locks.services import reap_expired
from tests.locks.cast import pass_time
from tests.locks.conformance import StagedAuthority
from tests.locks.rivals import all_at_once, somebody_holds_the_row
from tests.vectors import FOLDER, Vector, filled, load, title

pytestmark = pytest.mark.django_db(transaction=True)

SETTING = load("server.json")
CASES = [filled(case, SETTING["examples"]) for name in SETTING["cases_in"] for case in load(name)]


@pytest.mark.parametrize("case", CASES, ids=title)
def test_the_server_answers_as_the_protocol_says(case: Vector) -> None:
    authority = StagedAuthority(SETTING, case["given"])
    for step in case["steps"]:
        pass_time(step.get("time_passes", 0))
        if step.get("reap"):
            reap_expired()
        if "at_once" in step:
            _ask_at_once(authority, step)
        else:
            blocked = step.get("database") == "blocked"
            with somebody_holds_the_row() if blocked else nullcontext():
                answer = authority.ask(step["request"])
            authority.assert_answer(step["answer"], answer)
        authority.assert_then(step.get("then", {}))


def _ask_at_once(authority: StagedAuthority, step: Vector) -> None:
    """The answers are those of the vector, whoever got which."""
    came = all_at_once([partial(authority.ask, request) for request in step["at_once"]])
    came.sort(key=lambda answer: answer.status_code)
    expected = sorted(step["answers"], key=lambda answer: answer["status"])
    for answer, wanted in zip(came, expected, strict=True):
        authority.assert_answer(wanted, answer)


def test_no_file_of_server_vectors_is_left_out() -> None:
    there = {f"server/{path.name}" for path in (FOLDER / "server").glob("*.json")}
    assert there == set(SETTING["cases_in"])


def test_no_case_is_told_twice() -> None:
    titles = [title(case) for case in CASES]
    assert sorted(set(titles)) == sorted(titles)


CODES = {
    "CANONICAL_MARKET_ALREADY_ACTIVE", "ALREADY_LOCKED", "LOCK_DELAY", "CANONICAL_MARKET_LOCK_LOST",
    "UNKNOWN_INSTRUMENT", "MAPPING_DRIFT", "ACCOUNT_REQUIRED", "KILL_SWITCH_ACTIVE",
    "STALE_FENCING_TOKEN", "LOCK_AUTHORITY_UNAVAILABLE", "NOT_AUTHENTICATED", "INVALID_API_KEY",
    "FORBIDDEN", "INVALID_BODY", "MALFORMED_BODY", "BODY_TOO_LARGE",
}  # fmt: skip


def test_every_refusal_of_a_lock_request_has_a_case() -> None:
    said = json.dumps(CASES)
    assert not {code for code in CODES if f'"code": "{code}"' not in said}
