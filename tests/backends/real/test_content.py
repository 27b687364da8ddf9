"""The content store on disk: where things are, what a crash may leave, and what strangers put there."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from refimpl.backends.fake.clock import EPOCH, FakeClock
from refimpl.backends.real.content import FileContent
from refimpl.contract.content import EMPTY_DIGEST
from refimpl.contract.errors import AlreadyExists, FailedPrecondition, NotFound, Unknown
from refimpl.contract.times import SECOND, SystemClock
from refimpl.kernel import assembled
from tests.backends.blobs import CTX, digest_of, put, read


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "io.containerd.content.v1.content"


@pytest.fixture
def store(root: Path) -> FileContent:
    return FileContent(root, SystemClock())


def begin(store: FileContent, ref: str, data: bytes, total: int = 0) -> None:
    """Leave an ingest behind."""
    writer = store.writer(CTX, ref, total=total)
    writer.write(data)
    writer.close()


def folder(root: Path, ref: str) -> Path:
    return root / "ingest" / hashlib.sha256(ref.encode()).hexdigest()


def blob(root: Path, digest: str) -> Path:
    return root / "blobs" / "sha256" / digest.removeprefix("sha256:")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("usual_umask")
def test_a_blob_is_a_file_that_nobody_writes_and_directories_are_for_all_to_read(root: Path) -> None:
    clock = FakeClock()
    digest = put(FileContent(root, clock), b"hello")
    assert blob(root, digest).read_bytes() == b"hello"
    assert mode(blob(root, digest)) == 0o444
    assert blob(root, digest).stat().st_mtime_ns == EPOCH
    assert [mode(root / name) for name in ("", "blobs", "blobs/sha256", "ingest")] == [0o755] * 4
    assert list((root / "ingest").iterdir()) == []


@pytest.mark.usefixtures("usual_umask")
def test_an_ingest_is_a_directory_of_five_files(root: Path) -> None:
    clock = FakeClock()
    store = FileContent(root, clock)
    writer = store.writer(CTX, "ns/1/../../x", total=10)
    clock.advance(1.25)
    writer.write(b"hello")
    writer.close()
    path = folder(root, "ns/1/../../x")
    assert {file.name: file.read_text() for file in path.iterdir()} == {
        "ref": "ns/1/../../x",
        "startedat": "2023-11-14T22:13:20Z",
        "updatedat": "2023-11-14T22:13:21.25Z",
        "total": "10",
        "data": "hello",
    }
    assert mode(path) == 0o755
    assert {mode(file) for file in path.iterdir()} == {0o644}
    begin(store, "other", b"")
    assert not (folder(root, "other") / "total").exists()


def test_another_store_on_the_directory_goes_on_where_the_first_stood(root: Path) -> None:
    first = FileContent(root, SystemClock())
    digest = put(first, b"hello")
    # Not closed: as of a process that was killed.
    first.writer(CTX, "half", total=4).write(b"ha")

    second = FileContent(root, SystemClock())
    assert read(second, digest) == b"hello"
    assert second.status(CTX, "half").started_at == first.status(CTX, "half").started_at
    writer = second.writer(CTX, "half")
    assert (writer.status().offset, writer.status().total, writer.digest()) == (2, 4, digest_of(b"ha"))
    writer.write(b"lf")
    writer.commit(CTX, 4, digest_of(b"half"))
    assert read(second, digest_of(b"half")) == b"half"


def test_the_status_of_a_writer_that_was_killed_tells_when_its_last_bytes_came(root: Path) -> None:
    clock = FakeClock()
    store = FileContent(root, clock)
    store.writer(CTX, "ref").write(b"x")
    late = EPOCH + 7 * SECOND
    os.utime(folder(root, "ref") / "data", ns=(late, late))
    assert FileContent(root, clock).status(CTX, "ref").updated_at == late


@pytest.mark.parametrize("there", range(5))
def test_what_a_crash_left_of_an_opening_has_no_status_and_is_started_over(
    store: FileContent, root: Path, there: int
) -> None:
    begin(store, "ref", b"abc", total=9)
    for name in ("ref", "startedat", "updatedat", "total", "data")[there:]:
        (folder(root, "ref") / name).unlink()
    begin(store, "whole", b"")
    with pytest.raises(NotFound, match="ingest ref"):
        store.status(CTX, "ref")
    assert [status.ref for status in store.list_statuses(CTX)] == ["whole"]
    writer = store.writer(CTX, "ref")
    assert (writer.status().offset, writer.digest(), store.status(CTX, "ref").total) == (0, EMPTY_DIGEST, 0)
    writer.write(b"new")
    writer.commit(CTX, 3)
    assert read(store, digest_of(b"new")) == b"new"


@pytest.mark.parametrize("name", ["startedat", "updatedat"])
def test_a_time_that_is_none_is_an_error_until_the_ingest_is_reopened(
    store: FileContent, root: Path, name: str
) -> None:
    begin(store, "ref", b"abc")
    (folder(root, "ref") / name).write_bytes(b"\xff garbage")
    with pytest.raises(Unknown, match=f'could not get status for ref "ref": could not read {name}: could not parse'):
        store.status(CTX, "ref")
    assert store.list_statuses(CTX) == []
    assert store.writer(CTX, "ref").status().offset == 0
    assert store.status(CTX, "ref").offset == 0


def spoil_ref(path: Path) -> None:
    (path / "ref").write_text("other")


def data_is_a_directory(path: Path) -> None:
    (path / "data").unlink()
    (path / "data").mkdir()


def no_directory(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("a file")


@pytest.mark.parametrize("spoil", [spoil_ref, data_is_a_directory, no_directory])
def test_an_ingest_that_was_spoilt_is_started_over(
    store: FileContent, root: Path, spoil: Callable[[Path], None]
) -> None:
    begin(store, "ref", b"abc")
    spoil(folder(root, "ref"))
    store.list_statuses(CTX)
    writer = store.writer(CTX, "ref")
    writer.write(b"new")
    writer.commit(CTX, 3, digest_of(b"new"))
    assert read(store, digest_of(b"new")) == b"new"


@pytest.mark.parametrize("text", ["", "-3", "xx"])
def test_a_total_that_is_none_is_lost_and_nothing_else(store: FileContent, root: Path, text: str) -> None:
    begin(store, "ref", b"abc", total=9)
    (folder(root, "ref") / "total").write_text(text)
    assert (store.status(CTX, "ref").offset, store.status(CTX, "ref").total) == (3, 0)
    assert store.writer(CTX, "ref", total=5).status().offset == 3


def test_a_crash_between_the_name_of_the_blob_and_the_end_of_the_ingest_leaves_the_blob(
    store: FileContent, root: Path
) -> None:
    begin(store, "ref", b"abc")
    target = blob(root, digest_of(b"abc"))
    target.parent.mkdir(parents=True)
    (folder(root, "ref") / "data").rename(target)
    assert store.list_statuses(CTX) == []
    assert read(store, digest_of(b"abc")) == b"abc"
    writer = store.writer(CTX, "ref")
    writer.write(b"abc")
    with pytest.raises(AlreadyExists):
        writer.commit(CTX)
    assert not folder(root, "ref").exists()


def test_bytes_that_were_cut_behind_our_back_are_not_committed(store: FileContent, root: Path) -> None:
    for size in (0, 6, 3):
        writer = store.writer(CTX, "ref")
        writer.truncate(0)
        writer.write(b"abcdef")
        os.truncate(folder(root, "ref") / "data", 3)
        with pytest.raises(FailedPrecondition, match="unexpected commit size 3, expected 6"):
            writer.commit(CTX, size)
    assert list(store.walk(CTX)) == []


def test_a_write_that_the_disk_refuses_keeps_what_was_taken_and_lets_go(store: FileContent, root: Path) -> None:
    writer = store.writer(CTX, "ref")
    writer.write(b"abc")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python ignores the signal; write(2) takes what fits, then nothing.
    resource.setrlimit(resource.RLIMIT_FSIZE, (5, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as raised:
            writer.write(b"def")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert raised.value.filename == str(folder(root, "ref") / "data")
    assert (writer.status().offset, writer.digest()) == (5, digest_of(b"abcde"))
    writer.close()
    resumed = store.writer(CTX, "ref")
    assert (resumed.status().offset, resumed.digest()) == (5, digest_of(b"abcde"))


def test_a_disk_without_room_for_the_time_of_the_last_bytes_does_not_hide_what_else_happened(
    store: FileContent, root: Path
) -> None:
    writer = store.writer(CTX, "ref")
    writer.write(b"abc")
    # In the place of the new file with the time, as little can be written as on a full disk.
    (folder(root, "ref") / "updatedat.tmp").mkdir()
    writer.close()
    assert store.status(CTX, "ref").offset == 3
    store.writer(CTX, "ref").close()


def test_an_opening_that_fails_lets_go_of_the_ref(store: FileContent, root: Path) -> None:
    (root / "ingest").rmdir()
    (root / "ingest").write_text("in the way")
    with pytest.raises(OSError, match="ingest"):
        store.writer(CTX, "ref")
    (root / "ingest").unlink()
    store.writer(CTX, "ref").close()


@pytest.mark.parametrize("room,file", [(0, "ref"), (5, "startedat.tmp")])
def test_an_opening_on_a_full_disk_is_told_with_the_file_and_leaves_no_ingest(
    store: FileContent, root: Path, room: int, file: str
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as raised:
            store.writer(CTX, "ref")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert raised.value.filename == str(folder(root, "ref") / file)
    assert store.list_statuses(CTX) == []
    store.writer(CTX, "ref").close()


def test_strangers_among_the_blobs_are_passed_over(store: FileContent, root: Path) -> None:
    digest = put(store, b"hello")
    (root / "blobs" / "md5").mkdir()
    (root / "blobs" / "md5" / ("a" * 32)).write_text("no")
    (root / "blobs" / "file").write_text("no")
    for name in ("!notahash", "A" * 64, "a" * 63, f"{'a' * 64}.tmp"):
        (root / "blobs" / "sha256" / name).write_text("no")
    blob(root, f"sha256:{'b' * 64}").mkdir()
    assert [info.digest for info in store.walk(CTX)] == [digest]
    with pytest.raises(NotFound):
        store.info(CTX, f"sha256:{'b' * 64}")


def test_a_missing_file_is_told_by_where_it_should_be(store: FileContent, root: Path) -> None:
    with pytest.raises(NotFound) as raised:
        store.reader(CTX, EMPTY_DIGEST)
    path = blob(root, EMPTY_DIGEST)
    assert str(raised.value) == f"blob {EMPTY_DIGEST} expected at {path}: blob not found: not found"


def test_a_sweep_takes_all_ingests_but_the_known_the_open_and_what_is_not_ours(store: FileContent, root: Path) -> None:
    for ref in ("known", "forgotten"):
        begin(store, ref, b"abc")
    store.writer(CTX, "open").write(b"abc")
    folder(root, "half-made").mkdir()
    (root / "ingest" / "strange").mkdir()
    (root / "ingest" / ("f" * 64)).symlink_to(root / "ingest" / "strange")
    store.sweep_ingests(CTX, {"known"})
    assert {path.name for path in (root / "ingest").iterdir()} == {
        folder(root, "known").name,
        folder(root, "open").name,
        "strange",
        "f" * 64,
    }


def test_the_real_plugin_says_where_its_files_are_and_keeps_them(tmp_path: Path) -> None:
    wish = {"root": tmp_path / "root", "state": tmp_path / "state", "backends": "real", "entry_points": False}
    with assembled(**wish) as plugins:
        plugin = plugins["io.containerd.content.v1.content"]
        assert plugin.exports == {"root": str(tmp_path / "root" / "io.containerd.content.v1.content")}
        store = plugin.instance()
        assert isinstance(store, FileContent)
        digest = put(store, b"kept")
    with assembled(**wish) as plugins:
        again = plugins["io.containerd.content.v1.content"].instance()
        assert isinstance(again, FileContent)
        assert read(again, digest) == b"kept"


_TRACED = """
import sys
from pathlib import Path
from refimpl.backends.real.content import FileContent
from refimpl.contract.context import CallContext
from refimpl.contract.times import SystemClock

store = FileContent(Path(sys.argv[1]), SystemClock())
writer = store.writer(CallContext(), "ref", total=3)
writer.write(b"ab")
writer.close()
writer = store.writer(CallContext(), "ref")
writer.write(b"c")
writer.commit(CallContext(), 3)
"""


@pytest.mark.debian("strace")
def test_bytes_are_on_the_disk_before_they_have_a_name_and_the_name_before_the_answer(tmp_path: Path) -> None:
    calls = "openat,fsync,fdatasync,rename,renameat,renameat2"
    log = tmp_path / "trace"
    trace = ["strace", "-f", "-y", "-e", f"trace={calls}", "-o", str(log)]
    subprocess.run([*trace, sys.executable, "-c", _TRACED, str(tmp_path / "store")], check=True)
    lines = [line for line in log.read_text().splitlines() if str(tmp_path / "store") in line]

    def steps() -> Iterator[str]:
        for line in lines:
            if "/data>" in line and "sync(" in line:
                yield "sync of the data"
            elif "rename" in line and "/data" in line:
                yield "name"
            elif "/blobs/sha256>" in line and "sync(" in line:
                yield "sync of the directory"

    # Of the writer that only let go, and of the one that committed (CNT-095).
    assert list(steps()) == ["sync of the data", "sync of the data", "name", "sync of the directory"]
    for name in ("startedat", "updatedat"):
        opened = [line for line in lines if "openat(" in line and f"/{name}" in line and "O_CREAT" in line]
        assert opened, name
        assert all(f'{name}.tmp"' in line and "O_SYNC" in line for line in opened), "replaced at once (CNT-096)"


_LARGE = """
import os, resource, sys
from pathlib import Path
from refimpl.backends.real.content import FileContent
from refimpl.contract.context import CallContext
from refimpl.contract.times import SystemClock

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

ctx, size = CallContext(), int(sys.argv[2])
store = FileContent(Path(sys.argv[1]), SystemClock())
writer = store.writer(ctx, "large")
piece = bytes(4 << 20)
before = peak()
for _ in range(8):
    writer.write(piece)
writer.close()
[data] = Path(sys.argv[1], "ingest").glob("*/data")
os.truncate(data, size)
writer = store.writer(ctx, "large")
assert writer.status().offset == size
digest = writer.digest()
writer.commit(ctx, size, digest)
reader = store.reader(ctx, digest)
assert reader.read_at(size - 3, 10) == bytes(3)
print(digest, peak() - before)
"""


def test_a_large_blob_is_resumed_committed_and_read_in_constant_memory(tmp_path: Path) -> None:
    """A gibibyte, most of it a hole, so that only the hash has to work; REFIMPL_LARGE_BLOB names another size."""
    size = int(os.environ.get("REFIMPL_LARGE_BLOB", "1073741824"))
    told = subprocess.run(
        [sys.executable, "-c", _LARGE, str(tmp_path), str(size)], check=True, capture_output=True, text=True
    ).stdout.split()
    expected, piece = hashlib.sha256(), bytes(1 << 20)
    for _ in range(size >> 20):
        expected.update(piece)
    assert told[0] == f"sha256:{expected.hexdigest()}"
    assert int(told[1]) < 16, "MiB above what the process had before"
