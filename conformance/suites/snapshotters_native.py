"""native: copies of whole trees, their mounts, their sizes and their removal (SNX-030 to SNX-036)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import pytest

from conformance import clause
from conformance.suites._snapshots import ROOTED, layers
from conformance.suites._snapshotters import (
    PLAIN,
    entries,
    layer,
    layer_of,
    looking,
    number_of,
    properties,
    snapshots_of,
)
from refimpl.contract.mounts import FileType, Mount

FILES = 200
"""Plain files of the layer that is copied."""

STRAYS = ("99999", "new-9", "rm-9")


def _of_all_types(root):
    """A tree with an entry of every type and every property that a copy has to keep."""
    for number in range(FILES):
        root.makedirs(f"/many/{number % 7}")
        root.write(f"/many/{number % 7}/{number}", b"%d" % number * number)
    root.write("/owned", b"1")
    root.lchown("/owned", 1000, 2000)
    root.chmod("/owned", 0o6755)
    root.link("/owned", "/many/again")
    root.symlink("/nowhere", "/link")
    root.lchown("/link", 7, 8)
    root.mknod("/fifo", FileType.FIFO, 0o640)
    root.mknod("/socket", FileType.SOCKET, 0o604)
    root.mkdir("/sticky")
    root.chmod("/sticky", 0o1777)
    root.lchown("/sticky", 5, 6)
    root.write("/empty", b"")
    root.utime("/owned", 1_000_000_001, 2_000_000_002)
    for path in ("/link", "/fifo", "/empty"):
        root.utime(path, 3_000_000_003, 4_000_000_004)


@clause("SNX-030", needs={"mount"})
def test_a_snapshot_is_a_directory_that_is_its_tree(ctx, snapshotter, subject):
    """Rejects: a tree that is one level deeper; the mode of a temporary directory."""
    made = layer_of(snapshotter.prepare(ctx, "a"))

    root = snapshots_of(made).rpartition("/")[0]
    assert made == f"{root}/snapshots/{number_of(made)}"
    with looking(subject, root) as fs:
        assert [oct(fs.lstat(path).mode) for path in ("/", "/snapshots")] == ["0o700"] * 2
        assert (oct(fs.lstat(f"/snapshots/{number_of(made)}").mode), fs.listdir(f"/snapshots/{number_of(made)}")) == (
            "0o755",
            [],
        )


@clause("SNX-031")
def test_every_answer_is_one_bind(ctx, snapshotter):
    """Rejects: views that are writable; the order of the other snapshotter's options."""
    layer(snapshotter, ctx, "c")
    for mode, answer in (
        ("rw", snapshotter.prepare(ctx, "a")),
        ("rw", snapshotter.prepare(ctx, "b", "c")),
        ("ro", snapshotter.view(ctx, "v", "c")),
        ("ro", snapshotter.view(ctx, "v0")),
    ):
        assert answer == [Mount("bind", answer[0].source, options=("rbind", mode))]


@clause("SNX-032", needs={"mount"})
def test_a_child_is_a_copy_in_every_property(ctx, snapshotter, subject, mounted, layers):
    """Rejects: links to the parent's files, through which a child changes its parent; properties that are lost."""
    layers.add("c", "", _of_all_types)
    with mounted(snapshotter.view(ctx, "v", "c")) as root:
        below = properties(root)
        inodes = {found.inode for _, found in root.walk()}
    mounts = snapshotter.prepare(ctx, "a", "c")

    with looking(subject, layer_of(mounts)) as fs:
        assert properties(fs) == below
        assert not {found.inode for _, found in fs.walk()} & inodes
    with mounted(mounts) as root:
        root.write("/owned", b"changed")
        root.unlink("/link")
    with mounted(snapshotter.mounts(ctx, "v")) as root:
        assert properties(root) == below


@clause("SNX-032", needs={"mount", "mknod", "xattr"})
def test_devices_and_attributes_are_copied_too(ctx, snapshotter, mounted, layers):
    """Rejects: a copy of plain files only."""

    def fill(root):
        root.mknod("/null", FileType.CHAR, 0o666, (1, 3))
        root.mknod("/disk", FileType.BLOCK, 0o600, (7, 0))
        root.mkdir("/d")
        for path in ("/null", "/d"):
            root.setxattr(path, "trusted.suite", b"\x00\xff")
        root.write("/f", b"1")
        root.setxattr("/f", "user.suite", b"f")

    layers.add("c", "", fill)
    with mounted(snapshotter.view(ctx, "v", "c")) as root:
        below = properties(root)
    with mounted(snapshotter.prepare(ctx, "a", "c")) as root:
        assert properties(root) == below
        assert root.lstat("/disk").device == (7, 0)


@clause("SNX-033", needs={"mount"})
def test_a_view_shows_its_parent_in_place(ctx, snapshotter, subject, collect, layers):
    """Rejects: a copy for a look; a removal of the view that takes the parent's tree."""
    layers.files("c", {"f": b"1"})
    made = layer_of(snapshotter.prepare(ctx, "a", "c"))
    before = entries(subject, snapshots_of(made))

    view = layer_of(snapshotter.view(ctx, "v", "c"))
    assert set(entries(subject, snapshots_of(made))) <= set(before), "nothing new"
    assert str(number_of(view)) in before
    assert layer_of(snapshotter.view(ctx, "v0")) not in (view, made)
    snapshotter.remove(ctx, "v")
    collect(ctx)

    with looking(subject, view) as fs:
        assert fs.read("/f") == b"1"


@clause("SNX-034")
def test_an_untouched_child_is_as_large_as_its_parent(ctx, snapshotter, layers):
    """Rejects: a size that is the difference to the parent, though all of it was copied."""
    layers.files("L1", {"big": b"x" * 100_000})
    snapshotter.prepare(ctx, "a", "L1")

    below, usage = snapshotter.usage(ctx, "L1"), snapshotter.usage(ctx, "a")
    assert usage.size >= 100_000
    assert usage.inodes == below.inodes == 2


@clause("SNX-035", needs={"mount"})
def test_a_removed_copy_goes_with_the_collection_and_strays_stay(own):
    """Rejects: copies that stay; a clean-up of what may be in the making."""
    instance = own()
    snapshotter = instance.snapshotter("native")
    kept = layer_of(snapshotter.prepare(PLAIN, "kept", labels=ROOTED))
    snapshotter.prepare(PLAIN, "a", labels=ROOTED)
    with looking(instance, snapshots_of(kept), writable=True) as fs:
        for name in STRAYS:
            fs.makedirs(f"/{name}/d")

    snapshotter.remove(PLAIN, "a")
    instance.collect(PLAIN)

    assert set(entries(instance, snapshots_of(kept))) == {str(number_of(kept)), *STRAYS}


@clause("SNX-035", needs={"mount"})
def test_a_copy_that_somebody_deleted_is_no_obstacle(own):
    """Rejects: a removal that fails, and with it those that come after it."""
    instance = own()
    snapshotter = instance.snapshotter("native")
    made = [layer_of(snapshotter.prepare(PLAIN, key, labels=ROOTED)) for key in ("a", "b", "c")]
    with looking(instance, snapshots_of(made[1]), writable=True) as fs:
        fs.rmtree(f"/{number_of(made[1])}")

    for key in ("a", "b", "c"):
        snapshotter.remove(PLAIN, key)
    instance.collect(PLAIN)

    assert entries(instance, snapshots_of(made[0])) == []
