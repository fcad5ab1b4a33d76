"""The host's lock: exactly one holder, whatever lies in its folder."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from canonical_guard.errors import CanonicalMarketAlreadyActive, LockAuthorityUnavailable
from canonical_guard.hostlock import HostLock
from canonical_guard.oslock import OsLock
from tests.guard.conftest import REPOSITORY
from tests.guard.hostlocks import RECORD, lock_file, nothing_stale, sidecar, taken


def test_the_record_says_who_holds_the_market(root: Path) -> None:
    lock = taken(root)
    fields = json.loads(lock_file(root).read_text())
    assert fields["run_id"] == "run-1"
    assert fields["canonical_instrument"] == "ES"
    assert fields["execution_instrument"] == "MES"
    assert fields["acquired_at_utc"] == RECORD.acquired_at_utc
    assert (fields["scope"], fields["fencing_token"], fields["protocol"]) == ("", 42, 2)
    assert (fields["pid"], fields["process_start_time"], fields["boot_id"]) == (4711, 99, "boot")
    lock.release()


def test_release_removes_the_record_and_keeps_the_sidecar(root: Path) -> None:
    taken(root).release()
    assert [path.name for path in lock_file(root).parent.iterdir()] == [sidecar(root).name]


def test_the_sidecar_is_for_its_owner_only(root: Path) -> None:
    lock = taken(root)
    assert stat.S_IMODE(sidecar(root).stat().st_mode) == 0o600
    lock.release()


def test_a_second_holder_is_refused_and_the_first_ones_record_untouched(root: Path) -> None:
    first = taken(root)
    before = lock_file(root).read_bytes(), lock_file(root).stat().st_mtime_ns
    with pytest.raises(CanonicalMarketAlreadyActive, match="run-1 on host trader-1") as refused:
        HostLock(root, "ES").take(replace(RECORD, run_id="run-2"), nothing_stale)
    assert refused.value.active["execution_instrument"] == "MES"
    assert refused.value.active["since"] == RECORD.acquired_at_utc
    assert (lock_file(root).read_bytes(), lock_file(root).stat().st_mtime_ns) == before
    first.release()


def test_other_markets_and_other_roots_do_not_exclude_each_other(root: Path) -> None:
    locks = [taken(root), taken(root / "elsewhere")]
    other = HostLock(root, "NQ")
    other.take(replace(RECORD, canonical_instrument="NQ"), nothing_stale)
    for lock in (*locks, other):
        assert lock.is_intact()
        lock.release()


def test_releasing_again_does_not_touch_a_successors_lock(root: Path) -> None:
    first = taken(root)
    first.release()
    second = taken(root, replace(RECORD, run_id="run-2"))
    first.release()
    assert json.loads(lock_file(root).read_text())["run_id"] == "run-2"
    assert second.is_intact()
    second.release()


def in_place_of_the_root(root: Path) -> None:
    root.write_text("a file")


def in_place_of_the_folder(root: Path) -> None:
    root.mkdir()
    (root / "runtime_locks").write_text("a file")


def linked_sidecar(root: Path) -> None:
    sidecar(root).parent.mkdir(parents=True)
    sidecar(root).symlink_to(root / "elsewhere")


def piped_sidecar(root: Path) -> None:
    sidecar(root).parent.mkdir(parents=True)
    os.mkfifo(sidecar(root))


def folder_for_a_sidecar(root: Path) -> None:
    sidecar(root).mkdir(parents=True)


def folder_for_the_new_record(root: Path) -> None:
    (root / "runtime_locks" / ".canonical_ES.lock.new").mkdir(parents=True)


@pytest.mark.parametrize(
    "spoil",
    [
        in_place_of_the_root,
        in_place_of_the_folder,
        linked_sidecar,
        piped_sidecar,
        folder_for_a_sidecar,
        folder_for_the_new_record,
    ],
)
def test_an_unusable_folder_is_a_clear_refusal_and_leaves_no_lock(
    root: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(root)
    lock = HostLock(root, "ES")
    with pytest.raises(LockAuthorityUnavailable, match="--project-root"):
        lock.take(RECORD, nothing_stale)
    assert lock.descriptor == -1
    assert not lock.is_intact()


def test_a_full_disk_is_a_clear_refusal_and_leaves_nothing_half_written(root: Path) -> None:
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from tests.guard.hostlocks import HostLock, RECORD, nothing_stale\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "HostLock(Path(sys.argv[1]), 'ES').take(RECORD, nothing_stale)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(root)], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert "LockAuthorityUnavailable: The host lock of ES" in done.stderr
    assert os.strerror(errno.EFBIG) in done.stderr
    assert [path.name for path in (root / "runtime_locks").iterdir()] == [sidecar(root).name]
    taken(root).release()


def test_a_sidecar_replaced_between_open_and_lock_is_not_taken_for_the_lock(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holders: list[HostLock] = []
    take = OsLock.take

    def overtaken(lock: OsLock) -> bool:
        monkeypatch.setattr(OsLock, "take", take)
        sidecar(root).unlink()
        holders.append(taken(root))
        return take(lock)

    monkeypatch.setattr(OsLock, "take", overtaken)
    with pytest.raises(CanonicalMarketAlreadyActive):
        HostLock(root, "ES").take(replace(RECORD, run_id="run-2"), nothing_stale)
    assert holders[0].is_intact()
    holders[0].release()


@pytest.mark.parametrize("change", ["unlinked", "replaced", "folder removed"])
def test_a_lock_whose_file_is_gone_is_lost(root: Path, change: str) -> None:
    lock = taken(root)
    if change == "folder removed":
        (root / "runtime_locks").rename(root / "moved")
    else:
        sidecar(root).unlink()
    if change == "replaced":
        sidecar(root).touch()
    assert not lock.is_intact()
    lock.release()


def test_who_lost_his_sidecar_does_not_remove_the_next_ones_record(root: Path) -> None:
    first = taken(root)
    sidecar(root).unlink()
    lock_file(root).unlink()
    second = taken(root, replace(RECORD, run_id="run-2"))
    first.release()
    assert json.loads(lock_file(root).read_text())["run_id"] == "run-2"
    second.release()


def test_refresh_renews_the_records_time(root: Path) -> None:
    lock = taken(root)
    os.utime(lock_file(root), (1, 1))
    lock.refresh()
    assert time.time() - lock_file(root).stat().st_mtime < 5
    lock.release()


def test_refresh_brings_a_removed_record_back(root: Path) -> None:
    lock = taken(root)
    lock_file(root).unlink()
    lock.refresh()
    assert json.loads(lock_file(root).read_text())["fencing_token"] == 42
    lock.release()


def test_refresh_does_not_keep_another_runs_record_fresh(root: Path) -> None:
    lock = taken(root)
    lock_file(root).write_bytes(b'{"run_id": "old"}')
    with pytest.raises(CanonicalMarketAlreadyActive, match="run old"):
        lock.refresh()
    lock.release()
    assert lock_file(root).read_bytes() == b'{"run_id": "old"}'


CONTENDER = """
import sys, time
from dataclasses import replace
from pathlib import Path
from canonical_guard.errors import CanonicalMarketAlreadyActive
from canonical_guard.hostlock import HostLock
from canonical_guard.oslock import OsLock
from tests.guard.hostlocks import RECORD
root, me, rounds, start = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
for turn in range(rounds):
    lock = HostLock(root / str(turn), "ES")
    time.sleep(max(start + turn * 0.2 - time.time(), 0))
    try:
        lock.take(replace(RECORD, run_id=me), lambda *_: print("stale", turn, flush=True))
        print("won", turn, flush=True)
        sys.modules[f"kept{turn}"] = lock
    except CanonicalMarketAlreadyActive:
        print("refused", turn, flush=True)
print("done", flush=True)
sys.stdin.read()
"""


def test_of_many_contenders_exactly_one_wins_every_round(root: Path) -> None:
    contenders, rounds = 6, 20
    start = str(time.time() + 1.5)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", CONTENDER, str(root), f"run-{number}", str(rounds), start],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(contenders)
    ]
    # All stay alive, and so do their locks, until everybody had his turn.
    said = []
    for process in running:
        assert process.stdout is not None
        said += [line.strip() for line in iter(process.stdout.readline, "done\n")]
    for process in running:
        process.communicate()
    assert len(said) == contenders * rounds
    for turn in range(rounds):
        assert said.count(f"won {turn}") == 1
        assert said.count(f"refused {turn}") == contenders - 1


def test_a_holder_that_is_killed_frees_the_host_at_once(root: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", CONTENDER, str(root), "victim", "1", "0"],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "won 0\n"
    process.kill()
    process.communicate()
    noted: list[str] = []
    lock = HostLock(root / "0", "ES")
    lock.take(RECORD, lambda found, path: noted.append(found.fields["run_id"]))
    assert noted == ["victim"]
    lock.release()


def test_the_lock_is_not_inherited_by_children_that_the_robot_starts(root: Path) -> None:
    lock = taken(root)
    child = subprocess.Popen(["sleep", "60"], close_fds=False)
    lock.release()
    taken(root).release()
    child.kill()
    child.wait()
