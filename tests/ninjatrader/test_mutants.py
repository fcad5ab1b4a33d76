"""The replay of the vectors is itself tested: each rule is left out of the C# once, and missed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from canonical_guard.taking import Wanted
from tests.guard import holder
from tests.guard.found import Host
from tests.guard.test_conformance import CLIENT, OTHERWISE, RECORD
from tests.ninjatrader.conftest import GUARD, HERE, compiled
from tests.ninjatrader.driver import Driver
from tests.ninjatrader.remote import Remote
from tests.vectors import Vector, filled, title


@dataclass(frozen=True)
class Mutant:
    """`instead` in the place of `rule`; the case whose name begins with `seen_by` must fail."""

    rule: str
    instead: str
    seen_by: str


MUTANTS = {
    "time counts from the answer": Mutant(
        "AskedAt = askedAt\n", "AskedAt = surroundings.Now()\n", "Time counts from before"
    ),
    "a renewal counts from its answer": Mutant(
        "renewedAt = renewal.SentAt", "renewedAt = surroundings.Now()", "A slow answer does not"
    ),
    "Check() leaves the clock to the thread": Mutant(
        "            Look();\n            string why = LostBecause;",
        "            string why = LostBecause;",
        "A process that was stopped past stop time",
    ),
    "an answer after stop time renews": Mutant(
        "was told to stop by then.\n            Look();",
        "was told to stop by then.\n",
        "A reply that waited",
    ),
    "trading stops a moment late": Mutant(
        "surroundings.Now() >= StopAt)",
        "surroundings.Now() >= StopAt + 1)",
        "Without a renewal trading stops at stop time",
    ),
    "any sidecar will do": Mutant(
        "return there != null && Identity(there) == Identity(Own());",
        "return there != null;",
        "A host lock whose file was replaced",
    ),
    "another's record is no loss": Mutant(
        'found.Told("run_id") != null) throw', "false) throw", "A record of other software"
    ),
    "a kill switch that is not told of is released": Mutant(
        '!Json.IsFalse(answer.Body, "kill_switch_active")',
        'Json.Integer(answer.Body, "kill_switch_active") != null',
        "A kill switch that is null",
    ),
    "a takeover is believed to be none": Mutant(
        '!Json.IsFalse(body, "takeover")', 'body["takeover"] is bool', "A takeover that is null"
    ),
    "a shorter lease is kept to": Mutant(
        "|| ttl.Value < Grant.Ttl", "", "A renewal for a shorter TTL"
    ),
    "a refusal is tried again": Mutant(
        "if (answer.Status == 429 || answer.Status >= 500",
        "if (answer.Status >= 400",
        "A 409 to a renewal",
    ),
    "a lost acquire is asked again with another nonce": Mutant(
        "Answer answer = authority.Post(\"/api/locks/acquire\", body,",
        "request[\"nonce\"] = Host.Random128();\n"
        "Answer answer = authority.Post(\"/api/locks/acquire\", Json.Write(request),",
        "A reply that was lost is asked for again",
    ),
    "nothing is locked": Mutant(
        "if (flock(descriptor, operation | NonBlocked) == 0) return true;",
        "if (operation > 0) return true;",
        "The OS lock excludes without any record",
    ),
    "older software is not waited for": Mutant(
        "return !IsByProtocol && Age < LegacyActiveSeconds;",
        "return false;",
        "A record without protocol was written by software",
    ),
    "a record of the protocol counts by its age": Mutant(
        "return !IsByProtocol && Age < LegacyActiveSeconds;",
        "return Age < LegacyActiveSeconds;",
        "A free OS lock beside a young record",
    ),
    "a mark without a record is no sign": Mutant(
        "LeftUncleanly = found != null || taken.IsMarked();",
        "LeftUncleanly = found != null;",
        "A mark without record",
    ),
    "accounts are not looked at": Mutant(
        "                    RefuseBesideAccounts();\n", "", "Who is granted the whole market"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_a_guard_without_this_rule_does_not_pass(
    name: str, mono: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant = MUTANTS[name]
    driver = Driver(built(mutant, tmp_path))
    try:
        case, replay = vector(mutant.seen_by)
        remote = Remote(driver, monkeypatch)
        with pytest.raises((AssertionError, ValueError)):
            replay(case, tmp_path / "root", remote, monkeypatch)
    finally:
        driver.close()


def built(mutant: Mutant, folder: Path) -> Path:
    text = GUARD.read_text()
    assert text.count(mutant.rule) == 1, "the rule is not written so any more"
    (folder / GUARD.name).write_text(text.replace(mutant.rule, mutant.instead))
    made = folder / "mutant.exe"
    done = compiled("-warnaserror-", f"-out:{made}", folder / GUARD.name, HERE / "Driver.cs")
    assert done.returncode == 0, done.stdout
    return made


Replay = Callable[[Vector, Path, Remote, pytest.MonkeyPatch], None]


def vector(beginning: str) -> tuple[Vector, Replay]:
    """The case of that name, and how its kind is replayed."""
    for vectors, replay in ((CLIENT, replay_client), (RECORD, replay_record)):
        for case in filled(vectors["cases"], vectors.get("examples", {})):
            if title(case).startswith(beginning):
                return case, replay
    raise LookupError(beginning)


def replay_client(
    case: Vector, root: Path, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder.play(case, {**CLIENT, "otherwise": OTHERWISE}, root, monkeypatch)


def replay_record(
    case: Vector, root: Path, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    root.mkdir()
    with ExitStack() as letting_go:
        host = Host(root, case["given"], letting_go)
        host.assert_start(case["expect"], Wanted(symbol="MES", run_id="run-1", root=root))
