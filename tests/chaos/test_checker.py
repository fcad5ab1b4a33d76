"""The checker sees what must never be seen, and only that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.chaos import checker
from tests.chaos.checker import History, TenureFact, judge
from tests.chaos.record import Record

TTL = DELAY = 15.0


def tenure(token: int, acquired: float, ended: float | None, **other: Any) -> TenureFact:
    fields: dict[str, Any] = {
        "lock": "ES",
        "token": token,
        "run": f"run-{token}",
        "acquired": acquired,
        "ended": ended,
        "end": "" if ended is None else "released",
        "takeover": False,
        "delay": DELAY,
    }
    return TenureFact(**(fields | other))


def granted(token: int, at: float, **other: Any) -> dict[str, Any]:
    who = {"who": f"process-{token}", "run": f"run-{token}", "pid": token, "takeover": False}
    return {"kind": "granted", "lock": "ES", "token": token, "at": at, "ttl": TTL, **who, **other}


def acts(token: int | None, *times: float, who: str | None = None) -> list[dict[str, Any]]:
    who = who or f"process-{token}"
    return [{"kind": "act", "lock": "ES", "token": token, "who": who, "at": at} for at in times]


def verified(token: int, asked: float, *, ok: bool) -> dict[str, Any]:
    times = {"asked": asked, "answered": asked + 0.1}
    return {"kind": "verified", "lock": "ES", "token": token, "ok": ok, **times}


def kinds(
    lines: list[dict[str, Any]], tenures: list[TenureFact], patience: float | None = None
) -> list[str]:
    return [violation.kind for violation in judge(History.read(lines), tenures, patience)]


CLEAN = [
    granted(1, 0.1),
    *acts(1, 1, 5, 9),
    verified(1, 9, ok=True),
    granted(2, 11),
    *acts(2, 12, 13),
    verified(1, 12, ok=False),
]
TENURES = [tenure(1, 0, 10), tenure(2, 10.9, None)]


def test_a_history_in_which_one_holds_after_the_other_is_right() -> None:
    assert kinds(CLEAN, TENURES, patience=1) == []


def test_a_takeover_after_the_delay_is_right() -> None:
    ends = [tenure(1, 0, 10, end="expired"), tenure(2, 25, 30, takeover=True)]
    assert kinds([granted(1, 0.1), *acts(1, 9), granted(2, 25.1), *acts(2, 26)], ends) == []


@pytest.mark.parametrize(
    ("lines", "tenures", "kind"),
    [
        pytest.param(acts(1, 1, 9) + acts(2, 8, 12), [], checker.OVERLAP, id="overlap"),
        pytest.param(acts(1, 1, 20) + acts(2, 8, 9), [], checker.OVERLAP, id="within another"),
        pytest.param(
            acts(1, 1, 20) + acts(2, 8, 9) + acts(3, 19),
            [],
            checker.OVERLAP,
            id="a long one hides behind a short one",
        ),
        pytest.param(
            acts(1, 1, 5, who="a") + acts(1, 3, who="b"), [], checker.OVERLAP, id="one token, two"
        ),
        pytest.param(
            acts(None, 1, 5, who="a") + acts(None, 3, who="b"), [], checker.OVERLAP, id="no token"
        ),
        pytest.param(
            [], [tenure(2, 0, 1), tenure(1, 2, 3)], checker.TOKEN_REPEATED, id="token went back"
        ),
        pytest.param(
            [], [tenure(1, 0, 1), tenure(1, 2, 3)], checker.TOKEN_REPEATED, id="token repeated"
        ),
        pytest.param(
            [],
            [tenure(1, 0, 1, run="r"), tenure(2, 2, 3, run="r")],
            checker.TOKEN_REPEATED,
            id="a run that came back",
        ),
        pytest.param([granted(7, 0)], [], checker.TOKEN_REPEATED, id="token out of nowhere"),
        pytest.param(
            [granted(1, 0), granted(1, 1, who="another")],
            [tenure(1, 0, None)],
            checker.TOKEN_REPEATED,
            id="token given to two",
        ),
        pytest.param(
            [verified(1, 10.1, ok=True)], [tenure(1, 0, 10)], checker.STALE_WRITE, id="late write"
        ),
        pytest.param([verified(9, 1, ok=True)], [], checker.STALE_WRITE, id="made-up token"),
        pytest.param(
            acts(1, 10.95), TENURES, checker.NOT_STOOD_DOWN, id="acted after the next grant"
        ),
        pytest.param(
            acts(1, 10.05), [tenure(1, 0, 10)], checker.ALIVE_WHEN_GRANTABLE, id="after release"
        ),
        pytest.param(
            acts(1, 25.1),
            [tenure(1, 0, 10, end="expired")],
            checker.ALIVE_WHEN_GRANTABLE,
            id="after the delay",
        ),
        pytest.param(
            [], [tenure(1, 0, None), tenure(2, 5, 6)], checker.TENURES_OVERLAP, id="never ended"
        ),
        pytest.param(
            [], [tenure(1, 0, 5), tenure(2, 4, 6)], checker.TENURES_OVERLAP, id="ended later"
        ),
        pytest.param(
            [],
            [tenure(1, 0, 10, end="revoked"), tenure(2, 24, 30, takeover=True)],
            checker.GRANTED_TOO_EARLY,
            id="no delay",
        ),
        pytest.param(
            [],
            [tenure(1, 0, 10, end="crashed"), tenure(2, 11, 30)],
            checker.TAKEOVER_UNTOLD,
            id="takeover untold",
        ),
        pytest.param(
            [
                granted(1, 0),
                {"kind": "renewed", "lock": "ES", "token": 1}
                | {"sent": 15.1, "answered": 15.2, "ttl": TTL},
            ],
            [tenure(1, 0, None)],
            checker.DEAD_LEASE_RENEWED,
            id="dead lease renewed",
        ),
        pytest.param(
            [{"kind": "waited", "lock": "ES", "since": 0, "until": 1.1, "granted": False}],
            [],
            checker.STARVED,
            id="starved",
        ),
    ],
)
def test_a_breach_is_seen_and_named(
    lines: list[dict[str, Any]], tenures: list[TenureFact], kind: str
) -> None:
    assert kind in kinds(lines, tenures, patience=1)


def test_a_line_that_a_killed_process_left_unfinished_spoils_no_other(tmp_path: Path) -> None:
    record = Record(tmp_path / "record")
    record.write("act", lock="ES", token=1, who="a", at=1.0)
    with record.path.open("ab") as file:
        file.write(b'\n{"kind":"act","lock":"ES","tok')
    record.write("act", lock="ES", token=2, who="b", at=2.0)
    assert [line["token"] for line in record.lines()] == [1, 2]
