"""overlayfs and native on the disk: what is made, what is left and what is mended (SNX-005 to SNX-035)."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from refimpl.backends.real import snapshotters
from refimpl.backends.real.bolt import InvalidDatabase
from refimpl.backends.real.bolt.meta import choose
from refimpl.backends.real.snapshotters.directories import Directories
from refimpl.contract.context import CallContext, CancelToken
from refimpl.contract.errors import AlreadyExists, Canceled, NotFound, Unavailable, Unimplemented, Unknown
from refimpl.contract.snapshots import Kind, Usage
from tests.backends.real.snapshotters.bench import CTX, LAYERS, Bench

ROUNDS = 12
"""Deaths that each snapshotter is put through."""


@pytest.fixture(params=sorted(LAYERS))
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(request.param, tmp_path / "root")
    yield made
    made.snapshotter.close()


@pytest.fixture
def overlayfs(tmp_path: Path) -> Iterator[Bench]:
    made = Bench("overlayfs", tmp_path / "root")
    yield made
    made.snapshotter.close()


def modes(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): oct(path.stat().st_mode & 0o7777) for path in [root, *root.rglob("*")]}


def test_the_umask_does_not_matter(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        bench = Bench("overlayfs", tmp_path / "root")
        bench.snapshotter.prepare(CTX, "a")
        bench.snapshotter.view(CTX, "v")
    finally:
        os.umask(before)
    bench.snapshotter.close()

    assert modes(tmp_path / "root") == {
        ".": "0o700", "metadata.db": "0o600", "snapshots": "0o700",
        "snapshots/1": "0o700", "snapshots/1/fs": "0o755", "snapshots/1/work": "0o711",
        "snapshots/2": "0o700", "snapshots/2/fs": "0o755",
    }  # fmt: skip


def test_no_database_before_the_first_call(bench: Bench) -> None:
    assert [path.name for path in bench.root.iterdir()] == ["snapshots"]
    with pytest.raises(NotFound):
        bench.snapshotter.stat(CTX, "a")
    assert sorted(path.name for path in bench.root.iterdir()) == ["metadata.db", "snapshots"]


def test_a_database_that_another_process_has_is_waited_for_a_while(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshotters, "LOCK_SECONDS", 0.1)
    path = bench.root / "metadata.db"
    path.touch(0o600)
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Unavailable):
            bench.snapshotter.prepare(CTX, "a")
        assert bench.entries() == []
    assert bench.snapshotter.prepare(CTX, "a")


@pytest.mark.parametrize(
    "spoil,said",
    [
        (lambda path: path.write_bytes(b"text" * 3000), "invalid database"),
        (Path.mkdir, "open {path}: is a directory"),
        (lambda path: path.symlink_to("nowhere/metadata.db"), "open {path}: no such file or directory"),
    ],
)
def test_what_is_no_database_is_refused_in_containerds_words_until_it_is_gone(
    bench: Bench, spoil: Callable[[Path], object], said: str
) -> None:
    path = bench.root / "metadata.db"
    spoil(path)
    with pytest.raises(Unknown) as raised:
        bench.snapshotter.prepare(CTX, "a")
    assert str(raised.value) == "failed to open database file: " + said.format(path=path)
    assert bench.entries() == []

    path.rename(bench.root / "spoilt")
    assert bench.snapshotter.prepare(CTX, "a")


def test_damage_that_a_call_comes_upon_is_told_behind_what_was_being_done(bench: Bench) -> None:
    bench.snapshotter.prepare(CTX, "a")
    bench.snapshotter.close()
    path = bench.root / "metadata.db"
    data, size = bytearray(path.read_bytes()), os.sysconf("SC_PAGE_SIZE")
    root = choose(lambda offset, length: bytes(data[offset : offset + length]), len(data), size).root
    data[root * size + 8] ^= 0x40
    path.write_bytes(data)

    again = Bench(bench.name, bench.root)
    with pytest.raises(InvalidDatabase, match=f"failed to remove: page {root}: invalid type"):
        again.snapshotter.remove(CTX, "a")
    again.snapshotter.close()


def test_everything_is_found_again_by_the_next_one(bench: Bench) -> None:
    bench.layer("base")
    mounts = bench.snapshotter.prepare(CTX, "a", "base", {"l": "1"})
    infos = list(bench.snapshotter.walk(CTX))
    bench.snapshotter.close()

    again = Bench(bench.name, bench.root)
    assert list(again.snapshotter.walk(CTX)) == infos
    assert again.snapshotter.mounts(CTX, "a") == mounts
    assert again.snapshotter.usage(CTX, "base").inodes == 1
    again.snapshotter.prepare(CTX, "b")
    assert again.entries() == ["1", "2", "3"]
    again.snapshotter.close()


# --- what a crash leaves


def test_litter_in_the_place_of_a_new_number_gives_way(bench: Bench) -> None:
    """A process that died between the directory and its record: the number is drawn again."""
    litter = bench.tree(1)
    litter.mkdir(parents=True)
    (litter / "old").write_bytes(b"of somebody else")
    bench.snapshots.joinpath("2").write_bytes(b"not even a directory")

    for key, number in (("a", 1), ("b", 2)):
        bench.snapshotter.prepare(CTX, key)
        assert list(bench.tree(number).iterdir()) == [], "nothing old shows up"
    assert bench.entries() == ["1", "2"]


def test_a_directory_that_cannot_be_placed_leaves_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(Directories, "_place", refuse)
    with pytest.raises(PermissionError):
        bench.snapshotter.prepare(CTX, "a")

    assert (bench.entries(), bench.keys()) == ([], [])


def test_a_caller_who_went_away_leaves_nothing(bench: Bench) -> None:
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(Canceled):
        bench.snapshotter.prepare(CallContext(cancel=cancel), "a")

    assert (bench.entries(), bench.keys()) == ([], [])


def test_a_refused_key_leaves_nothing(bench: Bench) -> None:
    bench.snapshotter.prepare(CTX, "a")
    with pytest.raises(AlreadyExists):
        bench.snapshotter.prepare(CTX, "a")

    assert bench.entries() == ["1"]


WORK = """
import random, sys
from pathlib import Path
from tests.backends.real.snapshotters.bench import CTX, Bench

bench, random = Bench(sys.argv[1], Path(sys.argv[2])), random.Random(int(sys.argv[3]))
snapshotter = bench.snapshotter
active, committed, number = [], [""], 0
for info in snapshotter.walk(CTX):
    (committed if info.kind.name == "COMMITTED" else active).append(info.name)
print("ready", flush=True)
while True:
    number += 1
    name = f"{sys.argv[3]}-{number}"
    step = random.randrange(4)
    if step == 0 or not active:
        mounts = snapshotter.prepare(CTX, name, random.choice(committed))
        top = mounts[0].source
        for option in mounts[0].options:
            top = option.removeprefix("upperdir=") if option.startswith("upperdir=") else top
        (Path(top) / name).write_bytes(b"x" * 5000)
        active.append(name)
    elif step == 1:
        snapshotter.commit(CTX, name, active[-1])
        committed.append(name)
        active.pop()
    elif step == 2:
        snapshotter.remove(CTX, active.pop(random.randrange(len(active))))
    elif bench.name == "overlayfs":
        snapshotter.cleanup(CTX)
"""
"""A process that works until it is killed."""


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_a_killed_process_leaves_every_record_with_its_directory(tmp_path: Path, repository: Path, name: str) -> None:
    root, delays = tmp_path / "root", random.Random(1)
    for number in range(ROUNDS):
        command = [sys.executable, "-c", WORK, name, str(root), str(number)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=repository) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            try:
                process.wait(delays.uniform(0, 0.15))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL

        bench = Bench(name, root)
        check_that_every_record_has_its_directory(bench)
        bench.snapshotter.close()


def check_that_every_record_has_its_directory(bench: Bench) -> None:
    with bench.snapshotter._store.view() as records:  # numbers are nobody else's
        found = list(records.all())
    for record in found:
        assert bench.tree(record.id).is_dir(), record
        if record.kind is Kind.COMMITTED:
            assert record.usage.inodes >= 1
        bench.snapshotter.usage(CTX, record.info.name)
    if bench.name == "overlayfs":
        bench.snapshotter.cleanup(CTX)
        assert bench.entries() == sorted(str(record.id) for record in found)


# --- clean-up


def test_a_cleanup_takes_all_that_no_record_stands_for(overlayfs: Bench, tmp_path: Path) -> None:
    overlayfs.snapshotter.prepare(CTX, "live")
    overlayfs.snapshotter.prepare(CTX, "gone")
    overlayfs.snapshotter.remove(CTX, "gone")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    for name in ("999", "new-1", "rm-3"):
        (overlayfs.snapshots / name / "fs").mkdir(parents=True)
    (overlayfs.snapshots / "file").touch()
    (overlayfs.snapshots / "link").symlink_to(outside)
    (overlayfs.snapshots / "1" / "fs" / "mine").touch()

    overlayfs.snapshotter.cleanup(CTX)

    assert overlayfs.entries() == ["1"]
    assert (overlayfs.snapshots / "1/fs/mine").exists()
    assert (outside / "kept").exists()


def test_a_number_that_is_drawn_during_a_cleanup_is_safe(overlayfs: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Litter under the next number is put aside before the next snapshot can come to its place."""
    (overlayfs.snapshots / "1" / "fs").mkdir(parents=True)
    discard = Directories.discard

    def later(self: Directories, names: list[str]) -> None:
        monkeypatch.undo()
        overlayfs.snapshotter.prepare(CTX, "a")
        discard(self, names)

    monkeypatch.setattr(Directories, "discard", later)
    overlayfs.snapshotter.cleanup(CTX)

    assert overlayfs.entries() == ["1"]
    assert (overlayfs.snapshots / "1/work").is_dir(), "that of the new snapshot"


def test_native_has_no_cleanup_and_deletes_at_once(tmp_path: Path) -> None:
    bench = Bench("native", tmp_path / "root")
    bench.layer("base")
    (bench.snapshots / "new-9").mkdir()
    bench.snapshotter.prepare(CTX, "a", "base")
    bench.snapshotter.view(CTX, "v", "base")

    bench.snapshotter.remove(CTX, "a")
    bench.snapshotter.remove(CTX, "v")
    with pytest.raises(Unimplemented):
        bench.snapshotter.cleanup(CTX)
    assert bench.entries() == ["1", "new-9"]
    bench.snapshotter.close()


@pytest.mark.root
def test_what_cannot_be_deleted_is_no_obstacle(overlayfs: Bench, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("7", "8", "9"):
        (overlayfs.snapshots / name / "fs").mkdir(parents=True)
    busy = overlayfs.snapshots / "8"
    subprocess.run(["mount", "-t", "tmpfs", "none", str(busy)], check=True)
    try:
        overlayfs.snapshotter.cleanup(CTX)
        assert overlayfs.entries() == ["8"]
        assert "failed to remove directory" in caplog.text
    finally:
        subprocess.run(["umount", str(busy)], check=True)
    overlayfs.snapshotter.cleanup(CTX)
    assert overlayfs.entries() == []


# --- full disks


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    point = tmp_path / "small"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(point)], check=True)
    yield point
    subprocess.run(["umount", "-l", str(point)], check=True)


@pytest.mark.root
def test_a_copy_that_does_not_fit_leaves_nothing(small: Path) -> None:
    bench = Bench("native", small / "root")
    bench.snapshotter.prepare(CTX, "a")
    (bench.tree(1) / "big").write_bytes(bytes(3 << 20))
    bench.snapshotter.commit(CTX, "base", "a")

    with pytest.raises(OSError, match="No space"):
        bench.snapshotter.prepare(CTX, "b", "base")

    assert (bench.entries(), bench.keys()) == (["1"], ["base"])
    assert bench.snapshotter.usage(CTX, "base") == Usage(3 << 20, 2)
    assert bench.snapshotter.view(CTX, "v", "base")
    bench.snapshotter.close()
