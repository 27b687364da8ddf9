"""Mounts: the mount table of this machine, loop devices, and how mounts are undone (MNT-005, 008, 013, 017 to 026)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import os
import stat
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from conformance import clause
from conformance.suites._events import listen
from conformance.suites._fuse import served
from conformance.suites._mounts import HERE, IDLE, PLACED, RUNNING, Place, bind, lowers, overlay, place, table, watched
from conformance.suites._tasks import PATIENCE, box, bundle, bundle_of
from refimpl.contract.context import CallContext
from refimpl.contract.errors import InvalidArgument, Unknown
from refimpl.contract.mounts import Mount
from refimpl.linux.mount import DETACH, mount, unmount
from refimpl.linux.mounting import unmount_all

TASKS = 'topic~="^/tasks/"'
SHORTENED_FROM = 4096 - 512
HELD = 0.7
"""Seconds for which a check keeps a root file system in use: many attempts long, and far from the last one."""


@pytest.fixture
def on_this_machine(box, listen):
    """``on_this_machine(*mounts)``: a task with that root file system, its directory, and what is mounted there."""
    ear = listen(TASKS)
    first: list[Path] = []

    def create(*mounts):
        found = box(*IDLE)
        found.create(rootfs=list(mounts))
        if not first:
            first.append(bundle_of(ear, found))
        folder = first[0].with_name(found.id)
        return found, folder, table(folder / "rootfs")

    return create


# --------------------------------------------------------------------------------------------------------------- flags


@clause("MNT-002", needs=HERE)
def test_the_mounts_of_a_list_are_on_one_target(on_this_machine, place):
    """Rejects: mounts that are merged into one, or flags of the wrong one."""
    root = place.program("root")

    _, folder, rows = on_this_machine(bind(root, "rw"), bind(root, "ro"))

    assert [row.point for row in rows] == [str(folder / "rootfs")] * 2
    assert ["ro" in row.options for row in rows] == [False, True]


@clause("MNT-005", needs=HERE)
def test_flags_are_in_the_mount_table(on_this_machine, place):
    """Rejects: flags that are dropped, and words that clear a flag but set another."""
    root = place.program("root")
    place.fill("other/")
    lower = f"lowerdir={root}:{place / 'other'}"
    flags = ("nosuid", "nodev", "noatime", "nodiratime")

    _, _, (row,) = on_this_machine(overlay(*flags, lower))
    assert set(flags) <= set(row.options)
    cleared = ("suid", "dev", "exec", "async", "atime", "diratime")
    _, _, (row,) = on_this_machine(overlay(*flags, "noexec", "sync", *cleared, lower))
    assert not {*flags, "noexec", "sync"} & set(row.options)
    _, _, (row,) = on_this_machine(overlay("strictatime", lower))
    assert "relatime" not in row.options


@clause("MNT-008", needs=HERE)
def test_a_read_only_bind_has_all_its_flags(on_this_machine, box, place):
    """Rejects: a remount for ``ro`` alone, which takes the others away."""
    root = place.program("root")

    _, _, (row,) = on_this_machine(bind(root, "ro", "nosuid", "nodev"))
    assert {"ro", "nosuid", "nodev"} <= set(row.options)
    with pytest.raises(Unknown, match="permission denied"):
        box("sh", "-c", "exit", readonly=False).run(rootfs=[Mount("bind", root, options=("bind", "noexec", "ro"))])


# ------------------------------------------------------------------------------------------------------------ overlays


@clause("MNT-013", needs=HERE)
@pytest.mark.parametrize("length, relative", [(SHORTENED_FROM - 1, False), (SHORTENED_FROM, True)])
def test_names_become_relative_when_there_are_many(on_this_machine, place, length, relative):
    """Rejects: another length from which lists are shortened."""
    bare = len("lowerdir=" + ":".join(f"{place.path}/l/{number}" for number in range(1, 21)))
    found = lowers(place, 19, pad=(length - bare) // 20)
    stem = found[0].removeprefix(f"{place.path}/").removesuffix("/1")
    found.append(place.program(f"{stem}/20"))
    filler = length - len("lowerdir=" + ":".join(found))
    assert filler >= 0, "the directory of the daemon is too deep for this check"
    # Slashes at the end mean nothing to the kernel.
    option = "lowerdir=" + ":".join(found) + "/" * filler
    assert len(option) == length

    _, _, (row,) = on_this_machine(overlay(option))

    assert [name.startswith("/") for name in row.lower] == [not relative] * 20
    assert row.lower[0] == ("1" if relative else found[0])


@clause("MNT-014", needs=HERE)
def test_only_the_lower_directories_become_relative(on_this_machine, place):
    """Rejects: other directories that are taken from the working directory of the call, or left out of it."""
    found = [place.program("root"), *lowers(place, 30, pad=100)]
    place.fill("u/", "w/")

    _, _, (row,) = on_this_machine(
        overlay("index=off", f"workdir={place / 'w'}", f"upperdir={place / 'u'}", "lowerdir=" + ":".join(found))
    )

    assert row.lower == [path.removeprefix(place.path + "/") for path in found]
    assert {f"upperdir={place / 'u'}", f"workdir={place / 'w'}"} <= set(row.options)


# -------------------------------------------------------------------------------------------------------- loop devices


@pytest.fixture
def image(tmp_path):
    """An ext4 file system in a file of this machine, with a directory in it."""
    found = tmp_path / "image"
    with found.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", found], check=True)
    return found


def _loop_devices(image):
    listed = []
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            listed.append(backing.read_text().strip())
        except OSError:
            continue  # it went while we looked
    return listed.count(str(image))


@clause("MNT-017", needs=PLACED | {"disk", "loop"})
@pytest.mark.parametrize("flag", ["rw", "ro"])
def test_a_file_is_mounted_by_a_loop_device_that_goes_with_the_mount(subject, place, image, flag):
    """Rejects: a device that stays attached."""
    source = str(image)
    with watched(subject.root / "tmpmounts") as rows:
        for _ in range(5):
            assert place.names(Mount("ext4", source, options=("loop", flag))) == ["lost+found"]

    assert {row.source.rstrip("0123456789") for row in rows} == {"/dev/loop"}
    assert {flag in row.options for row in rows} == {True}
    assert _loop_devices(image) == 0
    refusal = place.unwritable(Mount("ext4", source, options=("loop", flag)))
    assert ("read-only file system" in refusal) is (flag == "ro")
    assert _loop_devices(image) == 0


@clause("MNT-017", needs=PLACED | {"disk", "loop"})
def test_a_file_needs_the_option_and_the_option_needs_a_file(place, image, tmp_path):
    """Rejects: a loop device that nobody asked for, and one that is left by a mount that failed."""
    assert "block device required" in place.refusal(Mount("ext4", str(image), options=("ro",)))
    missing = place.refusal(Mount("ext4", str(tmp_path / "missing"), options=("loop",)))
    assert "could not open backing file" in missing
    assert "no such file or directory" in missing
    assert "invalid argument" in place.refusal(Mount("ext4", str(image), options=("loop", "bogus=1")))
    assert _loop_devices(image) == 0


# ------------------------------------------------------------------------------------------------------------- undoing


@clause("MNT-020", needs=RUNNING)
def test_a_stack_of_mounts_goes_with_its_task(on_this_machine, place):
    """Rejects: one mount of several that is left."""
    root = place.program("root")
    found, folder, _ = on_this_machine(bind(root), bind(root), bind(root))

    found.delete()

    assert table(folder) == []
    assert "no such file or directory" in place.refusal(Mount("bind", str(folder), options=("bind",)))


@clause("MNT-020", needs=HERE)
def test_what_somebody_else_has_unmounted_is_no_error(on_this_machine, place):
    """Rejects: a task that cannot be deleted because its mount is gone."""
    found, folder, _ = on_this_machine(bind(place.program("root")))
    unmount(str(folder / "rootfs"), DETACH)

    found.delete()

    assert not folder.exists()


@clause("MNT-021", needs=HERE | {"spawn"})
def test_a_mount_below_a_root_file_system_is_unmounted_or_left_alone(on_this_machine, place):
    """Rejects: a directory that is deleted through a mount that could not be undone."""
    root = place.program("root")
    place.fill("root/sub/")
    mount("tmpfs", f"{root}/sub", "tmpfs", 0, "")
    try:
        Path(root, "sub", "data").write_text("kept")
        found, folder, rows = on_this_machine(bind(root, "rw"))
        assert [row.point for row in rows] == [str(folder / "rootfs"), str(folder / "rootfs" / "sub")]

        with suppress(Unknown):
            found.delete()

        left = [row.point for row in table(folder)]
        # 1.6.20 undoes neither and says that it is busy; then both are left.
        assert left in ([], [str(folder / "rootfs"), str(folder / "rootfs" / "sub")])
        assert Path(root, "sub", "data").read_text() == "kept"
        assert Path(root, "bin", "sh").exists()
        unmount_all(str(folder / "rootfs"))
    finally:
        unmount_all(f"{root}/sub")


@clause("MNT-022", needs=HERE)
def test_a_root_file_system_in_use_is_tried_again(on_this_machine, place):
    """Rejects: a first refusal that is final."""
    found, folder, _ = on_this_machine(bind(place.program("root")))
    held = (folder / "rootfs" / "bin" / "sh").open("rb")
    release = threading.Timer(HELD, held.close)
    release.start()
    try:
        found.delete()
    finally:
        release.join()
        held.close()

    assert table(folder) == []
    assert not folder.exists()


# ------------------------------------------------------------------------------------------------------------ programs


@pytest.fixture
def with_programs(own, tmp_path, monkeypatch):
    """``with_programs(name=script)``: an instance that finds them first, a context for it, and a place there.

    A script may write to the file ``$told``.
    """

    def start(**scripts):
        for name, script in scripts.items():
            program = tmp_path / name.replace("_", ".")
            program.write_text(f"#!/bin/sh\ntold={tmp_path}/told\n{script}\n")
            program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        instance, ctx = own(), CallContext(namespace="t")
        leased = ctx.with_lease(instance.leases.create(ctx, "l").id)
        place = Place(leased, instance.content, instance.diff, instance.snapshotter("overlayfs"))
        return instance, ctx, place

    return start


@clause("MNT-019", needs=HERE | {"spawn", "config"})
def test_the_program_for_fuse_mounts(with_programs, tmp_path):
    """Rejects: other arguments, in another order, and a mount that is made once more."""
    instance, _, place = with_programs(mount_fuse3='echo "$@" >>"$told"\nmount --bind "$1" "$2"')
    place.fill("one/name")

    assert place.names(Mount("fuse3.conform", place / "one", options=("a=1,b", "ro"))) == ["name"]

    source, target, *others = (tmp_path / "told").read_text().split()
    assert source == place / "one"
    assert Path(target).parent == instance.root / "tmpmounts"
    assert others == ["-o", "a=1,b", "-o", "ro", "-t", "conform"]
    assert table(instance.root / "tmpmounts") == []


@clause("MNT-019", needs=HERE | {"spawn", "config"})
def test_what_the_program_says_is_told(with_programs):
    """Rejects: a failure without its cause."""
    _, _, place = with_programs(mount_fuse="echo to standard output\necho no such luck >&2\nexit 3")

    refusal = place.refusal(Mount("fuse.conform", "some-source"))

    for piece in ("mount.fuse [some-source ", "-t conform]", "to standard output", "no such luck", "exit status 3"):
        assert piece in refusal


@clause("MNT-023", needs=HERE | {"spawn", "config", "fuse"})
def test_a_fuse_file_system_is_given_up_by_its_own_program_first(bundle, with_programs, tmp_path):
    """Rejects: an unmount that only root can do, without a try of the program that everybody may use."""
    fails = 'echo "$(basename "$0") $@" >>"$told"\nexit 1'
    instance, ctx, place = with_programs(fusermount3=fails, fusermount=fails)
    found = bundle(ctx, IDLE, on=instance)
    found.create(rootfs=[bind(place.program("root"))])
    (row,) = [row for row in table(instance.root.parent) if row.point.endswith(f"/{found.id}/rootfs")]

    with served(Path(row.point)):
        found.delete()

    tries = (tmp_path / "told").read_text().splitlines()
    assert tries[:2] == [f"fusermount3 -u {row.point}", f"fusermount -u {row.point}"]
    assert table(Path(row.point).parent) == []


# ---------------------------------------------------------------------------------------------------- temporary mounts


@clause("MNT-024", needs=PLACED | {"disk"})
def test_temporary_mounts_have_a_place_of_their_own(subject, place):
    """Rejects: mounts that are made elsewhere, or left."""
    folder = subject.root / "tmpmounts"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    place.fill(*(f"many/{number}" for number in range(500)))
    entries = place / "many"

    seen = _seen_during(folder, lambda: place.compare([bind(entries, "ro")], [bind(entries, "ro")]))

    names = {Path(point).relative_to(folder).parts[0] for point in seen}
    assert len(names) > 1, "a directory for each side"
    assert all(name.removeprefix("containerd-mount").isdigit() for name in names), names
    assert table(folder) == []
    assert list(folder.iterdir()) == []


def _seen_during(folder, work):
    """The points at which something is mounted while work is done, again and again until both sides were caught."""
    deadline = time.monotonic() + PATIENCE
    seen: set[str] = set()
    while time.monotonic() < deadline and len(seen) < 2:
        with watched(folder) as rows:
            work()
        seen |= {row.point for row in rows}
    return seen


@clause("MNT-024", needs=PLACED | {"disk"})
def test_nothing_is_left_of_temporary_mounts_that_failed(subject, place):
    """Rejects: mounts and directories that stay after an error."""
    place.fill("one/")
    one, missing = bind(place / "one"), bind(place / "missing")
    assert place.refusal(one, missing)
    with pytest.raises(Unknown):
        place.compare([one], [one, missing])
    with pytest.raises(Unknown):
        place.apply([one, missing], "file")
    with pytest.raises(Unknown):
        place.apply([bind(place / "one", "ro")], "file")

    assert table(subject.root / "tmpmounts") == []
    assert list((subject.root / "tmpmounts").iterdir()) == []
    assert place.names(one) == []


@clause("MNT-025", needs=PLACED | {"disk"})
def test_a_temporary_directory_with_content_is_not_deleted(subject, place):
    """Rejects: a recursive deletion, which a failed unmount would turn against a snapshot."""
    folder = subject.root / "tmpmounts"
    try:
        place.apply([], "file")
    except InvalidArgument:
        # Better (DIF-014): then there is nothing to delete.
        assert list(folder.iterdir()) == []
        return
    (left,) = folder.iterdir()
    assert [path.name for path in left.iterdir()] == ["file"]
    (left / "file").unlink()
    left.rmdir()


@clause("MNT-026", needs={"disk", "restart", "config", "spawn"})
def test_left_over_temporary_mounts_are_cleared_at_start(own):
    """Rejects: mounts that keep snapshots busy after a crash, and directories that are swept away with them."""
    instance = own()
    folder = instance.root / "tmpmounts"
    first, plain, other = folder / "containerd-mount1", folder / "containerd-mount2", folder / "other"
    for directory in (first, plain, other):
        directory.mkdir()
    for target in (first, first / "inside", other):
        target.mkdir(exist_ok=True)
        mount("tmpfs", str(target), "tmpfs", 0, "")

    instance.restart()

    assert table(folder) == []
    assert [path.name for path in folder.iterdir()] == ["containerd-mount2"]
