"""Snapshots, what is in the layers: mounts, owners, modes, links, deletions (SNP-036 to SNP-057)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import errno
import os
import struct
import tarfile
import uuid
from io import BytesIO
from pathlib import Path

import pytest

from conformance import clause
from conformance.suites._snapshots import (
    committed,
    exists,
    layers,  # a fixture
    paths,
    read_only,
    write_synced,
)
from refimpl.contract.mounts import FileType
from refimpl.contract.types import Descriptor

CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
"""A value of ``security.capability``: revision 2, effective, CAP_NET_BIND_SERVICE permitted."""

LAYERS = 128
PLAIN_TAR = "application/vnd.oci.image.layer.v1.tar"


def _nothing(root):
    """An empty layer."""


def _owner(root, path="/"):
    found = root.lstat(path)
    return found.uid, found.gid


def _mode(root, path="/"):
    return root.lstat(path).mode


@clause("SNP-036")
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_nothing_can_be_written_through_the_mounts_of_a_view(ctx, snapshotter, mounted, layers, depth):
    """Rejects: a view mounted writable, through which a committed layer can be changed."""
    parent = ""
    for n in range(depth):
        parent = layers.files(f"layer{n}", {f"d{n}/f": b"1"}, parent)
    mounts = snapshotter.view(ctx, "v", parent)

    assert read_only(mounts), f"the list does not say that it is read-only: {mounts}"
    with mounted(mounts) as root:
        folders = [path for path, found in root.walk() if found.type is FileType.DIRECTORY and "lost+found" not in path]
        for folder in folders:
            with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
                root.write(f"{folder.rstrip('/')}/new", b"x")


@clause("SNP-037")
def test_what_was_written_is_there_at_the_next_mount(ctx, snapshotter, mounted, layers):
    """Rejects: data that lives in the mount and goes with it."""
    layers.files("c", {"f": b"1"})
    with mounted(snapshotter.prepare(ctx, "a", "c")) as root:
        root.write("x", b"2")

    with mounted(snapshotter.mounts(ctx, "a")) as root:
        assert (paths(root), root.read("x")) == (["/f", "/x"], b"2")


@clause("SNP-038")
def test_the_root_of_a_fresh_snapshot_is_0755_and_owned_by_root(ctx, snapshotter, mounted):
    """Rejects: the 0700 of the temporary directory that it was made from."""
    with mounted(snapshotter.prepare(ctx, "a")) as root:
        assert oct(_mode(root)) == "0o755"
        assert _owner(root) == (0, 0)


@clause("SNP-039")
def test_a_rewrite_of_the_same_size_hides_the_parents_version(layers):
    """Rejects: changes found by size and time, so that a quick rewrite of the same length is lost."""

    def change(root):
        root.write("etc/hosts", b"mydomain 10.0.0.2")
        root.write("etc/new", b"n")
        root.chmod("etc/mode", 0o600)

    for n in range(5):
        lower = layers.files(f"lower{n}", {"etc/hosts": b"mydomain 10.0.0.1", "etc/mode": b"m"})
        upper = layers.add(f"upper{n}", lower, change)

        with layers.look(lower) as root:
            assert (root.read("etc/hosts"), _mode(root, "etc/mode")) == (b"mydomain 10.0.0.1", 0o644)
            assert not root.exists("etc/new")
        with layers.look(upper) as root:
            assert (root.read("etc/hosts"), _mode(root, "etc/mode")) == (b"mydomain 10.0.0.2", 0o600)
            assert root.read("etc/new") == b"n"


@clause("SNP-040")
def test_a_deletion_in_a_child_is_gone_there_and_in_all_above(layers):
    """Rejects: a deletion that comes back a layer later, reaches the parent, or shows a marker file."""
    layers.files("L1", {"foo": b"1", "foobar": b"2"})
    layers.add("L2", "L1", lambda root: root.unlink("foobar"))
    layers.add("L3", "L2", _nothing)

    for name, expected in (("L1", ["/foo", "/foobar"]), ("L2", ["/foo"]), ("L3", ["/foo"])):
        with layers.look(name) as root:
            assert paths(root) == expected, name


@clause("SNP-041")
def test_a_directory_made_again_hides_what_it_held_before(layers):
    """Rejects: old entries that shine through the new directory, at once or from a third layer."""

    def again(root):
        root.rmtree("lib")
        root.mkdir("lib")
        root.write("lib/not-hidden", b"2")

    layers.files("L1", {"lib/hidden": b"1"})
    layers.add("L2", "L1", again)
    layers.add("L3", "L2", lambda root: root.write("lib/newfile", b"3"))

    with layers.look("L3") as root:
        assert root.listdir("lib") == ["newfile", "not-hidden"]
    with layers.look("L1") as root:
        assert root.listdir("lib") == ["hidden"]


@clause("SNP-042")
def test_files_move_out_of_a_lower_layer(layers):
    """Rejects: a source that reappears because nothing marks it as gone, or a target without content."""

    def move(root):
        root.rename("mv", "etc/mv2")
        root.mkdir("dir3")
        root.link("dir2/f2", "dir3/f2")
        root.unlink("dir2/f2")

    layers.files("L1", {"mv": b"m", "etc/hosts": b"h", "dir2/f2": b"two"})
    layers.add("L2", "L1", move)

    with layers.look("L2") as root:
        assert paths(root) == ["/dir2", "/dir3", "/dir3/f2", "/etc", "/etc/hosts", "/etc/mv2"]
        assert (root.read("etc/mv2"), root.read("dir3/f2")) == (b"m", b"two")
    with layers.look("L1") as root:
        assert (root.read("mv"), root.read("dir2/f2")) == (b"m", b"two")


@clause("SNP-043")
def test_a_lower_directory_is_renamed_whole_or_not_at_all(layers):
    """Rejects: a rename that succeeds and loses what was in the directory."""

    def rename(root):
        try:
            root.rename("ren", "ren2")
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            assert root.read("ren/sub/f") == b"1", "a refused rename changes nothing"
            root.makedirs("ren2/sub")
            root.write("ren2/sub/f", root.read("ren/sub/f"))
            root.rmtree("ren")

    layers.files("L1", {"ren/sub/f": b"1"})
    layers.add("L2", "L1", rename)

    with layers.look("L2") as root:
        assert paths(root) == ["/ren2", "/ren2/sub", "/ren2/sub/f"]
        assert root.read("ren2/sub/f") == b"1"


@clause("SNP-044")
def test_a_change_of_owner_is_kept_at_every_depth(layers):
    """Rejects: a file copied up with its owner below directories that are not."""
    changed = ["opt", "opt/a", "opt/a/b", "opt/a/b/file.txt"]

    def chown(root):
        for path in changed:
            root.lchown(path, 1, 1)

    layers.files("L1", {"opt/a/b/file.txt": b"1"})
    layers.add("L2", "L1", chown)

    with layers.look("L2") as root:
        assert {_owner(root, path) for path in changed} == {(1, 1)}
        assert root.read("opt/a/b/file.txt") == b"1"
    with layers.look("L1") as root:
        assert {_owner(root, path) for path in changed} == {(0, 0)}


@clause("SNP-045")
def test_owners_of_directories_survive_three_commits(layers):
    """Rejects: a directory made again in an upper layer that gets the owner of the lower one."""

    def first(root):
        for n in range(1, 6):
            root.mkdir(f"dir{n}", 0o700)
        root.write("dir4/f1", b"1")
        root.write("dir5/f1", b"1")
        for path in ("dir1", "dir2", "dir3", "dir5", "dir5/f1"):
            root.lchown(path, 1, 1)

    def second(root):
        root.lchown("dir2", 0, 0)
        root.rmdir("dir3")
        root.lchown("dir4", 1, 1)
        root.lchown("dir4/f1", 1, 1)

    def third(root):
        root.mkdir("dir3", 0o700)
        root.lchown("dir3", 1, 1)
        root.rmtree("dir5")
        root.mkdir("dir5", 0o700)
        root.lchown("dir5", 1, 1)

    root_owned, daemon_owned = (0, 0), (1, 1)
    expected = [
        {
            "/dir1": daemon_owned, "/dir2": daemon_owned, "/dir3": daemon_owned, "/dir4": root_owned,
            "/dir4/f1": root_owned, "/dir5": daemon_owned, "/dir5/f1": daemon_owned,
        },
        {
            "/dir1": daemon_owned, "/dir2": root_owned, "/dir4": daemon_owned, "/dir4/f1": daemon_owned,
            "/dir5": daemon_owned, "/dir5/f1": daemon_owned,
        },
        {
            "/dir1": daemon_owned, "/dir2": root_owned, "/dir3": daemon_owned, "/dir4": daemon_owned,
            "/dir4/f1": daemon_owned, "/dir5": daemon_owned,
        },
    ]  # fmt: skip
    parent = ""
    for n, fill in enumerate((first, second, third)):
        parent = layers.add(f"L{n}", parent, fill)
    for n, owners in enumerate(expected):
        with layers.look(f"L{n}") as root:
            assert {path: _owner(root, path) for path in paths(root)} == owners, f"layer {n}"
            assert {_mode(root, path) for path in owners if path.count("/") == 1} == {0o700}, f"layer {n}"


@clause("SNP-046")
def test_modes_are_kept_with_set_uid_and_sticky_bits(layers):
    """Rejects: a copy whose chown clears the set-uid bit, or a chmod that reaches the parent."""

    def first(root):
        root.write("suid", b"1")
        root.chmod("suid", 0o4755)
        root.write("sgid", b"1")
        root.chmod("sgid", 0o2750)
        root.mkdir("sticky")
        root.chmod("sticky", 0o1777)

    layers.add("L1", "", first)
    layers.add("L2", "L1", lambda root: root.chmod("sticky", 0o700))

    for name, sticky in (("L1", 0o1777), ("L2", 0o700)):
        with layers.look(name) as root:
            found = [oct(_mode(root, path)) for path in ("suid", "sgid", "sticky")]
            assert found == [oct(0o4755), oct(0o2750), oct(sticky)], name


@clause("SNP-047", needs={"xattr"})
def test_extended_attributes_are_kept(layers):
    """Rejects: a copy that drops attributes, or attributes of the storage's own that are seen in the tree."""

    def first(root):
        root.write("own", b"1")
        root.setxattr("own", "user.a", b"1")
        root.setxattr("own", "security.capability", CAPABILITY)
        root.mkdir("again")
        root.write("again/old", b"1")

    def second(root):
        root.setxattr("own", "user.b", b"2")
        root.rmtree("again")
        root.mkdir("again")

    layers.add("L1", "", first)
    layers.add("L2", "L1", second)

    with layers.look("L1") as root:
        assert dict(root.xattrs("own")) == {"user.a": b"1", "security.capability": CAPABILITY}
    with layers.look("L2") as root:
        assert dict(root.xattrs("own")) == {"user.a": b"1", "user.b": b"2", "security.capability": CAPABILITY}
        assert dict(root.xattrs("again")) == {}
        assert root.listdir("again") == []


def _linked(root):
    root.write("hl1", b"h")
    root.link("hl1", "hl2")


@clause("SNP-048")
def test_two_names_of_one_file_stay_two_names_of_one_file(layers):
    """Rejects: a commit or copy that turns links into two files."""
    layers.add("L1", "", _linked)

    with layers.look("L1") as root:
        one, two = root.lstat("hl1"), root.lstat("hl2")
        assert (one.inode, one.links, two.links) == (two.inode, 2, 2)
        assert root.read("hl2") == b"h"


@clause("SNP-049")
def test_a_write_through_one_name_in_a_child_leaves_the_parent_alone(layers):
    """Rejects: a parent whose other name changes too; whether the child's does is free."""
    layers.add("L1", "", _linked)
    layers.add("L2", "L1", lambda root: root.write("hl1", b"H"))

    with layers.look("L2") as root:
        assert root.read("hl1") == b"H"
        assert root.read("hl2") in {b"h", b"H"}
    with layers.look("L1") as root:
        assert (root.read("hl1"), root.read("hl2")) == (b"h", b"h")


@clause("SNP-050", needs={"mknod"})
def test_special_files_are_kept(layers):
    """Rejects: a copy or conversion that skips device nodes, or follows symbolic links."""

    def fill(root):
        root.symlink("etc/hosts", "sl")
        root.mknod("fifo", FileType.FIFO, 0o640)
        root.mknod("nul", FileType.CHAR, 0o644, (1, 3))

    layers.add("L1", "", fill)
    layers.add("L2", "L1", _nothing)

    for name in ("L1", "L2"):
        with layers.look(name) as root:
            assert root.lstat("sl").type is FileType.SYMLINK
            assert root.readlink("sl") == "etc/hosts"
            fifo, nul = root.lstat("fifo"), root.lstat("nul")
            assert (fifo.type, oct(fifo.mode)) == (FileType.FIFO, "0o640")
            assert (nul.type, oct(nul.mode), nul.device) == (FileType.CHAR, "0o644", (1, 3))


@clause("SNP-051")
def test_modification_times_are_kept_to_the_nanosecond(layers):
    """Rejects: a copy that bears the time of copying, or times cut to the second."""
    times = {"f": 1_100_000_000_123_456_789, "d": 6_000_000_000, "s": 8_000_000_000}

    def fill(root):
        root.write("f", b"1")
        root.mkdir("d")
        root.symlink("f", "s")
        for path, mtime in times.items():
            root.utime(path, mtime, mtime)

    layers.add("L1", "", fill)
    layers.add("L2", "L1", lambda root: root.chmod("f", 0o600))

    with layers.look("L2") as root:
        assert {path: root.lstat(path).mtime for path in times} == times
        assert oct(_mode(root, "f")) == "0o600"


@clause("SNP-052")
def test_the_owner_of_the_root_directory_is_inherited(ctx, snapshotter, mounted, layers):
    """Rejects: an upper directory made as root, which hides the owner below."""
    layers.add("L1", "", lambda root: root.lchown("/", 1000, 2000))

    layers.add("L2", "L1", _nothing)

    for make, parent in (("prepare", "L1"), ("view", "L1"), ("prepare", "L2")):
        with mounted(getattr(snapshotter, make)(ctx, f"{make} on {parent}", parent)) as root:
            assert _owner(root) == (1000, 2000), f"{make} on {parent}"


@clause("SNP-053")
def test_the_mode_of_the_root_directory_is_inherited_or_0755(ctx, snapshotter, mounted, layers):
    """Rejects: a mode that neither the parent nor a fresh directory has."""
    layers.add("L1", "", lambda root: root.chmod("/", 0o750))

    with layers.look("L1") as root:
        assert oct(_mode(root)) == "0o750"
    with mounted(snapshotter.prepare(ctx, "a", "L1")) as root:
        assert _mode(root) in {0o750, 0o755}, oct(_mode(root))


@clause("SNP-054")
def test_siblings_do_not_see_each_other(ctx, snapshotter, mounted, layers):
    """Rejects: two snapshots of one parent that share a directory."""
    layers.files("c", {"f": b"1"})
    a, b = snapshotter.prepare(ctx, "a", "c"), snapshotter.prepare(ctx, "b", "c")

    with mounted(a) as mine, mounted(b) as other:
        mine.write("sib", b"2")
        mine.write("f", b"changed")
        assert paths(other) == ["/f"]
        assert other.read("f") == b"1"
        with layers.look("c") as below:
            assert paths(below) == ["/f"]


def _archive(files):
    """A tar of some files, whiteouts among them."""
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            if data is None:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            else:
                entry.size, entry.mode = len(data), 0o644
            tar.addfile(entry, BytesIO(data or b""))
    return buffer.getvalue()


@clause("SNP-055", needs={"overlayfs"})
def test_128_layers_can_be_built_mounted_and_read(ctx, snapshotters, content, diff, blob):
    """Rejects: a mount whose options are cut at a page, beyond about forty layers.

    The subject performs all mounts, by applying layers to them and comparing them.
    """
    snapshotter = snapshotters("overlayfs")

    def apply(mounts, files):
        data = _archive(files)
        diff.apply(ctx, Descriptor(PLAIN_TAR, blob(data), len(data)), mounts)

    unique, parent = uuid.uuid4().hex, ""
    for n in range(LAYERS):
        mounts = snapshotter.prepare(ctx, f"active{n}", parent)
        if n == 0:
            apply(mounts, {"bottom": b"b", "over": b"0", "ONLY": None, "ONLY/bottom": b"b", unique: b""})
        elif n % 9 == 1:  # 1, 10, ..., 127
            apply(mounts, {"over": str(n).encode(), "ONLY": None, "ONLY/.wh..wh..opq": b"", f"ONLY/{n}": b"x"})
        parent = f"layer{n}"
        snapshotter.commit(ctx, parent, f"active{n}")

    found = diff.compare(
        ctx, snapshotter.view(ctx, "nothing"), snapshotter.view(ctx, "all", parent), media_type=PLAIN_TAR
    )
    reader = content.reader(ctx, found.digest)
    try:
        data = reader.read_at(0, reader.size)
    finally:
        reader.close()
    with tarfile.open(fileobj=BytesIO(data)) as tar:
        assert [name for name in tar.getnames() if name.startswith("ONLY/")] == ["ONLY/127"]
        files = {name: tar.extractfile(name) for name in ("over", "bottom")}
        assert {name: file and file.read() for name, file in files.items()} == {"over": b"127", "bottom": b"b"}


@clause("SNP-056")
def test_a_commit_while_mounted_has_what_was_written(ctx, snapshotter, mounted, layers):
    """Rejects: a commit that is refused as busy, or that misses what is not yet unmounted."""
    with mounted(snapshotter.prepare(ctx, "a")) as root:
        write_synced(root, "late1", b"1")
        snapshotter.commit(ctx, "c", "a")

    with layers.look("c") as root:
        assert (paths(root), root.read("late1")) == (["/late1"], b"1")


@clause("SNP-057")
def test_a_mounted_snapshot_can_be_removed(ctx, snapshotter, mounted, collect):
    """Rejects: a removal that blocks or fails as long as somebody looks at the files."""
    with mounted(snapshotter.prepare(ctx, "a")) as root:
        root.write("f", b"1")
        snapshotter.remove(ctx, "a")
        assert not exists(snapshotter, ctx, "a")
        collect(ctx)
        snapshotter.prepare(ctx, "a")
    snapshotter.remove(ctx, "a")
    collect(ctx)


@clause("SNP-057", needs={"disk"})
def test_the_storage_of_a_removed_snapshot_goes_after_the_unmount(ctx, snapshotter, mounted, collect):
    """Rejects: storage that stays for ever because it was in use when its time had come."""
    mounts = snapshotter.prepare(ctx, "a")
    if mounts[-1].type != "bind":
        pytest.skip("the storage is no directory")
    with mounted(mounts):
        snapshotter.remove(ctx, "a")
        collect(ctx)
    committed(snapshotter, ctx, "other")
    snapshotter.remove(ctx, "other")
    collect(ctx)

    assert not Path(mounts[-1].source).exists()
