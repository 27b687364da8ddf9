"""The fake overlay does what the kernel's does (SNP-039 to SNP-049, SNX-016 to SNX-018)."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from refimpl.backends.fake.clock import FakeClock
from refimpl.backends.fake.host import FakeHost
from refimpl.contract.context import CallContext
from refimpl.contract.mounts import FileType, Mount, RootFS
from tests.backends.fake.trees import FakeTree, RealTree, dump, load

CTX = CallContext()


@pytest.fixture
def host() -> FakeHost:
    host = FakeHost(FakeClock())
    for name in ("base", "middle", "upper", "work"):
        host.fs.mkdir(f"/{name}")
    host.fs.mkdir("/base/dir")
    host.fs.write("/base/dir/old", b"old")
    host.fs.write("/base/file", b"base")
    host.fs.link("/base/file", "/base/twin")
    host.fs.write("/middle/file", b"middle")
    return host


def overlay(*options: str) -> list[Mount]:
    directories = ("lowerdir=/middle:/base", "upperdir=/upper", "workdir=/work")
    return [Mount("overlay", "overlay", options=(*options, *directories))]


@contextmanager
def merged(host: FakeHost, *options: str) -> Iterator[RootFS]:
    with host.mounter.mounted(CTX, overlay(*options)) as root:
        yield root


def test_the_nearest_layer_shows(host: FakeHost) -> None:
    with merged(host) as root:
        assert root.read("/file") == b"middle"
        assert root.listdir("/") == ["dir", "file", "twin"]


def test_a_deletion_is_a_whiteout_in_the_upper_directory_only(host: FakeHost) -> None:
    with merged(host) as root:
        root.unlink("/file")
        assert not root.exists("/file")
    whiteout = host.fs.lstat("/upper/file")
    assert (whiteout.type, whiteout.device) == (FileType.CHAR, (0, 0))
    assert host.fs.read("/middle/file") == b"middle"


def test_a_directory_made_again_is_opaque_and_hides_the_old_content(host: FakeHost) -> None:
    with merged(host) as root:
        root.rmtree("/dir")
        root.mkdir("/dir")
        assert root.listdir("/dir") == []
        assert root.xattrs("/dir") == {}, "the mark is not for those who look through the mount"
    assert host.fs.xattrs("/upper/dir") == {"trusted.overlay.opaque": b"y"}


def test_with_userxattr_the_marks_are_in_user_attributes(host: FakeHost) -> None:
    with merged(host, "userxattr") as root:
        root.rmtree("/dir")
        root.mkdir("/dir")
    assert host.fs.xattrs("/upper/dir") == {"user.overlay.opaque": b"y"}


def test_writing_copies_up_one_name_and_leaves_the_other(host: FakeHost) -> None:
    host.fs.unlink("/middle/file")
    host.fs.setxattr("/base/file", "user.note", b"kept")
    with merged(host) as root:
        root.write("/twin", b"changed")
        assert (root.read("/twin"), root.read("/file")) == (b"changed", b"base")
        assert root.xattrs("/twin") == {"user.note": b"kept"}
    assert host.fs.read("/base/twin") == b"base"


def test_copying_up_makes_the_directories_above_with_their_attributes(host: FakeHost) -> None:
    host.fs.lchown("/base/dir", 7, 8)
    host.fs.chmod("/base/dir", 0o1750)
    before = host.fs.lstat("/base/dir").mtime
    with merged(host) as root:
        root.chmod("/dir/old", 0o600)
    copy = host.fs.lstat("/upper/dir")
    assert (copy.mode, copy.uid, copy.gid, copy.mtime) == (0o1750, 7, 8, before)


def test_a_directory_from_below_does_not_move(host: FakeHost) -> None:
    with merged(host) as root:
        with pytest.raises(OSError, match="cross-device") as error:
            root.rename("/dir", "/elsewhere")
        assert error.value.errno == errno.EXDEV
        assert root.read("/dir/old") == b"old"


def test_a_file_from_below_moves_and_leaves_a_whiteout(host: FakeHost) -> None:
    with merged(host) as root:
        root.rename("/dir/old", "/dir/new")
        assert root.listdir("/dir") == ["new"]
    assert host.fs.lstat("/upper/dir/old").type is FileType.CHAR


def test_a_whiteout_cannot_be_made_by_hand_through_the_mount(host: FakeHost) -> None:
    with merged(host) as root, pytest.raises(PermissionError):
        root.mknod("/forged", FileType.CHAR, 0, (0, 0))


def test_an_upper_directory_can_be_mounted_again(host: FakeHost) -> None:
    with merged(host) as root:
        root.write("/new", b"kept")
    with merged(host) as root:
        assert root.read("/new") == b"kept"


def test_a_volatile_one_cannot(host: FakeHost) -> None:
    with merged(host, "volatile"):
        pass
    with pytest.raises(OSError, match="Invalid argument"), merged(host):
        pass


def test_aufs_keeps_its_marks_in_files(host: FakeHost) -> None:
    mounts = [Mount("aufs", "none", options=("dio", "br:/upper=rw:/middle=ro+wh:/base=ro+wh"))]
    with host.mounter.mounted(CTX, mounts) as root:
        root.unlink("/file")
        root.rmtree("/dir")
        root.mkdir("/dir")
        assert root.listdir("/") == ["dir", "twin"]
        assert root.listdir("/dir") == []
        with pytest.raises(PermissionError):
            root.write("/.wh.twin", b"")
    assert host.fs.listdir("/upper") == [".wh.file", "dir"]
    assert host.fs.listdir("/upper/dir") == [".wh..wh..opq"]


# --- the kernel's own overlay, as far as this machine has one


def _random_operation(draw: random.Random) -> tuple[Any, ...]:
    def path() -> str:
        return draw.choice(["", "/a", "/b", "/a/c", "/a/c/e", "/ln"]) + "/" + draw.choice(["a", "b", "c", "d", "ln"])

    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    attribute = draw.choice(["user.a", "security.capability", "trusted.b", "trusted.overlay.opaque"])
    operations: list[tuple[Any, ...]] = [
        ("mkdir", path()),
        ("mkdir", path()),
        ("write", path(), b"x" * draw.choice([0, 3, 5000])),
        ("append", path(), b"yy"),
        ("symlink", draw.choice(["a", "./a", "f", "zz", "c/e"]), path()),
        ("link", path(), path()),
        ("mknod", path()),
        ("unlink", path()),
        ("rmdir", path()),
        ("rmtree", path()),
        ("rename", path(), path()),
        ("rename", path(), path()),
        ("chmod", path(), draw.choice([0o4755, 0o600, 0o1777, 0o2755])),
        ("lchown", path(), draw.choice([0, 7]), 9),
        ("setxattr", path(), attribute, capability),
    ]
    return draw.choice(operations)


@pytest.mark.root
@pytest.mark.parametrize("seed", range(0, 40, 8))
def test_random_operations_end_as_in_the_kernel(tmp_path: Path, seed: int) -> None:
    """Three layers, one on the other; after each the merged tree and the upper directory are compared."""
    for number in range(seed, seed + 8):
        base = tmp_path / str(number)
        _compare_with_kernel(base, random.Random(number))
        shutil.rmtree(base)


def _compare_with_kernel(base: Path, draw: random.Random) -> None:
    host = FakeHost()
    for name in ("l1", "l2", "l3", "w1", "w2", "w3", "m"):
        (base / name).mkdir(parents=True, mode=0o755)
        host.fs.mkdir(f"/{name}")
    for layer in (1, 2, 3):
        with _both_mounted(base, host, layer):
            real, fake = RealTree(base / "m"), FakeTree(host.fs.below("/m"))
            for _ in range(60):
                operation = _random_operation(draw)
                assert (operation, fake.perform(*operation)) == (operation, real.perform(*operation))
            assert dump(host.fs.below("/m")) == _real_dump(base / "m")
        assert dump(host.fs.below(f"/l{layer}")) == _real_dump(base / f"l{layer}")


def _real_dump(path: Path) -> dict[str, tuple[Any, ...]]:
    copy = FakeHost()
    load(path, copy.fs)
    return dump(copy.fs)


@contextmanager
def _both_mounted(base: Path, host: FakeHost, layer: int) -> Iterator[None]:
    lowers = [f"l{number}" for number in range(layer - 1, 0, -1)]
    if not lowers:
        command = ["mount", "--bind", f"{base}/l1", f"{base}/m"]
        mount = Mount("bind", "/l1", options=("rbind",))
    else:
        here = f"upperdir={base}/l{layer},workdir={base}/w{layer}"
        real_lowers = ":".join(f"{base}/{name}" for name in lowers)
        command = ["mount", "-t", "overlay", "overlay", "-o", f"index=off,lowerdir={real_lowers},{here}", f"{base}/m"]
        fake_lowers = ":".join(f"/{name}" for name in lowers)
        options = ("index=off", f"lowerdir={fake_lowers}", f"upperdir=/l{layer}", f"workdir=/w{layer}")
        mount = Mount("overlay", "overlay", options=options)
    umask = os.umask(0o022)
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        os.umask(umask)
        pytest.skip(f"this kernel does not mount it here: {done.stderr.strip()}")
    host.mounts.mount("/m", mount)
    try:
        yield
    finally:
        subprocess.run(["umount", f"{base}/m"], check=True)
        host.mounts.unmount("/m")
        os.umask(umask)
