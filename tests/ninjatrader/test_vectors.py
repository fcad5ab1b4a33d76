"""The guard for NinjaTrader concludes what docs/protocol says, by the Python guard's own replay."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from canonical_guard.oslock import is_held
from canonical_guard.taking import Wanted
from tests.guard import holder
from tests.guard.found import Host
from tests.guard.test_conformance import (
    CLIENT,
    OTHERWISE,
    RECORD,
    asked_of_an_authority,
    cases,
    is_a,
)
from tests.ninjatrader.driver import Driver
from tests.ninjatrader.remote import Remote
from tests.vectors import Vector


@pytest.fixture
def remote(staged_drivers: Callable[[], Driver], monkeypatch: pytest.MonkeyPatch) -> Remote:
    return Remote(staged_drivers(), monkeypatch)


@pytest.mark.parametrize("case", cases(CLIENT))
def test_the_guard_concludes_what_the_protocol_says(
    case: Vector, tmp_path: Path, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder.play(case, {**CLIENT, "otherwise": OTHERWISE}, tmp_path, monkeypatch)


@pytest.mark.parametrize("case", cases(RECORD))
def test_files_found_on_the_host_mean_what_the_protocol_says(
    case: Vector, tmp_path: Path, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as letting_go:
        host = Host(tmp_path, case["given"], letting_go)
        asks = case.get("asks")
        wanted = Wanted(symbol="MES", run_id="run-1", root=tmp_path)
        if asks is not None:
            wanted = asked_of_an_authority(asks, tmp_path, letting_go, monkeypatch)
        host.assert_start(case["expect"], wanted)


@pytest.mark.parametrize("named", RECORD["names"], ids=lambda named: named["scope"][:20])
def test_a_lock_s_files_are_named_as_the_protocol_says(
    named: Vector, tmp_path: Path, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as letting_go:
        asks = {"account": named["scope"] or None, "granted_scope": named["scope"]}
        wanted = asked_of_an_authority(asks, tmp_path, letting_go, monkeypatch)
        held = remote.take_market(wanted, lambda event, sentence: None)
        folder = tmp_path / "runtime_locks"
        assert (folder / named["record"]).is_file()
        assert is_held(folder / named["sidecar"])
        held.release("clean", lambda event, sentence: None)
        assert not is_held(folder / named["sidecar"])


def test_a_holder_writes_the_record_that_the_protocol_says(
    tmp_path: Path, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as letting_go:
        asks = {"account": None, "granted_scope": ""}
        wanted = asked_of_an_authority(asks, tmp_path, letting_go, monkeypatch)
        held = remote.take_market(wanted, lambda event, sentence: None)
        found = json.loads(Path(held.record_path).read_text())
        sidecar = tmp_path / "runtime_locks" / ".canonical_ES.guard"
        mode = stat.S_IMODE(sidecar.stat().st_mode)
        held.release("clean", lambda event, sentence: None)
    written = RECORD["written"]
    assert set(found) == set(written["values"]) | set(written["kinds"])
    assert {name: found[name] for name in written["values"]} == written["values"]
    assert mode == 0o600
    for name, kind in written["kinds"].items():
        assert is_a(kind, found[name]), (name, found[name])
