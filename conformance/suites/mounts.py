"""Mounts: lists, what makes a bind, options and how a mount fails (MNT-001 to MNT-011, MNT-019)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import pytest

from conformance import clause
from conformance.suites._events import listen
from conformance.suites._mounts import IDLE, PLACED, RUNNING, RUNNING_OWN, bind, overlay, place
from conformance.suites._tasks import box, bundle, bundle_of
from refimpl.contract.errors import Unknown
from refimpl.contract.mounts import Mount

_NO_2X = (
    "it is about what containerd 2.x adds, and no daemon of that version was there to hold a check against; 1.6 gives "
    "it no meaning"
)

NO_CHECK: dict[str, str] = dict.fromkeys([f"MNT-{number:03}" for number in (18, *range(29, 55))], _NO_2X)
"""Clauses of the whole area that no check decides, and why."""

TASKS = 'topic~="^/tasks/"'

FLAGS = (
    "nosuid", "suid", "nodev", "dev", "noexec", "exec", "sync", "async", "dirsync", "mand", "nomand", "noatime",
    "atime", "nodiratime", "diratime", "relatime", "norelatime", "strictatime", "nostrictatime", "ro", "rw",
)  # fmt: skip
"""All options that are flags, but those that make another mount (bind, rbind, remount)."""

NOT_FOUND, NO_DEVICE, INVALID = "no such file or directory", "no such device", "invalid argument"


# --------------------------------------------------------------------------------------------------------------- lists


@clause("MNT-001", needs=PLACED)
def test_an_answer_that_nobody_performs_costs_nothing(ctx, snapshotters, place, collect, unique):
    """Rejects: a snapshotter that mounts by itself, so that the directory of its snapshot is in use."""
    overlayfs, key = snapshotters("overlayfs"), unique("key")
    mounts = overlayfs.prepare(ctx, key)
    assert overlayfs.mounts(ctx, key) == mounts
    assert place.names(*mounts) == []
    overlayfs.remove(ctx, key)
    collect(ctx)
    assert NOT_FOUND in place.refusal(*mounts)


@clause("MNT-001", needs=RUNNING)
def test_a_list_can_be_performed_again(box, place):
    """Rejects: mounts that work for the first who performs them."""
    mounts = [bind(place.program("root"), "rw")]
    for status in (3, 4):
        found = box("sh", "-c", f"exit {status}")
        found.run(rootfs=mounts)
        assert found.wait().status == status
        found.delete()
    assert set(place.names(*mounts)) >= {"bin", "proc", "dev"}


@clause("MNT-001", needs=PLACED)
def test_an_option_may_hold_commas_and_equal_signs(place):
    """Rejects: options that are taken apart, or put together, on their way."""
    assert place.refusal(Mount("tmpfs", "tmpfs", options=("size=1m,mode=0711",))) == ""
    assert INVALID in place.refusal(Mount("tmpfs", "tmpfs", options=("size=1m,bogus=1",)))


@clause("MNT-002", needs=PLACED)
def test_the_last_mount_of_a_list_is_what_is_seen(place):
    """Rejects: the first mount alone, and trees that are merged."""
    place.fill("one/first", "two/second")
    assert place.names(bind(place / "one"), bind(place / "two")) == ["second"]
    assert place.names(bind(place / "two"), bind(place / "one")) == ["first"]


@clause("MNT-002", needs=PLACED)
def test_every_mount_of_a_list_is_performed(place):
    """Rejects: the last mount alone."""
    place.fill("one/first")
    assert NOT_FOUND in place.refusal(bind(place / "missing"), bind(place / "one"))
    assert place.names(Mount("tmpfs", "tmpfs"), bind(place / "one"), Mount("tmpfs", "tmpfs")) == []


@clause("MNT-003", needs=RUNNING)
def test_a_failure_undoes_the_mounts_before_it(box, listen, place):
    """Rejects: a first mount that stays, so that the directory of the task cannot be removed."""
    ear = listen(TASKS)
    root = place.program("root")
    good, bad = box(*IDLE), box(*IDLE)
    good.create(rootfs=[bind(root)])
    folder = bundle_of(ear, good).with_name(bad.id)

    with pytest.raises(Unknown, match=NOT_FOUND):
        bad.create(rootfs=[bind(root), bind(place / "missing")])

    there = Mount("bind", str(folder), options=("bind",))
    assert NOT_FOUND in place.refusal(there)
    bad.create(rootfs=[bind(root)])
    assert "rootfs" in place.names(there)


@clause("MNT-003", needs=PLACED)
def test_an_error_contains_its_cause(place):
    """Rejects: a failure that nobody can understand."""
    place.fill("one/")
    assert NOT_FOUND in place.refusal(bind(place / "one"), bind(place / "missing"))
    assert NO_DEVICE in place.refusal(bind(place / "one"), Mount("nosuchfs", "nosuchfs"))


@clause("MNT-004", needs=PLACED)
def test_comparing_with_no_mounts_is_comparing_with_nothing(place):
    """Rejects: an empty list that is refused."""
    place.fill("one/name")
    assert sorted(place.compare([], [bind(place / "one")])) == ["name"]
    assert place.compare([], []) == {}


@clause("MNT-004", needs=RUNNING)
def test_a_task_without_mounts_has_the_root_that_its_spec_names(box, place):
    """Rejects: an empty list that is refused."""
    found = box("sh", "-c", "exit 5", root=place.program("root"))
    found.run(rootfs=[])
    assert found.wait().status == 5


# ------------------------------------------------------------------------------------------------------------- options


@clause("MNT-005", needs=PLACED)
def test_of_contradicting_flags_the_last_wins(place):
    """Rejects: the first that wins, and flags that reach the file system."""
    place.fill("one/")
    assert place.unwritable(bind(place / "one", "ro", "rw")) == ""
    assert "read-only file system" in place.unwritable(bind(place / "one", "rw", "ro"))
    assert place.names(bind(place / "one")) == ["written"]


@clause("MNT-005", needs=PLACED)
@pytest.mark.parametrize("flag", FLAGS)
def test_a_flag_never_reaches_the_file_system(place, flag):
    """Rejects: a flag that is passed as data, which a file system refuses."""
    assert place.refusal(Mount("tmpfs", "tmpfs", options=("size=1m", flag))) == ""


@clause("MNT-005", needs=PLACED)
@pytest.mark.parametrize("option", ["bogus=1", "defaults", "private"])
def test_every_other_option_reaches_the_file_system(place, option):
    """Rejects: options that are dropped because nobody knows them."""
    assert INVALID in place.refusal(Mount("tmpfs", "tmpfs", options=(option,)))


@clause("MNT-006", needs=PLACED)
@pytest.mark.parametrize("type", ["bind", "none", "", "ext4"])
@pytest.mark.parametrize("option", ["bind", "rbind"])
def test_the_option_makes_a_bind_whatever_the_type_is(place, type, option):
    """Rejects: a type that has to be right."""
    place.fill("one/name")
    assert place.names(Mount(type, place / "one", options=(option, "rw"))) == ["name"]


@clause("MNT-006", needs=PLACED)
@pytest.mark.parametrize("options", [(), ("ro",), ("rw",)])
def test_the_type_does_not_make_a_bind(place, options):
    """Rejects: a type that implies the option."""
    place.fill("one/name")
    assert NO_DEVICE in place.refusal(Mount("bind", place / "one", options=options))


@clause("MNT-006", needs=RUNNING_OWN)
def test_rbind_takes_along_what_is_mounted_below_and_bind_does_not(box, listen, place):
    """Rejects: a bind that is always recursive, or never."""
    folder = _bundle_with_a_mount(box, listen, place)

    assert _sees_what_is_mounted_below(box, Mount("bind", folder, options=("rbind", "rw")))
    assert not _sees_what_is_mounted_below(box, Mount("bind", folder, options=("bind", "rw")))


def _bundle_with_a_mount(box, listen, place):
    """A directory ``rootfs`` of which has a root file system mounted on it: the bundle of a task."""
    ear = listen(TASKS)
    found = box(*IDLE)
    found.create(rootfs=[bind(place.program("root"))])
    return str(bundle_of(ear, found))


def _sees_what_is_mounted_below(box, mount):
    # The root of this task is the mount below the one that it is given.
    found = box("sh", "-c", "test -e /bin/sh && exit 7", root="rootfs/rootfs")
    try:
        found.run(rootfs=[mount])
    except Unknown:
        return False  # without a root there is no program
    return found.wait().status == 7


@clause("MNT-007", needs=PLACED)
def test_what_is_not_there_is_not_mounted_and_not_made(place):
    """Rejects: a source that is made because it is missing."""
    place.fill("one/")
    for mount in (
        bind(place / "missing"),
        bind(place / "missing", "ro"),
        overlay(f"lowerdir={place / 'missing'}:{place / 'other'}"),
        overlay(f"lowerdir={place / 'one'}:{place / 'other'}"),
    ):
        assert NOT_FOUND in place.refusal(mount)
    assert place.names(bind(place.path)) == ["one"]


@clause("MNT-007", needs=PLACED)
def test_an_unknown_type_is_no_device(place):
    """Rejects: another error, or a type that is passed over."""
    assert NO_DEVICE in place.refusal(Mount("nosuchfs", place.path))
    assert NO_DEVICE in place.refusal(Mount("", place.path))


@clause("MNT-008", needs=PLACED)
@pytest.mark.parametrize("option", ["bind", "rbind"])
def test_a_read_only_bind_cannot_be_written(place, option):
    """Rejects: a first bind, which ignores the flag, without the second call."""
    place.fill("one/")
    for flags in (("ro",), ("ro", "nosuid", "nodev", "noexec")):
        assert "read-only file system" in place.unwritable(Mount("bind", place / "one", options=(option, *flags)))
    assert place.names(bind(place / "one")) == []


@clause("MNT-009", needs=RUNNING_OWN)
def test_a_read_only_bind_with_a_mount_below_it_can_be_made(box, listen, place):
    """Rejects: a remount that fails because of what is mounted below."""
    folder = _bundle_with_a_mount(box, listen, place)

    assert _sees_what_is_mounted_below(box, bind(folder, "ro"))


@clause("MNT-010", needs=PLACED)
@pytest.mark.parametrize("flag", ["nosuid", "nodev", "noexec", "noatime"])
def test_a_writable_bind_with_other_flags_can_be_made(place, flag):
    """Rejects: a refusal of a flag that has no effect."""
    place.fill("one/")
    assert place.unwritable(bind(place / "one", "rw", flag)) == ""


@clause("MNT-011", needs=PLACED)
@pytest.mark.parametrize("option", ["bogus=1", "rprivate", "private", "rshared"])
def test_an_unknown_option_of_a_bind_is_passed_over(place, option):
    """Rejects: a refusal, where the kernel does not even look."""
    place.fill("one/name")
    assert place.names(bind(place / "one", "rw", option)) == ["name"]


# ------------------------------------------------------------------------------------------------------------- helpers


@clause("MNT-019", needs=PLACED)
@pytest.mark.parametrize("kind", ["fuse", "fuse3"])
def test_a_fuse_file_system_is_the_business_of_a_program(place, kind):
    """Rejects: a type of the kernel's, or a program that is called otherwise."""
    refusal = place.refusal(Mount(f"{kind}.nosuch", "some-source", options=("a=1", "ro")))
    assert f"mount.{kind} [some-source " in refusal
    assert "-o a=1 -o ro -t nosuch]" in refusal


@clause("MNT-019", needs=PLACED)
@pytest.mark.parametrize("type", ["nosuch.helper", "ext4.helper", "fuse4.nosuch"])
def test_no_other_program_is_run(place, type):
    """Rejects: a program for any type that has a dot."""
    refusal = place.refusal(Mount(type, "some-source"))
    assert "mount." not in refusal
    assert NO_DEVICE in refusal
