"""What a record that is found means when nobody holds the OS lock."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canonical_guard.errors import CanonicalMarketAlreadyActive
from canonical_guard.hostlock import HostLock
from canonical_guard.overview import overview
from canonical_guard.record import FoundRecord
from tests.guard.hostlocks import EVERYWHERE, RECORD, lock_file, nothing_stale, taken


def leave(root: Path, content: bytes, age: float) -> Path:
    path = lock_file(root)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    os.utime(path, (time.time() - age,) * 2)
    return path


LEGACY = json.dumps(
    {"run_id": "old", "acquired_at_utc": "2026-01-01T00:00:00Z", "canonical_instrument": "ES"}
).encode()
UNREADABLE = [b"", b"\x00\xff\xfe rubbish", b"[1, 2]", b"{" * 5000, b'{"a":1}' + b" " * 70_000]


def test_the_record_of_a_dead_holder_is_noted_and_replaced(root: Path) -> None:
    leave(root, EVERYWHERE.encode(), age=1)
    noted: list[FoundRecord] = []
    lock = HostLock(root, "ES")
    lock.take(replace(RECORD, run_id="run-2"), lambda found, path: noted.append(found))
    assert [found.fields["run_id"] for found in noted] == ["run-1"]
    assert json.loads(lock_file(root).read_text())["run_id"] == "run-2"
    lock.release()


@pytest.mark.parametrize("content", [LEGACY, *UNREADABLE])
def test_a_young_record_of_older_software_means_active(root: Path, content: bytes) -> None:
    path = leave(root, content, age=599)
    with pytest.raises(CanonicalMarketAlreadyActive, match="holds no OS lock"):
        HostLock(root, "ES").take(RECORD, nothing_stale)
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", [LEGACY, *UNREADABLE])
def test_an_old_record_of_older_software_is_stale(root: Path, content: bytes) -> None:
    leave(root, content, age=601)
    noted: list[Path] = []
    lock = HostLock(root, "ES")
    lock.take(RECORD, lambda found, path: noted.append(path))
    assert noted == [lock_file(root)]
    lock.release()


def test_a_record_from_the_future_is_not_stale(root: Path) -> None:
    leave(root, LEGACY, age=-86_400)
    with pytest.raises(CanonicalMarketAlreadyActive):
        HostLock(root, "ES").take(RECORD, nothing_stale)


@pytest.mark.parametrize("protocol", [None, "2", True, 2.5])
def test_a_record_whose_protocol_is_no_number_counts_as_older_software(
    root: Path, protocol: object
) -> None:
    leave(root, json.dumps({"run_id": "x", "protocol": protocol}).encode(), age=1)
    with pytest.raises(CanonicalMarketAlreadyActive):
        HostLock(root, "ES").take(RECORD, nothing_stale)


@given(content=st.binary(max_size=300))
def test_no_bytes_in_a_young_record_open_the_market(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    root = tmp_path_factory.mktemp("root")
    leave(root, content, age=10)
    with pytest.raises(CanonicalMarketAlreadyActive):
        HostLock(root, "ES").take(RECORD, nothing_stale)


@given(
    fields=st.dictionaries(
        st.sampled_from(["run_id", "protocol", "scope", "host", "fencing_token", "acquired_at_utc"])
        | st.text(max_size=5),
        st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.lists(st.none()),
    ),
    age=st.integers(-1000, 1000),
)
def test_whatever_a_record_says_the_market_is_had_or_refused_and_the_overview_tells_of_it(
    tmp_path_factory: pytest.TempPathFactory, fields: dict[str, object], age: int
) -> None:
    root = tmp_path_factory.mktemp("root")
    leave(root, json.dumps(fields).encode(), age=age)
    (row,) = overview(root)
    assert json.dumps(row)
    lock = HostLock(root, "ES")
    if row["state"] == "LEGACY_ACTIVE":
        with pytest.raises(CanonicalMarketAlreadyActive):
            lock.take(RECORD, nothing_stale)
    else:
        assert row["state"] in ("STALE", "LEGACY_STALE")
        lock.take(RECORD, lambda found, path: None)
        lock.release()


def test_after_a_refusal_by_an_old_record_the_lock_is_free_again(root: Path) -> None:
    path = leave(root, LEGACY, age=1)
    with pytest.raises(CanonicalMarketAlreadyActive):
        HostLock(root, "ES").take(RECORD, nothing_stale)
    path.unlink()
    taken(root).release()


def test_a_link_in_place_of_the_record_is_not_followed(root: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(EVERYWHERE.encode())
    lock_file(root).parent.mkdir(parents=True)
    lock_file(root).symlink_to(target)
    with pytest.raises(CanonicalMarketAlreadyActive):
        HostLock(root, "ES").take(RECORD, nothing_stale)
    assert target.read_bytes() == EVERYWHERE.encode()
