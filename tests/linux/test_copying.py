"""A copy of a tree is equal in everything but its inodes (refimpl.linux.copying)."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from refimpl.linux.copying import copy_tree
from tests.linux.trees import DEPTH, deepen, depth_of, open_files, properties


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    return source, target


def copied(trees: tuple[Path, Path]) -> Path:
    source, target = trees
    copy_tree(str(source), str(target))
    return target


def test_files_directories_and_links(trees: tuple[Path, Path]) -> None:
    source, _ = trees
    for name in ("a/b/c", "a/d", "empty"):
        (source / name).mkdir(parents=True, mode=0o710)
    (source / "a/b/c/file").write_bytes(os.urandom(70_000))
    (source / "a/empty").touch(mode=0o604)
    (source / "link").symlink_to("a/b/c/file")
    (source / "a/d/nowhere").symlink_to("/no/such/file")
    os.link(source / "a/b/c/file", source / "a/d/again")
    os.link(source / "link", source / "empty/link", follow_symlinks=False)
    os.mkfifo(source / "fifo", 0o640)
    for path, times in (("a/b/c/file", (5, 7_000_000_001)), ("link", (6, 8_000_000_002)), ("a/b", (7, 9_000_000_003))):
        os.utime(source / path, ns=times, follow_symlinks=False)
    source.chmod(0o1777)
    os.utime(source, ns=(1, 2))

    target = copied(trees)

    assert properties(target) == properties(source)
    assert (target / "a/d/again").samefile(target / "a/b/c/file")
    inodes = [{os.lstat(path).st_ino for path in tree.rglob("*")} for tree in (source, target)]
    assert not inodes[0] & inodes[1]


def test_what_is_read_while_it_is_copied_keeps_its_time_of_access(trees: tuple[Path, Path]) -> None:
    source, _ = trees
    (source / "file").write_bytes(b"1")
    os.utime(source / "file", ns=(1_000_000_001, 2_000_000_002))

    found = (copied(trees) / "file").stat()

    assert (found.st_atime_ns, found.st_mtime_ns) == (1_000_000_001, 2_000_000_002)


@pytest.mark.root
def test_owners_devices_and_attributes(trees: tuple[Path, Path]) -> None:
    source, _ = trees
    (source / "set-uid").write_bytes(b"#!")
    (source / "dir").mkdir()
    (source / "link").symlink_to("dir")
    os.mknod(source / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(source / "disk", 0o600 | stat.S_IFBLK, os.makedev(7, 0))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(source / "socket"))
    for number, path in enumerate(source.iterdir(), 1):
        os.chown(path, 1000 + number, 2000 + number, follow_symlinks=False)
    (source / "set-uid").chmod(0o6755)
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    os.setxattr(source / "set-uid", "security.capability", capability)
    os.setxattr(source / "link", "trusted.test", b"\0\xff", follow_symlinks=False)
    os.setxattr(source / "null", "trusted.test", b"")
    os.setxattr(source / "dir", "user.test", b"x" * 1000)
    os.setxattr(source, "trusted.overlay.opaque", b"y")

    target = copied(trees)

    assert properties(target) == properties(source)
    assert os.getxattr(target / "set-uid", "security.capability") == capability


def test_holes_stay_holes(trees: tuple[Path, Path]) -> None:
    source, _ = trees
    with (source / "sparse").open("wb") as file:
        file.truncate(1 << 30)
        for offset in (0, 300 << 20, (1 << 30) - 4):
            file.seek(offset)
            file.write(b"data")
    with (source / "hole").open("wb") as file:
        file.truncate(1 << 40)

    target = copied(trees)

    for name in ("sparse", "hole"):
        assert (target / name).stat().st_size == (source / name).stat().st_size
        assert (target / name).stat().st_blocks <= (source / name).stat().st_blocks
    with (target / "sparse").open("rb") as file:
        for offset in (0, 300 << 20, (1 << 30) - 4):
            file.seek(offset)
            assert file.read(4) == b"data"


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EINVAL, errno.ENOSYS])
def test_a_file_system_that_copies_no_ranges(
    trees: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_args: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "copy_file_range", refuse)
    source, _ = trees
    (source / "file").write_bytes(os.urandom(3 << 20))

    assert properties(copied(trees)) == properties(source)


def test_a_tree_deeper_than_a_path_can_be(trees: tuple[Path, Path]) -> None:
    source, target = trees
    deepen(source, DEPTH)
    copy_tree(str(source), str(target))
    assert depth_of(target) == DEPTH


def test_a_copy_that_is_not_wanted_any_more_ends(trees: tuple[Path, Path], tmp_path: Path) -> None:
    source, target = trees
    for number in range(10):
        (source / str(number)).touch()

    def check() -> None:
        if len(list(target.iterdir())) == 3:
            raise InterruptedError("gone")

    with pytest.raises(InterruptedError):
        copy_tree(str(source), str(target), check)
    assert open_files(tmp_path) == []


@pytest.mark.parametrize("missing", ["source", "target"])
def test_a_directory_that_is_not_there(tmp_path: Path, missing: str) -> None:
    for name in {"source", "target"} - {missing}:
        (tmp_path / name).mkdir()

    with pytest.raises(FileNotFoundError):
        copy_tree(str(tmp_path / "source"), str(tmp_path / "target"))
    assert open_files(tmp_path) == []
