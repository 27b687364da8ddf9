"""Packing layers: the archive is containerd's to the byte (DIF-052, DIF-057 to DIF-065)."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from refimpl.archive.apply import apply_layer
from refimpl.archive.layer import write_layer
from refimpl.archive.stream import ByteStream
from refimpl.backends.fake.clock import FakeClock
from refimpl.backends.fake.fs_view import View
from refimpl.backends.fake.host import FakeHost
from refimpl.client import Client
from refimpl.contract.context import CallContext, CancelToken
from refimpl.contract.errors import Canceled
from refimpl.contract.mounts import FileType, Mount
from refimpl.contract.times import SECOND
from tests.acceptance.daemons import containerd, running
from tests.backends.fake.trees import dump

CTX = CallContext()
TAR = "application/vnd.oci.image.layer.v1.tar"
WHOLE = 10**9 * SECOND  # a time without a fraction
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
_KINDS = {
    FileType.CHAR: stat.S_IFCHR,
    FileType.BLOCK: stat.S_IFBLK,
    FileType.FIFO: stat.S_IFIFO,
    FileType.SOCKET: stat.S_IFSOCK,
}
RECORDED = "sha256:5a1eaa6738c984e8d4b2e1c4207ab827f8c30990d0714245db0aabb171b8ce80"


@pytest.fixture
def host() -> FakeHost:
    host = FakeHost(FakeClock())
    host.fs.mkdir("/old")
    host.fs.mkdir("/new")
    return host


def packed(host: FakeHost, now: int = WHOLE) -> bytes:
    parts: list[bytes] = []
    write_layer(CTX, parts.append, host.fs.below("/old"), host.fs.below("/new"), now)
    return b"".join(parts)


def names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [entry.name + ("/" if entry.isdir() else "") for entry in tar]


def on_both(host: FakeHost, name: str, content: bytes = b"same", mtime: int = WHOLE) -> None:
    for side in ("old", "new"):
        host.fs.write(f"/{side}/{name}", content)
        host.fs.utime(f"/{side}/{name}", mtime, mtime)


def test_no_difference_is_1024_zeros(host: FakeHost) -> None:
    on_both(host, "file")
    data = packed(host)
    assert data == bytes(1024)
    digest = hashlib.sha256(data).hexdigest()
    assert digest == "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"


def test_entries_are_ordered_by_path_with_parents_first(host: FakeHost) -> None:
    for side in ("old", "new"):
        host.fs.makedirs(f"/{side}/etc/deep")
    for name in ("etc/deep/x", "etc-x", "etc.d", "a"):
        host.fs.write(f"/new/{name}", b"")
    host.fs.write("/old/etc/gone", b"")
    assert names(packed(host)) == ["a", "etc/", "etc/deep/", "etc/deep/x", "etc/.wh.gone", "etc-x", "etc.d"]


def test_a_removed_directory_is_one_whiteout_and_a_type_change_none(host: FakeHost) -> None:
    for name in ("gone/sub", "turned"):
        host.fs.makedirs(f"/old/{name}")
        host.fs.write(f"/old/{name}/file", b"")
    host.fs.write("/new/turned", b"a file now")
    assert names(packed(host)) == [".wh.gone", "turned"]


def test_whiteouts_are_stamped_with_the_rounded_second(host: FakeHost) -> None:
    host.fs.write("/old/gone", b"")
    with tarfile.open(fileobj=io.BytesIO(packed(host, WHOLE + SECOND // 2))) as tar:
        [entry] = tar
    assert (entry.mtime, entry.mode, entry.uid, entry.gid) == (10**9 + 1, 0, 0, 0)


def test_a_new_name_brings_the_unchanged_ones_along(host: FakeHost) -> None:
    on_both(host, "b")
    for side in ("old", "new"):
        host.fs.link(f"/{side}/b", f"/{side}/c")
    host.fs.link("/new/b", "/new/d")
    host.fs.link("/new/b", "/new/a")
    with tarfile.open(fileobj=io.BytesIO(packed(host))) as tar:
        assert [(entry.name, entry.linkname) for entry in tar] == [("a", ""), ("b", "a"), ("c", "a"), ("d", "a")]


def test_content_is_compared_only_where_both_times_are_whole_seconds(host: FakeHost) -> None:
    on_both(host, "whole", b"one")
    on_both(host, "fraction", b"one", WHOLE + 1)
    for name, mtime in (("whole", WHOLE), ("fraction", WHOLE + 1)):
        host.fs.write(f"/new/{name}", b"two")
        host.fs.utime(f"/new/{name}", mtime, mtime)
    assert names(packed(host)) == ["whole"]


def test_owner_mode_and_capability_are_changes_and_other_attributes_are_not(host: FakeHost) -> None:
    for name in ("attribute", "capability", "mode", "owner"):
        on_both(host, name)
    host.fs.setxattr("/new/attribute", "user.x", b"1")
    host.fs.setxattr("/new/capability", "security.capability", CAPABILITY)
    host.fs.chmod("/new/mode", 0o600)
    host.fs.lchown("/new/owner", 1, 1)
    with tarfile.open(fileobj=io.BytesIO(packed(host)), errors="surrogateescape") as tar:
        found = {entry.name: entry.pax_headers for entry in tar}
    assert list(found) == ["capability", "mode", "owner"]
    assert "SCHILY.xattr.security.capability" in found["capability"]


def test_sockets_and_the_roots_own_attributes_are_left_out(host: FakeHost) -> None:
    host.fs.mknod("/new/socket", FileType.SOCKET)
    host.fs.chmod("/new", 0o700)
    assert packed(host) == bytes(1024)


def test_a_file_named_like_a_whiteout_is_written_under_its_name(host: FakeHost) -> None:
    host.fs.write("/new/.wh.evil", b"")
    assert names(packed(host)) == [".wh.evil"]


def test_the_difference_turns_the_old_tree_into_the_new_one(host: FakeHost) -> None:
    _fill(host.fs)
    data = packed(host)
    old = host.fs.below("/old")
    apply_layer(CTX, old, ByteStream([data]))
    expected = dump(host.fs.below("/new"), times_before=1 << 62)
    assert _as_layers_carry(dump(old, times_before=1 << 62)) == _as_layers_carry(expected)


def _as_layers_carry(tree: dict[str, tuple[object, ...]]) -> dict[str, tuple[object, ...]]:
    """Without what no layer holds: attributes, and times below the second."""
    return {path: (*entry[:8], int(str(entry[8])) // SECOND) for path, entry in tree.items() if "socket" not in path}


def _fill(fs: View) -> None:
    """Two trees with every kind of object and of change, the same each time."""
    for side in ("/old", "/new"):
        fs.makedirs(f"{side}/etc/deep/er")
        fs.mkdir(f"{side}/etc-x")
        for name in ("etc/same", "etc-x/f", "empty", "link1"):
            fs.write(f"{side}/{name}", name.encode() if name != "empty" else b"")
        fs.link(f"{side}/link1", f"{side}/link2")
        fs.symlink("same", f"{side}/etc/symlink")
    fs.link("/new/link1", "/new/zz-link3")
    fs.write("/new/etc/deep/er/new", b"new" * 1000)
    fs.write("/new/" + "n" * 150, b"long")
    fs.makedirs("/new/" + "d" * 90 + "/" + "e" * 90)
    fs.write("/new/" + "d" * 90 + "/" + "e" * 90 + "/f", b"")
    fs.mkdir("/new/ünï")
    fs.write("/new/ünï/cödé", b"1")
    fs.symlink("x" * 120, "/new/longlink")
    fs.mknod("/new/chr", FileType.CHAR, 0o666, (1, 3))
    fs.mknod("/new/blk", FileType.BLOCK, 0o660, (8, 1))
    fs.mknod("/new/fifo", FileType.FIFO, 0o644)
    fs.mknod("/new/socket", FileType.SOCKET)
    fs.write("/new/suid", b"s")
    fs.lchown("/new/suid", 3_000_000, 4_294_967_294)
    fs.chmod("/new/suid", 0o6755)
    fs.setxattr("/new/suid", "security.capability", CAPABILITY)
    fs.write("/new/future", b"")
    fs.mkdir("/new/sticky", 0o1777)
    fs.rename("/new/etc/same", "/new/etc/moved")
    fs.chmod("/new/etc-x", 0o700)
    fs.makedirs("/old/gone/sub")
    fs.write("/old/gone/sub/f", b"")
    fs.mkdir("/old/turned")
    fs.write("/new/turned", b"f")
    fs.write("/new/hard1", b"n")
    fs.link("/new/hard1", "/new/etc/hard2")
    for path, _ in list(fs.walk("/")):
        fs.utime(path, WHOLE, 8_589_934_593 * SECOND if path.endswith("future") else WHOLE)


def test_the_archive_is_the_recorded_one(host: FakeHost) -> None:
    """The digest is that of the real daemon's answer for the same trees (see the test below)."""
    _fill(host.fs)
    assert f"sha256:{hashlib.sha256(packed(host)).hexdigest()}" == RECORDED


@pytest.mark.root
@pytest.mark.debian("containerd")
def test_the_real_daemon_writes_the_same_archive(host: FakeHost, tmp_path: Path) -> None:
    _fill(host.fs)
    for side in ("old", "new"):
        _write_out(host.fs.below(f"/{side}"), tmp_path / "trees" / side)
    ctx = CallContext("default")
    with running(containerd(tmp_path)) as daemon, Client(str(daemon.socket)) as client:
        sides = [[Mount("bind", str(tmp_path / "trees" / side), options=("rbind", "ro"))] for side in ("old", "new")]
        answer = client.diff.compare(ctx, sides[0], sides[1], media_type=TAR)
        reader = client.content.reader(ctx, answer.digest)
        real = reader.read_at(0, reader.size)
    with tarfile.open(fileobj=io.BytesIO(real)) as tar:
        stamped = tar.getmember(".wh.gone").mtime
    assert packed(host, int(stamped) * SECOND) == real


def _write_out(fs: View, target: Path) -> None:
    """Put a fake tree on the real disk."""
    target.mkdir(parents=True)
    first: dict[int, Path] = {}
    made: list[tuple[Path, int]] = []
    for path, info in list(fs.walk("/"))[1:]:
        real = target / path[1:]
        if info.inode in first:
            os.link(first[info.inode], real)
            continue
        if info.links > 1 and info.type is not FileType.DIRECTORY:
            first[info.inode] = real
        if info.type is FileType.DIRECTORY:
            real.mkdir()
        elif info.type is FileType.FILE:
            real.write_bytes(fs.read(path))
        elif info.type is FileType.SYMLINK:
            real.symlink_to(fs.readlink(path))
        else:
            os.mknod(real, _KINDS[info.type], os.makedev(*info.device))
        os.lchown(real, info.uid, info.gid)
        if info.type is not FileType.SYMLINK:
            real.chmod(info.mode)
        for name, value in fs.xattrs(path).items():
            os.setxattr(real, name, value)
        made.append((real, info.mtime))
    for real, mtime in reversed(made):
        os.utime(real, ns=(mtime, mtime), follow_symlinks=False)


def test_a_caller_who_went_away_stops_the_work(host: FakeHost) -> None:
    host.fs.write("/new/file", b"")
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(Canceled):
        write_layer(CallContext(cancel=cancel), len, host.fs.below("/old"), host.fs.below("/new"), WHOLE)
