"""overlayfs, what is on the disk: directories, owners, removal, strays and sizes (SNX-007, SNX-016 to SNX-024)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import shutil
import subprocess

import pytest

from conformance import clause
from conformance.suites._snapshots import ROOTED, layers
from conformance.suites._snapshotters import (
    PLAIN,
    UNDISTURBED,
    allocated,
    entries,
    layer,
    layer_of,
    looking,
    lowers,
    number_of,
    plugins,
    section,
    snapshots_of,
)
from refimpl.contract.mounts import FileType

STRAYS = ("999", "new-123", "rm-77")
"""What crashes leave: a number that was never given out, a directory in the making, one put aside."""


def _modes(fs, folder="/"):
    """Names and modes in a directory."""
    return {name: oct(fs.lstat(f"{folder}/{name}").mode) for name in fs.listdir(folder)}


@clause("SNX-007", needs={"mount"})
def test_a_snapshot_is_a_directory_with_its_layer_and_its_work(ctx, snapshotter, subject):
    """Rejects: one work directory for several; layers that every user of the machine can read; a view to write to."""
    layer(snapshotter, ctx, "c")
    made = layer_of(snapshotter.prepare(ctx, "a", "c"))
    before = entries(subject, snapshots_of(made))
    snapshotter.view(ctx, "v", "c")

    root = snapshots_of(made).rpartition("/")[0]
    with looking(subject, root) as fs:
        assert [oct(fs.lstat(path).mode) for path in ("/", "/snapshots")] == ["0o700"] * 2
        number = f"/snapshots/{number_of(made)}"
        assert (oct(fs.lstat(number).mode), _modes(fs, number)) == ("0o700", {"fs": "0o755", "work": "0o711"})
        [view] = set(fs.listdir("/snapshots")) - set(before)
        assert (oct(fs.lstat(f"/snapshots/{view}").mode), _modes(fs, f"/snapshots/{view}")) == (
            "0o700",
            {"fs": "0o755"},
        )
        assert [name for name in fs.listdir("/snapshots") if name.startswith("new-")] == []


@clause("SNX-016", needs={"mount"})
def test_a_new_layer_is_owned_as_the_one_below_it(ctx, snapshotter, subject, mounted):
    """Rejects: a root directory that changes its owner when somebody writes to it; the mode of the one below."""
    with mounted(snapshotter.prepare(ctx, "a")) as root:
        root.lchown("/", 1000, 2000)
        root.chmod("/", 0o700)
    snapshotter.commit(ctx, "L1", "a")

    with looking(subject, layer_of(snapshotter.prepare(ctx, "b", "L1"))) as fs:
        found = fs.lstat("/")
    assert (found.uid, found.gid, oct(found.mode)) == (1000, 2000, "0o755")


@clause("SNX-017", needs={"mount"})
def test_a_commit_moves_nothing(own):
    """Rejects: a layer that is copied; a number, or a directory, that is another one afterwards."""
    instance = own(config=UNDISTURBED)
    snapshotter = instance.snapshotter("overlayfs")
    mounts = snapshotter.prepare(PLAIN, "a", labels=ROOTED)
    with instance.mounter.mounted(PLAIN, mounts) as root:
        root.write("/f", b"1")
    made = layer_of(mounts)

    def seen():
        with looking(instance, snapshots_of(made)) as fs:
            return {path: found.inode for path, found in fs.walk()}

    before = seen()
    snapshotter.commit(PLAIN, "c", "a", ROOTED)

    assert seen() == before
    assert set(before) == {"/"} | {f"/{number_of(made)}{path}" for path in ("", "/fs", "/fs/f", "/work")}
    assert lowers(snapshotter.prepare(PLAIN, "b", "c", ROOTED)) == [made]


@clause("SNX-018", needs={"mount"})
def test_deletions_are_marked_as_the_kernel_marks_them(ctx, snapshotter, subject, mounted, layers):
    """Rejects: files that stand for deletions, which an overlay shows as files."""
    layers.files("L1", {"o/x": b"1", "gone": b"2"})
    mounts = snapshotter.prepare(ctx, "a", "L1")
    with mounted(mounts) as root:
        root.rmtree("/o")
        root.mkdir("/o")
        root.unlink("/gone")

    with looking(subject, layer_of(mounts)) as fs:
        assert fs.listdir("/") == ["gone", "o"]
        gone = fs.lstat("/gone")
        assert (gone.type, gone.device) == (FileType.CHAR, (0, 0))
        assert dict(fs.xattrs("/o"))["trusted.overlay.opaque"] == b"y"


@clause("SNX-019", needs={"mount"})
def test_files_go_with_the_collection_and_not_with_the_record(own):
    """Rejects: files deleted by the client's call; a clean-up by key that takes the key's next owner."""
    instance = own(config=UNDISTURBED)
    snapshotter, mounted = instance.snapshotter("overlayfs"), instance.mounter.mounted
    mounts = snapshotter.prepare(PLAIN, "a", labels=ROOTED)
    with mounted(PLAIN, mounts) as root:
        root.write("/f", b"1")
    made = layer_of(mounts)

    snapshotter.remove(PLAIN, "a")
    with looking(instance, made) as fs:
        assert fs.read("/f") == b"1"
    again = snapshotter.prepare(PLAIN, "a", labels=ROOTED)
    with mounted(PLAIN, again) as root:
        root.write("/g", b"2")
    instance.collect(PLAIN)

    assert entries(instance, snapshots_of(made)) == [str(number_of(layer_of(again)))]
    assert number_of(layer_of(again)) != number_of(made)
    with mounted(PLAIN, snapshotter.mounts(PLAIN, "a")) as root:
        assert root.listdir("/") == ["g"]


@clause("SNX-021", needs={"mount", "restart"})
def test_what_crashes_left_goes_with_the_next_removal(own):
    """Rejects: strays that pile up for ever; a start that deletes; a clean-up that takes what is in use."""
    instance = own()
    made = layer_of(instance.snapshotter("overlayfs").prepare(PLAIN, "live", labels=ROOTED))
    number = str(number_of(made))
    with looking(instance, snapshots_of(made), writable=True) as fs:
        for name in STRAYS:
            fs.makedirs(f"/{name}/fs")
            fs.write(f"/{name}/fs/f", b"1")

    instance.restart()
    # A collection after the start has nothing to do in overlayfs.
    instance.collect(PLAIN)
    assert set(entries(instance, snapshots_of(made))) == {number, *STRAYS}

    snapshotter = instance.snapshotter("overlayfs")
    snapshotter.prepare(PLAIN, "short", labels=ROOTED)
    snapshotter.remove(PLAIN, "short")
    instance.collect(PLAIN)
    assert entries(instance, snapshots_of(made)) == [number]
    assert entries(instance, f"{snapshots_of(made)}/{number}") == ["fs", "work"]
    assert snapshotter.mounts(PLAIN, "live")


@clause("SNX-024", needs={"mount"})
def test_usage_is_what_the_layer_itself_takes(ctx, snapshotter, subject, mounted, layers):
    """Rejects: layers below that are counted; files that are counted twice, or by their length."""
    layers.files("L1", {"big": b"x" * 100_000, "gone": b"2"})
    mounts = snapshotter.prepare(ctx, "a", "L1")

    def measured():
        with looking(subject, layer_of(mounts)) as fs:
            return allocated(fs)

    fresh = snapshotter.usage(ctx, "a")
    assert (fresh.size, fresh.inodes) == measured()
    assert fresh.inodes == 1
    with mounted(mounts) as root:
        root.write("/f", b"1")
        root.link("/f", "/g")
        root.unlink("/gone")
    full = snapshotter.usage(ctx, "a")
    assert (full.size, full.inodes) == measured()
    assert full.inodes == 3, "the directory, one file, one whiteout"

    snapshotter.commit(ctx, "L2", "a")
    assert snapshotter.usage(ctx, "L2") == full


# ------------------------------------------------------------------------------------------------- poor file systems


@pytest.fixture
def untyped(tmp_path):
    """A mounted file system whose directories do not say what their entries are."""
    if missing := [tool for tool in ("mkfs.ext2", "mount", "umount") if shutil.which(tool) is None]:
        pytest.skip(f"{missing[0]} is not installed")
    image, point = tmp_path / "image", tmp_path / "point"
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(8 << 20)
    subprocess.run(["mkfs.ext2", "-q", "-O", "^filetype", str(image)], check=True, capture_output=True)
    done = subprocess.run(["mount", "-o", "loop", str(image), str(point)], check=False, capture_output=True)
    if done.returncode:
        pytest.skip(f"no loop device can be mounted here: {done.stderr.decode().strip()}")
    yield point
    subprocess.run(["umount", "-l", str(point)], check=True, capture_output=True)


@clause("SNX-023", needs={"disk"})
def test_a_file_system_without_d_type_is_an_error(own, untyped):
    """Rejects: a plugin that loads there, and takes directories for deletions later; one that skips silently."""
    root = untyped / "root"
    instance = own(config=section("overlayfs", root_path=str(root)))

    error = plugins(instance)["overlayfs"].init_err
    assert error is not None
    assert error.message == (
        f"{root} does not support d_type. If the backing filesystem is xfs, please reformat with ftype=1 to enable "
        "d_type support"
    )


@clause("SNX-036", needs={"disk"})
def test_native_works_without_d_type(own, untyped):
    """Rejects: checks for a kernel feature that copies do not need."""
    instance = own(config=section("native", root_path=str(untyped / "root")))

    snapshotter = instance.snapshotter("native")
    layer(snapshotter, PLAIN, "c")
    assert layer_of(snapshotter.prepare(PLAIN, "a", "c", ROOTED)).startswith(str(untyped))
