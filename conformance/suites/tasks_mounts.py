"""Tasks: their root file systems (TSK-012 to 015)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from conformance import clause
from conformance.suites._events import listen
from conformance.suites._tasks import LASTING, ROOT, box, bundle, bundle_of, mounts_below
from refimpl.contract.errors import Unknown
from refimpl.contract.mounts import Mount

TASKS = 'topic~="^/tasks/"'

WRITE = ("sh", "-c", "echo hi > /made")


@clause("TSK-012", needs={"runc", "snapshotter"})
def test_mounts_are_made_one_on_top_of_the_other(ctx, box, snapshotter, unique):
    """Rejects: the first mount alone, or options that are not honoured."""
    writable = snapshotter.prepare(ctx, unique("below"), "")
    found = box(*LASTING, readonly=False)

    found.run(rootfs=[*writable, ROOT])

    found.run_exec("e", *WRITE)
    assert found.wait("e").status != 0, "what is on top is read-only"


@clause("TSK-012", needs={"runc", "disk"})
def test_all_mounts_are_there(box, listen):
    """Rejects: mounts that are merged, or made somewhere else."""
    ear = listen(TASKS)
    found = box(*LASTING)

    found.create(rootfs=[Mount("bind", "/etc", options=("bind", "ro")), ROOT])

    rootfs = bundle_of(ear, found) / "rootfs"
    assert mounts_below(rootfs) == [str(rootfs)] * 2


@clause("TSK-012", needs={"runc", "overlayfs", "mount"})
def test_what_a_task_writes_is_in_its_snapshot(ctx, box, mounted, snapshotters, unique):
    """Rejects: files that are gone with the task."""
    overlayfs, base, key = snapshotters("overlayfs"), unique("base"), unique("key")
    with mounted(overlayfs.prepare(ctx, unique("fill"), "")) as fs:
        for folder in ("/bin", "/proc", "/dev"):
            fs.makedirs(folder)
        fs.write("/bin/sh", _shell(), 0o755)
    overlayfs.commit(ctx, base, next(info.name for info in overlayfs.walk(ctx)))
    mounts = overlayfs.prepare(ctx, key, base)
    found = box(*WRITE, readonly=False)

    found.run(rootfs=mounts)
    assert found.wait().status == 0
    found.delete()

    with mounted(mounts) as fs:
        assert fs.read("/made") == b"hi\n"


def _shell():
    """A shell that needs no libraries. A fake world brings its own programs and only wants to see a file."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("busybox is not installed: there is no program for an empty root file system")
    return Path(busybox).read_bytes()


@clause("TSK-013")
def test_the_root_file_system_stays_until_delete(box, listen):
    """Rejects: a root file system that goes with the process, or stays for ever."""
    ear = listen(TASKS)
    found = box("true")
    found.run()
    folder = bundle_of(ear, found)

    found.wait()
    assert str(folder / "rootfs") in mounts_below(folder)

    found.delete()
    assert mounts_below(folder) == []
    assert not folder.exists()


@clause("TSK-014", needs={"runc"})
def test_a_mount_that_fails_is_no_task(box):
    """Rejects: a task on half a root file system."""
    found = box(*LASTING)

    with pytest.raises(Unknown):
        found.create(rootfs=[ROOT, Mount("nosuchfs", "nosuchfs")])

    assert found.gone()
    assert found.create() > 0


@clause("TSK-014")
def test_a_mount_that_fails_takes_the_others_with_it(box, listen):
    """Rejects: mounts that nobody knows of."""
    ear = listen(TASKS)
    good, found = box(*LASTING), box(*LASTING)
    good.create()
    folder = bundle_of(ear, good).with_name(found.id)

    with pytest.raises(Unknown):
        found.create(rootfs=[ROOT, Mount("nosuchfs", "nosuchfs")])

    assert mounts_below(folder) == []
    assert not folder.exists()


@clause("TSK-015", needs={"runc"})
def test_the_target_of_a_mount_is_below_the_root_file_system(box):
    """Rejects: a mount on a directory of the host."""
    found = box("true")

    try:
        found.run(rootfs=[replace(ROOT, target="conform-no-such-directory")])
    except Unknown:
        # As of 2.x: there is no such directory below an empty root file system.
        assert found.gone()
        return
    # 1.6 takes no notice of it, so that the programs are there.
    assert found.wait().status == 0
