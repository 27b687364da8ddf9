"""The walking differ on the machine's own file systems: mounts, trees, times as Linux has them (DIF-001 to DIF-066)."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from refimpl.archive.media_types import TAR, TAR_GZIP
from refimpl.contract.context import CallContext, CancelToken
from refimpl.contract.errors import Canceled, Unknown
from refimpl.contract.mounts import Mount
from refimpl.contract.types import Descriptor
from tests.archive.archives import archive, directory, file, hardlink, special, symlink, whiteout
from tests.backends.real.worlds import CTX, World, bind, overlay, world

pytestmark = pytest.mark.root

LAYER = archive(file("file", b"content", mode=0o4755, uid=3, gid=4, mtime=5), file("dir/below", b"x" * 70_000))


def names(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir())


@pytest.fixture
def real(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.mkdir()
    return path


@pytest.mark.parametrize("data", [LAYER, gzip.compress(LAYER), zstandard.compress(LAYER)], ids=["tar", "gzip", "zstd"])
def test_a_layer_becomes_files(real: World, target: Path, data: bytes) -> None:
    media_type = TAR if data == LAYER else TAR_GZIP
    answer = real.apply(data, bind(target), media_type)
    assert answer == Descriptor(TAR, f"sha256:{hashlib.sha256(LAYER).hexdigest()}", len(LAYER))
    found = (target / "file").lstat()
    assert (target / "file").read_bytes() == b"content"
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_mtime) == (0o4755, 3, 4, 5)
    assert (target / "dir/below").read_bytes() == b"x" * 70_000


def test_special_files_and_links_are_what_they_say(real: World, target: Path) -> None:
    layer = archive(
        special("null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        special("pipe", tarfile.FIFOTYPE, mode=0o600),
        symlink("link", "/nowhere", uid=7, mtime=9),
        file("one"),
        hardlink("two", "one", mode=0o600),
        directory("sticky", mode=0o1777, mtime=11),
        file("sticky/inside"),
    )
    real.apply(layer, bind(target))
    assert (target / "null").stat().st_rdev == os.makedev(1, 3)
    assert stat.S_ISFIFO((target / "pipe").lstat().st_mode)
    assert ((target / "link").readlink(), (target / "link").lstat().st_uid) == (Path("/nowhere"), 7)
    assert (target / "one").stat().st_ino == (target / "two").stat().st_ino
    assert (stat.S_IMODE((target / "sticky").stat().st_mode), (target / "sticky").stat().st_mtime) == (0o1777, 11)


def test_the_umask_plays_no_part(real: World, target: Path) -> None:
    before = os.umask(0o077)
    try:
        real.apply(archive(file("f", mode=0o666), directory("d", mode=0o777), file("implied/f")), bind(target))
    finally:
        os.umask(before)
    modes = {name: stat.S_IMODE((target / name).stat().st_mode) for name in ("f", "d", "implied")}
    assert modes == {"f": 0o666, "d": 0o777, "implied": 0o755}


def test_an_overlays_upper_directory_gets_the_kernels_marks_without_a_mount(real: World, target: Path) -> None:
    for name in ("lower", "upper", "work"):
        (target / name).mkdir()
    (target / "lower/dir").mkdir(0o750)
    os.chown(target / "lower/dir", 5, 6)
    layer = archive(file("dir/new"), whiteout(".wh.gone"), directory("full"), whiteout("full/.wh..wh..opq"))
    real.apply(layer, overlay(target))
    copied, mark = (target / "upper/dir").stat(), (target / "upper/gone").lstat()
    assert (stat.S_IMODE(copied.st_mode), copied.st_uid, copied.st_gid) == (0o750, 5, 6)
    assert stat.S_ISCHR(mark.st_mode)
    assert mark.st_rdev == 0
    assert os.getxattr(target / "upper/full", "trusted.overlay.opaque") == b"y"
    assert names(target / "work") == [], "the kernel would have made its own directory there"


def test_a_lower_directory_that_is_missing_is_passed_over(real: World, target: Path) -> None:
    for name in ("upper", "below"):
        (target / name).mkdir()
    (target / "below/dir").mkdir(0o700)
    options = (f"lowerdir={target}/missing:{target}/below", f"upperdir={target}/upper", f"workdir={target}/work")
    real.apply(archive(file("dir/new")), [Mount("overlay", "overlay", options=options)])
    assert stat.S_IMODE((target / "upper/dir").stat().st_mode) == 0o700


def test_of_two_mounts_the_later_covers_the_earlier(real: World, target: Path) -> None:
    for name in ("first", "second"):
        (target / name).mkdir()
    real.apply(LAYER, [*bind(target / "first"), *bind(target / "second")])
    assert names(target / "first") == []
    assert names(target / "second") == ["dir", "file"]


@pytest.mark.parametrize(
    "mount,text",
    [
        (Mount("bind", "/proc/nothing", options=("rbind",)), "no such file or directory"),
        (Mount("nosuchfs", "none"), "no such device"),
    ],
)
def test_a_mount_that_fails_is_told_and_nothing_is_left(real: World, mount: Mount, text: str) -> None:
    with pytest.raises(Unknown, match=f"failed to mount.*{text}"):
        real.apply(LAYER, [mount])


def test_a_read_only_target_stays_as_it_is(real: World, target: Path) -> None:
    with pytest.raises(Unknown, match=r"mount callback failed: .*read-only file system"):
        real.apply(LAYER, [Mount("bind", str(target), options=("rbind", "ro"))])
    assert names(target) == []


def test_a_full_file_system_is_told(real: World, target: Path) -> None:
    small = [Mount("tmpfs", "tmpfs", options=("size=64k",))]
    with pytest.raises(Unknown, match=r"mount callback failed: /big: no space left on device"):
        real.apply(archive(file("big", bytes(1 << 20))), small)


def test_an_abandoned_call_leaves_nothing(real: World, target: Path) -> None:
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(Canceled):
        real.apply(LAYER, bind(target), ctx=CallContext("default", cancel=cancel))
    assert names(target) == []


def test_a_difference_applied_to_the_old_tree_gives_the_new_one(real: World, target: Path) -> None:
    old, new, copy = (target / name for name in ("old", "new", "copy"))
    for path in (old, new, copy):
        path.mkdir()
    before = archive(file("kept", mtime=1), file("gone"), directory("turned"), file("changed", b"1", mtime=2))
    for path in (old, copy, new):
        real.differ.apply(CTX, Descriptor(TAR, real.blob(before), len(before)), bind(path))
    after = archive(whiteout(".wh.gone"), file("turned", b"a file"), file("changed", b"2", mtime=3), file("sub/x"))
    real.apply(after, bind(new))

    made = real.differ.compare(CTX, bind(old), bind(new), media_type=TAR)
    with tarfile.open(fileobj=io.BytesIO(real.blob_of(made))) as tar:
        in_order = tar.getnames()
    real.differ.apply(CTX, made, bind(copy))

    assert in_order == ["changed", ".wh.gone", "sub", "sub/x", "turned"]
    assert names(copy) == names(new)
    assert (copy / "turned").read_bytes() == b"a file"
    assert (copy / "changed").stat().st_mtime == 3


def test_file_capabilities_go_through_a_difference_and_other_attributes_do_not(real: World, target: Path) -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    for name in ("old", "new", "copy"):
        (target / name).mkdir()
    (target / "new/f").write_bytes(b"x")
    os.setxattr(target / "new/f", "security.capability", capability)
    os.setxattr(target / "new/f", "user.lost", b"1")
    made = real.differ.compare(CTX, bind(target / "old"), bind(target / "new"))
    real.differ.apply(CTX, made, bind(target / "copy"))
    found = {name: os.getxattr(target / "copy/f", name) for name in os.listxattr(target / "copy/f")}
    assert found == {"security.capability": capability}
