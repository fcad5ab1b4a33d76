"""A host's runtime_locks as the record vectors lay them out, and a run that asks for ES there."""

from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack
from pathlib import Path

from canonical_guard.errors import CanonicalMarketAlreadyActive, GuardError
from canonical_guard.oslock import OsLock, is_held
from canonical_guard.overview import overview
from canonical_guard.taking import HeldMarket, Wanted, take_market
from tests.vectors import Vector, assert_like


class Host:
    """One project root. Locks are held by this test until `letting_go` ends."""

    def __init__(self, root: Path, given: Vector, letting_go: ExitStack) -> None:
        self.root = root
        self.folder = root / "runtime_locks"
        self.folder.mkdir()
        self._kept: dict[Path, bytes] = {}
        for sidecar in given.get("sidecars", []):
            lock = OsLock.open(self.sidecar(sidecar["of"]))
            letting_go.callback(lock.close)
            if sidecar.get("locked"):
                assert lock.take()
            if sidecar.get("marked"):
                lock.mark()
        for record in given.get("records", []):
            self._put(record)

    def record(self, name: str) -> Path:
        return self.folder / f"canonical_{name}.lock"

    def sidecar(self, name: str) -> Path:
        return self.folder / f".canonical_{name}.guard"

    def _put(self, given: Vector) -> None:
        path = self.record(given["of"])
        if given.get("folder"):
            path.mkdir()
        elif given.get("link"):
            target = self.root / "elsewhere"
            target.write_bytes(_content(given))
            path.symlink_to(target)
        else:
            path.write_bytes(_content(given))
            self._kept[path] = path.read_bytes()
        moment = time.time() - given["age"]
        os.utime(path, (moment, moment), follow_symlinks=False)

    def assert_state(self, expected: str | None) -> None:
        """Of the whole market, as `canonical_guard status` tells it."""
        states = {row["scope"]: row["state"] for row in overview(self.root, "ES")}
        assert states.get("") == expected

    def assert_start(self, expected: Vector, wanted: Wanted) -> None:
        told: list[str] = []
        try:
            held = take_market(wanted, lambda event, sentence: told.append(event))
        except GuardError as refusal:
            self._assert_refused(expected, refusal)
        else:
            self._assert_held(expected, held)
        stale = "CANONICAL_MARKET_LOCK_STALE" in told
        assert stale is expected.get("stale_reported", False)

    def _assert_refused(self, expected: Vector, refusal: GuardError) -> None:
        assert expected["held"] is False, refusal
        assert (refusal.code, refusal.exit_status) == (expected["error"], expected["exit"])
        assert isinstance(refusal, CanonicalMarketAlreadyActive)
        assert_like(expected.get("active", {}), refusal.active, 0, "active")
        for path, content in self._kept.items():
            assert path.read_bytes() == content, "whoever is refused changes nothing"

    def _assert_held(self, expected: Vector, held: HeldMarket) -> None:
        name = expected.get("lock", "ES")
        try:
            assert expected["held"] is True, "held, but should be refused"
            assert held.takeover is expected["takeover"]
            assert json.loads(self.record(name).read_text())["run_id"] == "run-1"
            assert is_held(self.sidecar(name))
            assert self.sidecar(name).stat().st_size > 0
        finally:
            held.release("clean", lambda event, sentence: None)
        assert not self.record(name).exists()
        assert self.sidecar(name).stat().st_size == 0, "it stays, without its mark"


def _content(given: Vector) -> bytes:
    if "json" in given:
        return json.dumps(given["json"]).encode()
    if "hex" in given:
        return bytes.fromhex(given["hex"])
    text = given["text"]
    return (text["repeat"] * text["times"] if isinstance(text, dict) else str(text)).encode()
