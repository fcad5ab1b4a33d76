"""The Python guard concludes what docs/protocol says, case by case."""

from __future__ import annotations

import json
import stat
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from canonical_guard import client
from canonical_guard.oslock import is_held
from canonical_guard.taking import Wanted, take_market
from tests.guard import holder, kept
from tests.guard.found import Host
from tests.guard.staged import Script, StagedClock
from tests.vectors import Vector, filled, load, title

CLIENT, RECORD, KEEPER = load("client.json"), load("record.json"), load("keeper.json")
OTHERWISE = filled(CLIENT["otherwise"], CLIENT["examples"])
GRANT = CLIENT["examples"]["grant"]


def cases(vectors: Vector) -> list[Any]:
    found = filled(vectors["cases"], vectors.get("examples", {}))
    return [pytest.param(case, id=title(case)) for case in found]


@pytest.mark.parametrize("case", cases(CLIENT))
def test_the_guard_concludes_what_the_protocol_says(
    case: Vector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder.play(case, {**CLIENT, "otherwise": OTHERWISE}, tmp_path, monkeypatch)


@pytest.mark.parametrize("case", cases(RECORD))
def test_files_found_on_the_host_mean_what_the_protocol_says(
    case: Vector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as letting_go:
        host = Host(tmp_path, case["given"], letting_go)
        host.assert_state(case["expect"]["state"])
        asks = case.get("asks")
        wanted = Wanted(symbol="MES", run_id="run-1", root=tmp_path)
        if asks is not None:
            wanted = asked_of_an_authority(asks, tmp_path, letting_go, monkeypatch)
        host.assert_start(case["expect"], wanted)


def asked_of_an_authority(
    asks: Vector, root: Path, letting_go: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> Wanted:
    """Who grants the scope that the case says."""
    granting = {"status": 200, "body": {**GRANT, "scope": asks["granted_scope"]}}
    script = Script(StagedClock(), [], {**OTHERWISE, "acquire": granting})
    letting_go.enter_context(script)
    monkeypatch.setattr(client, "Authority", script.authority)
    return Wanted("MES", "run-1", root, script.url, holder.KEY, asks["account"])


@pytest.mark.parametrize("named", RECORD["names"], ids=lambda named: named["scope"][:20])
def test_a_lock_s_files_are_named_as_the_protocol_says(
    named: Vector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as letting_go:
        asks = {"account": named["scope"] or None, "granted_scope": named["scope"]}
        wanted = asked_of_an_authority(asks, tmp_path, letting_go, monkeypatch)
        held = take_market(wanted, lambda event, sentence: None)
        folder = tmp_path / "runtime_locks"
        assert (folder / named["record"]).is_file()
        assert is_held(folder / named["sidecar"])
        held.release("clean", lambda event, sentence: None)


def test_a_holder_writes_the_record_that_the_protocol_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as letting_go:
        asks = {"account": None, "granted_scope": ""}
        wanted = asked_of_an_authority(asks, tmp_path, letting_go, monkeypatch)
        held = take_market(wanted, lambda event, sentence: None)
        found = json.loads(held.host_lock.record_path.read_text())
        mode = stat.S_IMODE(held.host_lock.sidecar_path.stat().st_mode)
        held.release("clean", lambda event, sentence: None)
    written = RECORD["written"]
    assert set(found) == set(written["values"]) | set(written["kinds"])
    assert {name: found[name] for name in written["values"]} == written["values"]
    assert mode == 0o600
    for name, kind in written["kinds"].items():
        assert is_a(kind, found[name]), (name, found[name])


def is_a(kind: str, value: object) -> bool:
    if kind == "time with a zone":
        return datetime.fromisoformat(str(value)).tzinfo is not None
    kinds: dict[str, Any] = {"text": str, "integer": int, "integer or null": int | None}
    return isinstance(value, kinds[kind])


@pytest.mark.parametrize("case", cases(KEEPER))
def test_the_keeper_ends_the_robot_as_the_protocol_says(
    case: Vector, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.play(case, case.get("lease", KEEPER["lease"]), monkeypatch)
