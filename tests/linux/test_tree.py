"""A tree on the real disk gives what the fake one gives, and nothing below its root leads out of it."""

from __future__ import annotations

import contextlib
import os
import random
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from refimpl.backends.fake.host import FakeHost
from refimpl.contract.mounts import FileType, RootFS
from refimpl.linux import confined
from refimpl.linux.tree import DirectoryTree
from tests.backends.fake.trees import FakeTree, dump, outcome

_BY_HAND = "by hand"


@pytest.fixture(params=["openat2", _BY_HAND])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are resolved by the kernel, and by hand as where it does not offer to."""
    if request.param == _BY_HAND:
        monkeypatch.setattr(confined, "_kernel_can", lambda: False)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "root").mkdir()
    return tmp_path


@pytest.fixture
def tree(outside: Path, way: None) -> Iterator[DirectoryTree]:
    with DirectoryTree(str(outside / "root")) as tree:
        yield tree


def _furnish(fs: RootFS) -> None:
    fs.mkdir("/dir")
    fs.write("/dir/file", b"text")
    fs.write("/file", b"other")
    fs.symlink("/dir/file", "/link")
    fs.symlink("nowhere", "/dangling")
    fs.symlink("loop", "/loop")
    fs.symlink("../../../dir", "/up")
    fs.mknod("/fifo", FileType.FIFO)


_CALLS: dict[str, Callable[[RootFS], object]] = {
    "read of nothing": lambda fs: fs.read("/missing"),
    "read of a dangling symlink": lambda fs: fs.read("/dangling"),
    "read and write of a dangling symlink": lambda fs: fs.open("/dangling", "r+b"),
    "read through a climbing symlink": lambda fs: fs.read("/up/file"),
    "mkdir in nothing": lambda fs: fs.mkdir("/missing/dir"),
    "mkdir of the root": lambda fs: fs.mkdir("/"),
    "mkdir of what is there": lambda fs: fs.mkdir("/dir"),
    "makedirs through a symlink": lambda fs: fs.makedirs("/up/a/b"),
    "makedirs over a file": lambda fs: fs.makedirs("/file/a"),
    "makedirs over a dangling symlink": lambda fs: fs.makedirs("/dangling/a"),
    "lstat below a file": lambda fs: fs.lstat("/file/below"),
    "exists below a file": lambda fs: fs.exists("/file/below"),
    "dots after a file": lambda fs: fs.lstat("/file/../dir"),
    "list of a file": lambda fs: fs.listdir("/file"),
    "symlink over a symlink": lambda fs: fs.symlink("x", "/dangling"),
    "empty symlink": lambda fs: fs.symlink("", "/empty"),
    "loop": lambda fs: fs.read("/loop"),
    "lstat of a loop": lambda fs: fs.lstat("/loop"),
    "lstat in a loop": lambda fs: fs.lstat("/loop/x"),
    "read of a directory": lambda fs: fs.read("/dir"),
    "write of a directory": lambda fs: fs.write("/dir", b""),
    "truncate of a directory": lambda fs: fs.truncate("/dir", 1),
    "read of a fifo": lambda fs: fs.read("/fifo"),
    "unlink of a directory": lambda fs: fs.unlink("/dir"),
    "rmdir of a file": lambda fs: fs.rmdir("/file"),
    "rmdir of what is not empty": lambda fs: fs.rmdir("/dir"),
    "rmdir of the root": lambda fs: fs.rmdir("/"),
    "rmtree of nothing": lambda fs: fs.rmtree("/missing"),
    "link to a directory": lambda fs: fs.link("/dir", "/again"),
    "readlink of a file": lambda fs: fs.readlink("/file"),
    "mknod of a directory": lambda fs: fs.mknod("/made", FileType.DIRECTORY),
    "rename into itself": lambda fs: fs.rename("/dir", "/dir/inside"),
    "rename over a directory": lambda fs: fs.rename("/file", "/dir"),
    "rename over a file": lambda fs: fs.rename("/dir", "/file"),
    "rename over its parent": lambda fs: fs.rename("/dir/file", "/dir"),
    "rename of the root": lambda fs: fs.rename("/", "/x"),
    "long name": lambda fs: fs.mkdir("/" + "n" * 256),
    "removal of no attribute": lambda fs: fs.removexattr("/file", "user.none"),
    "attribute of no kind": lambda fs: fs.setxattr("/file", "bogus.name", b""),
    "user's attribute of a symlink": lambda fs: fs.setxattr("/link", "user.name", b""),
}


@pytest.mark.parametrize("name", _CALLS)
def test_an_operation_ends_as_in_the_fake_tree(tree: DirectoryTree, name: str) -> None:
    fake = FakeHost().fs
    for fs in (tree, fake):
        _furnish(fs)
    assert outcome(_CALLS[name], tree) == outcome(_CALLS[name], fake)
    assert sorted(path for path, _ in tree.walk()) == sorted(path for path, _ in fake.walk())


def _random_operation(draw: random.Random) -> tuple[Any, ...]:
    def path() -> str:
        above = draw.choice(["", "/a", "/b", "/a/c", "/ln", "/a/..", "/ln/../b", "/../a/./"])
        return above + "/" + draw.choice(["a", "b", "c", "d", "ln"])

    target = draw.choice(["a", "/a/c", "..", "../../b", "/", "zz", "/ln/c", "c/../../.."])
    operations: list[tuple[Any, ...]] = [
        ("mkdir", path()),
        ("makedirs", path() + "/e", draw.choice([0o755, 0o700])),
        ("write", path(), b"x" * draw.choice([0, 3, 5000])),
        ("append", path(), b"yy"),
        ("symlink", target, path()),
        ("link", path(), path()),
        ("unlink", path()),
        ("rmdir", path()),
        ("rmtree", draw.choice(["/a", "/b", "/c", "/ln"])),
        ("rename", path(), path()),
        ("chmod", path(), draw.choice([0o755, 0o600, 0o1777])),
        ("utime", path(), 1_700_000_000_123_456_789, 1_600_000_000_000_000_001),
        ("truncate", path(), draw.choice([0, 2, 9000])),
        ("listdir", path()),
        ("readlink", path()),
    ]
    return draw.choice(operations)


@pytest.mark.parametrize("seed", range(6))
def test_random_operations_end_as_in_the_fake_tree(tree: DirectoryTree, seed: int) -> None:
    draw = random.Random(seed)
    real, fake = FakeTree(tree), FakeHost().fs
    twin = FakeTree(fake)
    for fs in (tree, fake):
        fs.chmod("/", 0o755)
    for _ in range(300):
        operation = _random_operation(draw)
        expected = twin.perform(*operation)
        if operation[0] == "makedirs" and expected == "ENOENT":
            expected = "EEXIST"  # a symlink that leads nowhere is in the way, and may be called either
        assert (operation, real.perform(*operation)) == (operation, expected)
    owner = {(entry[2], entry[3]) for entry in dump(fake).values()}.pop()
    mine = {path: (*entry[:2], *owner, *entry[4:]) for path, entry in dump(tree).items()}
    assert mine == dump(fake)


@pytest.mark.parametrize("path", ["/absolute/secret", "/climbing/secret", "/../secret", "/in/../../../secret"])
def test_no_path_leads_out_of_the_root(tree: DirectoryTree, outside: Path, path: str) -> None:
    tree.mkdir("/in")
    tree.symlink(str(outside), "/absolute")
    tree.symlink("../..", "/climbing")
    refused: list[Callable[[], object]] = [
        lambda: tree.read(path),
        lambda: tree.lstat(path),
        lambda: tree.truncate(path, 0),
        lambda: tree.chmod(path, 0),
        lambda: tree.unlink(path),
        lambda: tree.rename(path, "/taken"),
        lambda: tree.link(path, "/taken"),
        lambda: tree.setxattr(path, "user.a", b""),
        lambda: tree.utime(path, 0, 0),
    ]
    for call in refused:
        with pytest.raises(FileNotFoundError):
            call()
    assert (outside / "secret").read_bytes() == b"secret"


def test_a_final_symlink_that_is_followed_is_followed_inside(tree: DirectoryTree, outside: Path) -> None:
    tree.symlink(str(outside / "secret"), "/link")
    tree.makedirs(str(outside))
    tree.write("/link", b"inside")
    tree.chmod("/link", 0o600)
    assert (outside / "secret").read_bytes() == b"secret"
    assert stat.S_IMODE((outside / "secret").stat().st_mode) != 0o600
    assert tree.read(str(outside / "secret")) == b"inside"


def test_symlinks_of_proc_are_not_followed(way: None) -> None:
    with DirectoryTree("/proc/self") as proc:
        assert outcome(proc.listdir, "/root/etc") in {"ELOOP", "ENOENT"}


def test_a_race_of_renames_never_leads_outside(tree: DirectoryTree, outside: Path) -> None:
    """A directory turns into a symlink to the outside and back, while it is written through."""
    tree.mkdir("/real")
    tree.symlink(str(outside), "/evil")
    tree.mkdir("/at")
    done = threading.Event()

    def swap() -> None:
        root = outside / "root"
        while not done.is_set():
            (root / "at").rename(root / "kept")
            (root / "evil").rename(root / "at")
            (root / "at").rename(root / "evil")
            (root / "kept").rename(root / "at")

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for number in range(500):
            outcome(tree.write, f"/at/secret{number % 7}", b"planted")
            outcome(tree.rmtree, f"/at/secret{number % 5}")
            outcome(tree.unlink, "/at/secret")
    finally:
        done.set()
        swapper.join()
    assert sorted(each.name for each in outside.iterdir()) == ["root", "secret"]
    assert (outside / "secret").read_bytes() == b"secret"


def test_the_umask_of_the_process_does_not_count(tree: DirectoryTree) -> None:
    umask = os.umask(0o077)
    try:
        tree.mkdir("/dir", 0o1777)
        tree.write("/file", b"", 0o666)
        tree.mknod("/fifo", FileType.FIFO, 0o622)
        with tree.open("/opened", "wb"):
            pass
        tree.write("/opened", b"again", 0o777)
    finally:
        os.umask(umask)
    found = {path: entry.mode for path, entry in tree.walk() if path != "/"}
    assert found == {"/dir": 0o1777, "/fifo": 0o622, "/file": 0o666, "/opened": 0o644}


def test_a_set_gid_bit_is_handed_down(tree: DirectoryTree) -> None:
    tree.chmod("/", 0o2755)
    tree.mkdir("/dir", 0o700)
    assert tree.lstat("/dir").mode == 0o2700


def test_depth_has_no_limit(outside: Path) -> None:
    """Deeper than any recursion, than open files may be many, and, at last, than a path may be long."""
    levels = 1100
    deep, deeper = "/d" * levels, "/e" * levels
    with DirectoryTree(str(outside / "root")) as tree:
        try:
            tree.makedirs(deep)
            tree.write(deep + "/file", b"deep")
            assert sum(1 for _ in tree.walk()) == levels + 2
            tree.makedirs(deeper)
            tree.rename("/d", deeper + "/d")
            assert tree.read(deeper + deep + "/file") == b"deep"
            tree.rmtree("/e")
            assert tree.listdir("/") == []
        finally:
            # Whoever removes pytest's temporary directories later cannot go as deep.
            subprocess.run(["rm", "-rf", str(outside / "root")], check=True)


def test_a_wide_tree_is_removed_with_all_it_holds(tree: DirectoryTree, outside: Path) -> None:
    for number in range(30):
        tree.makedirs(f"/top/{number}/a/b")
        tree.write(f"/top/{number}/a/file", b"")
        tree.symlink(str(outside), f"/top/{number}/link")
    tree.mknod("/top/fifo", FileType.FIFO)
    tree.rmtree("/top")
    assert tree.listdir("/") == []
    assert (outside / "secret").exists()


def test_a_moved_directory_stops_a_removal_rather_than_leading_out(
    tree: DirectoryTree, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.makedirs("/top/a/b")
    tree.write("/top/a/b/file", b"")
    unlink = os.unlink

    def moving_unlink(name: str, *, dir_fd: int) -> None:
        unlink(name, dir_fd=dir_fd)
        (outside / "root" / "top" / "a" / "b").rename(outside / "moved")

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", moving_unlink)
        assert outcome(tree.rmtree, "/top") == "ESTALE"
    assert (outside / "secret").exists()


def test_a_wait_is_not_what_a_fifo_gives(tree: DirectoryTree) -> None:
    tree.mknod("/fifo", FileType.FIFO)
    for mode in ("rb", "wb", "ab", "r+b"):
        assert outcome(tree.open, "/fifo", mode) == "ENXIO"


def test_an_error_names_the_path_that_was_asked_for(tree: DirectoryTree) -> None:
    for call in (tree.lstat, tree.read, tree.unlink, tree.xattrs, tree.rmtree, tree.listdir):
        with pytest.raises(FileNotFoundError) as caught:
            call("/no/such")
        assert caught.value.filename == "/no/such"


def test_a_null_byte_is_refused(tree: DirectoryTree) -> None:
    with pytest.raises(ValueError, match="null byte"):
        tree.lstat("/a\0b/c")
    with pytest.raises(ValueError, match="null byte"):
        tree.lstat("/a\0b")
    with pytest.raises(ValueError, match="invalid mode"):
        tree.open("/a", "w")


def test_names_that_are_no_text_keep_their_bytes(tree: DirectoryTree, outside: Path) -> None:
    tree.write("/\udcff", b"odd")
    assert [os.fsencode(each.name) for each in (outside / "root").iterdir()] == [b"\xff"]
    assert tree.listdir("/") == ["\udcff"]


def test_nothing_stays_open(outside: Path, way: None) -> None:
    def opened() -> list[Path]:
        found = []
        for each in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.append(each.readlink())
        return [path for path in found if path.is_relative_to(outside)]

    tree = DirectoryTree(str(outside / "root"))
    _furnish(tree)
    for call in _CALLS.values():
        outcome(call, tree)
    assert opened() == [outside / "root"]
    tree.close()
    tree.close()
    assert opened() == []


@pytest.mark.root
def test_attributes_and_devices_are_the_disks(tree: DirectoryTree) -> None:
    tree.mknod("/null", FileType.CHAR, 0o666, (1, 3))
    tree.mknod("/block", FileType.BLOCK, 0o660, (7, 300))
    tree.mknod("/socket", FileType.SOCKET, 0o700)
    tree.write("/file", b"")
    tree.setxattr("/file", "trusted.a", b"\0value")
    tree.setxattr("/file", "user.b", b"")
    tree.lchown("/file", 7, 8)
    tree.symlink("file", "/link")
    tree.lchown("/link", 5, 6)
    tree.setxattr("/link", "trusted.l", b"1")
    assert (tree.lstat("/null").type, tree.lstat("/null").device) == (FileType.CHAR, (1, 3))
    assert (tree.lstat("/block").type, tree.lstat("/block").device) == (FileType.BLOCK, (7, 300))
    assert tree.lstat("/socket").type is FileType.SOCKET
    assert tree.xattrs("/file") == {"trusted.a": b"\0value", "user.b": b""}
    assert tree.xattrs("/link") == {"trusted.l": b"1"}
    tree.removexattr("/file", "trusted.a")
    assert tree.xattrs("/file") == {"user.b": b""}
    assert [(tree.lstat(path).uid, tree.lstat(path).gid) for path in ("/file", "/link")] == [(7, 8), (5, 6)]
    assert outcome(tree.open, "/null") == "ENXIO"
