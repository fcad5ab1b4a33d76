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
from hypothesis import given
from hypothesis import strategies as st

from canonical_guard import mounts
from canonical_guard.errors import CanonicalMarketAlreadyActive, LockAuthorityUnavailable
from canonical_guard.hostlock import HostLock
from canonical_guard.record import FoundRecord, LockFileRecord, lock_name
from tests.guard.conftest import REPOSITORY

RECORD = LockFileRecord(
    run_id="run-1",
    acquired_at_utc="2026-01-02T03:04:05.000000+00:00",
    canonical_instrument="ES",
    execution_instrument="MES",
    pid=4711,
    process_start_time=99,
    boot_id="boot",
    host="trader-1",
)
EVERYWHERE = replace(RECORD, scope="", fencing_token=42)


def nothing_stale(found: FoundRecord, path: Path) -> None:
    pytest.fail(f"{path} counted as stale")


def lock_file(root: Path, name: str = "ES") -> Path:
    return root / "runtime_locks" / f"canonical_{name}.lock"


def sidecar(root: Path) -> Path:
    return root / "runtime_locks" / ".canonical_ES.guard"


def taken(root: Path, record: LockFileRecord = RECORD) -> HostLock:
    lock = HostLock(root, "ES")
    lock.take(record, nothing_stale)
    lock.settle(replace(record, scope="", fencing_token=42), nothing_stale)
    return lock


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
        "from tests.guard.test_hostlock import HostLock, RECORD, nothing_stale\n"
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
    lock_file(root).write_bytes(LEGACY)
    with pytest.raises(CanonicalMarketAlreadyActive, match="run old"):
        lock.refresh()
    lock.release()
    assert lock_file(root).read_bytes() == LEGACY


def account(name: str, run_id: str = "run-1") -> LockFileRecord:
    return replace(RECORD, account=name, run_id=run_id)


def narrowed(root: Path, name: str) -> HostLock:
    lock = HostLock(root, "ES")
    lock.take(account(name, f"run-{name}"), nothing_stale)
    lock.settle(replace(account(name, f"run-{name}"), scope=name), nothing_stale)
    return lock


def test_a_market_exclusive_per_account_leaves_room_for_another_account(root: Path) -> None:
    first, second = narrowed(root, "Sim101"), narrowed(root, "Sim102")
    assert lock_file(root, "ES@Sim101").exists()
    assert lock_file(root, "ES@Sim102").exists()
    assert not lock_file(root).exists()
    first.release()
    second.release()
    assert not lock_file(root, "ES@Sim101").exists()


def test_the_same_account_is_refused(root: Path) -> None:
    first = narrowed(root, "Sim101")
    with pytest.raises(CanonicalMarketAlreadyActive, match="run-Sim101"):
        narrowed(root, "Sim101")
    first.release()


def test_a_market_exclusive_everywhere_does_not_start_beside_an_accounts_run(root: Path) -> None:
    first = narrowed(root, "Sim101")
    second = HostLock(root, "ES")
    second.take(replace(RECORD, run_id="run-2"), nothing_stale)
    with pytest.raises(CanonicalMarketAlreadyActive, match="run-Sim101"):
        second.settle(replace(EVERYWHERE, run_id="run-2"), nothing_stale)
    second.release()
    first.release()


@given(st.text(max_size=300), st.text(max_size=300))
def test_no_account_leaves_the_folder_or_shares_anothers_name(one: str, other: str) -> None:
    name = lock_name("ES", one)
    file = f"canonical_{name}.lock"
    assert Path(file).name == file
    assert file.isascii()
    assert "\0" not in file
    assert len(file) < 200
    assert (name == lock_name("ES", other)) == (one == other)


CONTENDER = """
import sys, time
from dataclasses import replace
from pathlib import Path
from canonical_guard.errors import CanonicalMarketAlreadyActive
from canonical_guard.hostlock import HostLock
from tests.guard.test_hostlock import RECORD
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


MOUNTS = r"""
rootfs / rootfs rw 0 0
/dev/sda1 / ext4 rw 0 0
server:/export /mnt/shared nfs4 rw 0 0
server:/other /mnt/with\040blank cifs rw 0 0
/dev/sdb1 /mnt/shared/local ext4 rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/var/lib/watchdog", "ext4"),
        ("/mnt/shared", "nfs4"),
        ("/mnt/shared/deep/below", "nfs4"),
        ("/mnt/sharedish", "ext4"),
        ("/mnt/with blank/x", "cifs"),
        ("/mnt/shared/local/x", "ext4"),
    ],
)
def test_the_innermost_and_latest_mount_says_the_file_system(folder: str, kind: str) -> None:
    assert mounts.type_in_table(folder, MOUNTS) == kind


def test_a_network_file_system_is_refused_unless_allowed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = mounts.type_in_table(os.path.realpath(root.parent), Path("/proc/mounts").read_text())
    assert local is not None
    monkeypatch.setattr(mounts, "NETWORK_TYPES", frozenset({local}))
    with pytest.raises(LockAuthorityUnavailable, match="network file system"):
        HostLock(root, "ES").take(RECORD, nothing_stale)
    allowed = HostLock(root, "ES", allow_network=True)
    allowed.take(RECORD, nothing_stale)
    assert allowed.is_intact()
    allowed.release()


def test_where_the_mounts_cannot_be_read_the_folder_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(folder: Path) -> str | None:
        raise PermissionError(errno.EACCES, "Permission denied", "/proc/self/mounts")

    monkeypatch.setattr(mounts, "network_file_system", unreadable)
    with pytest.raises(LockAuthorityUnavailable, match="cannot be told"):
        HostLock(root, "ES").take(RECORD, nothing_stale)
