"""The fake disk gives what Linux gives: errnos, links, holes, times, and paths that stay inside their root."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable

import pytest

from refimpl.backends.fake.clock import EPOCH, FakeClock
from refimpl.backends.fake.fs_view import View
from refimpl.backends.fake.host import FakeHost
from refimpl.contract.mounts import FileType
from tests.backends.fake.trees import outcome


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def fs(clock: FakeClock) -> View:
    fs = FakeHost(clock).fs
    fs.mkdir("/dir")
    fs.write("/dir/file", b"text")
    fs.write("/file", b"other")
    fs.symlink("/dir/file", "/link")
    fs.symlink("nowhere", "/dangling")
    fs.symlink("loop", "/loop")
    return fs


@pytest.mark.parametrize(
    "expected,call",
    [
        ("ENOENT", lambda fs: fs.read("/missing")),
        ("ENOENT", lambda fs: fs.read("/dangling")),
        ("ENOENT", lambda fs: fs.mkdir("/missing/dir")),
        ("ENOTDIR", lambda fs: fs.lstat("/file/below")),
        ("ENOTDIR", lambda fs: fs.listdir("/file")),
        ("EEXIST", lambda fs: fs.mkdir("/dir")),
        ("EEXIST", lambda fs: fs.mkdir("/")),
        ("EEXIST", lambda fs: fs.symlink("x", "/dangling")),
        ("ELOOP", lambda fs: fs.read("/loop")),
        ("EISDIR", lambda fs: fs.read("/dir")),
        ("EISDIR", lambda fs: fs.unlink("/dir")),
        ("ENOTDIR", lambda fs: fs.rmdir("/file")),
        ("ENOTEMPTY", lambda fs: fs.rmdir("/dir")),
        ("EBUSY", lambda fs: fs.rmdir("/")),
        ("EPERM", lambda fs: fs.link("/dir", "/again")),
        ("EINVAL", lambda fs: fs.readlink("/file")),
        ("EINVAL", lambda fs: fs.rename("/dir", "/dir/inside")),
        ("EISDIR", lambda fs: fs.rename("/file", "/dir")),
        ("ENOTDIR", lambda fs: fs.rename("/dir", "/file")),
        ("ENOTEMPTY", lambda fs: fs.rename("/dir/file", "/dir")),
        ("ENAMETOOLONG", lambda fs: fs.mkdir("/" + "n" * 256)),
        ("ENODATA", lambda fs: fs.removexattr("/file", "user.none")),
        ("ENOTSUP", lambda fs: fs.setxattr("/file", "bogus.name", b"")),
        ("EPERM", lambda fs: fs.setxattr("/link", "user.name", b"")),
        ("ENXIO", lambda fs: fs.mknod("/fifo", FileType.FIFO) or fs.read("/fifo")),
    ],
)
def test_a_refusal_has_the_errno_that_linux_gives(fs: View, expected: str, call: Callable[[View], object]) -> None:
    assert outcome(call, fs) == expected


def test_an_absolute_symlink_and_dots_stay_inside_a_view(fs: View) -> None:
    inner = fs.below("/dir")
    inner.symlink("/file", "/absolute")
    inner.symlink("../../file", "/climbing")
    assert inner.read("/absolute") == b"text"
    assert inner.read("/climbing") == b"text"
    assert inner.listdir("/../..") == inner.listdir("/")


def test_a_write_through_a_dangling_symlink_makes_what_it_names(fs: View) -> None:
    fs.write("/dangling", b"made")
    assert fs.read("/nowhere") == b"made"
    assert fs.readlink("/dangling") == "nowhere"


def test_names_are_sorted_by_their_bytes(fs: View) -> None:
    for name in ("é", "z", "Z", "\udcff"):
        fs.mkdir(f"/dir/{name}")
    assert fs.listdir("/dir") == ["Z", "file", "z", "é", "\udcff"]


def test_hardlinks_share_content_and_attributes_until_the_last_name_is_gone(fs: View) -> None:
    fs.link("/file", "/twin")
    fs.chmod("/twin", 0o4711)
    assert (fs.lstat("/file").mode, fs.lstat("/file").links) == (0o4711, 2)
    assert fs.lstat("/file").inode == fs.lstat("/twin").inode
    fs.unlink("/file")
    assert (fs.read("/twin"), fs.lstat("/twin").links) == (b"other", 1)


def test_an_open_file_outlives_its_name(fs: View) -> None:
    with fs.open("/file", "r+b") as file:
        fs.unlink("/file")
        assert file.read() == b"other"
        file.write(b"!")
        file.seek(0)
        assert file.read() == b"other!"


def test_holes_take_no_blocks_and_read_as_zeros(fs: View) -> None:
    fs.truncate("/file", 1 << 20)
    assert fs.lstat("/file").blocks == 8
    with fs.open("/file", "r+b") as file:
        file.seek(500_000)
        file.write(b"island")
    assert fs.lstat("/file").blocks == 16
    data = fs.read("/file")
    assert (data[:5], data[500_000:500_006], set(data[5:500_000])) == (b"other", b"island", {0})
    fs.truncate("/file", 2)
    fs.truncate("/file", 5)
    assert fs.read("/file") == b"ot\0\0\0"


def test_times_are_nanoseconds_of_the_hosts_clock(fs: View, clock: FakeClock) -> None:
    clock.advance(2.000000001)
    fs.write("/file", b"later")
    assert fs.lstat("/file").mtime == EPOCH + 2_000_000_001
    fs.utime("/link", 1, 1_234_567_890_123_456_789)
    assert fs.lstat("/link").mtime == 1_234_567_890_123_456_789
    assert fs.lstat("/dir/file").mtime == EPOCH, "the symlink itself was meant"


def test_a_change_of_owner_takes_set_id_bits_and_capabilities_away(fs: View) -> None:
    fs.chmod("/file", 0o6755)
    fs.setxattr("/file", "security.capability", b"\x01")
    fs.lchown("/file", 5, 6)
    stat = fs.lstat("/file")
    assert (stat.uid, stat.gid, stat.mode) == (5, 6, 0o755)
    assert fs.xattrs("/file") == {}


def test_a_set_gid_directory_passes_its_group_on(fs: View) -> None:
    fs.lchown("/dir", 0, 77)
    fs.chmod("/dir", 0o2755)
    fs.mkdir("/dir/sub")
    fs.write("/dir/new", b"")
    assert (fs.lstat("/dir/sub").gid, fs.lstat("/dir/sub").mode) == (77, 0o2755)
    assert (fs.lstat("/dir/new").gid, fs.lstat("/dir/new").mode) == (77, 0o644)


def test_devices_keep_their_numbers(fs: View) -> None:
    fs.mknod("/null", FileType.CHAR, 0o666, (1, 3))
    stat = fs.lstat("/null")
    assert (stat.type, stat.mode, stat.device) == (FileType.CHAR, 0o666, (1, 3))


def test_a_walk_names_parents_first_and_follows_no_symlink(fs: View) -> None:
    fs.symlink("dir", "/to-dir")
    assert [path for path, _ in fs.walk("/")] == [
        "/", "/dangling", "/dir", "/dir/file", "/file", "/link", "/loop", "/to-dir",
    ]  # fmt: skip


def test_a_tree_is_removed_without_following_its_symlinks(fs: View) -> None:
    fs.symlink("/file", "/dir/out")
    fs.rmtree("/dir")
    assert not fs.exists("/dir")
    assert fs.exists("/file")


def test_threads_do_not_lose_each_others_files(fs: View) -> None:
    def work(number: int) -> None:
        for index in range(50):
            fs.write(f"/dir/{number}-{index}", b"x")
            fs.rename(f"/dir/{number}-{index}", f"/dir/{number}.{index}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(fs.listdir("/dir")) == 8 * 50 + 1


@pytest.mark.parametrize("mode", ["r", "w+", "x"])
def test_a_mode_that_no_root_fs_promises_is_refused(fs: View, mode: str) -> None:
    with pytest.raises(ValueError, match="invalid mode"):
        fs.open("/file", mode)


def test_a_writer_appends_and_replaces(fs: View) -> None:
    with fs.open("/file", "ab") as file:
        file.write(b"+")
    assert fs.read("/file") == b"other+"
    with fs.open("/file", "wb") as file:
        file.write(b"new")
    assert fs.read("/file") == b"new"
    with pytest.raises(OSError, match="No such file") as error:
        fs.open("/missing", "r+b")
    assert error.value.errno == errno.ENOENT
