"""overlayfs, what it answers: mounts in every case, options and settings (SNX-008 to SNX-015, SNX-020 to SNX-029).

What is on the disk is in ``snapshotters_layers``.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from conformance import clause
from conformance.subjects.process import DaemonProcess
from conformance.suites._events import program
from conformance.suites._snapshots import ROOTED, names
from conformance.suites._snapshotters import (
    PLAIN,
    UNDISTURBED,
    entries,
    layer,
    layer_of,
    looking,
    lowers,
    number_of,
    options,
    plugins,
    section,
    snapshots_of,
)
from refimpl.client import Client
from refimpl.contract.errors import ContainerdError, NotFound
from refimpl.contract.mounts import Mount
from refimpl.contract.snapshots import Info

PARAMETERS = "/sys/module/overlay/parameters"
"""What the kernel's overlay can be told."""

LABEL = "containerd.io/snapshot/overlay.upperdir"

LAYERS = 128


@clause("SNX-009")
def test_without_parent_the_layer_is_bound(ctx, snapshotter):
    """Rejects: an overlay without a lower directory, which no kernel mounts; a view that is writable."""
    for make, mode in ((snapshotter.prepare, "rw"), (snapshotter.view, "ro")):
        mounts = make(ctx, f"key-{mode}")

        source = mounts[0].source
        assert mounts == [Mount("bind", source, options=(mode, "rbind"))]
        assert source == f"{snapshots_of(source)}/{number_of(source)}/fs"


@clause("SNX-010")
def test_above_a_parent_it_is_an_overlay(ctx, snapshotter):
    """Rejects: a work directory somewhere else, which may be another file system; options that nobody asked for."""
    layer(snapshotter, ctx, "c")
    mounts = snapshotter.prepare(ctx, "a", "c")

    assert [(mount.type, mount.source) for mount in mounts] == [("overlay", "overlay")]
    found = options(mounts)
    upper = found["upperdir"]
    assert upper == f"{snapshots_of(upper)}/{number_of(upper)}/fs"
    assert found["workdir"] == f"{snapshots_of(upper)}/{number_of(upper)}/work"
    assert len(found) == len(mounts[0].options), "no option twice"
    assert set(found) - {"index", "userxattr"} == {"workdir", "upperdir", "lowerdir"}


@clause("SNX-011")
def test_lower_layers_are_listed_from_the_nearest_to_the_base(ctx, snapshotter):
    """Rejects: the other order, in which old files hide new ones."""
    a, b, c = (layer(snapshotter, ctx, name, parent) for name, parent in (("A", ""), ("B", "A"), ("C", "B")))

    assert lowers(snapshotter.prepare(ctx, "d", "C")) == [c, b, a]


@clause("SNX-012")
def test_a_view_of_one_layer_is_a_bind_of_that_layer(ctx, snapshotter):
    """Rejects: an overlay of one directory, which no kernel mounts; the view's own, empty directory."""
    base = layer(snapshotter, ctx, "c")

    assert snapshotter.view(ctx, "v", "c") == [Mount("bind", base, options=("ro", "rbind"))]


@clause("SNX-013")
def test_a_view_of_several_layers_has_nothing_to_write_to(ctx, snapshotter):
    """Rejects: an upper directory, through which the view is writable."""
    a, b = layer(snapshotter, ctx, "A"), layer(snapshotter, ctx, "B", "A")
    mounts = snapshotter.view(ctx, "v", "B")

    assert [(mount.type, mount.source) for mount in mounts] == [("overlay", "overlay")]
    assert lowers(mounts) == [b, a]
    assert set(options(mounts)) - {"index", "userxattr"} == {"lowerdir"}


@clause("SNX-014", needs={"mount"})
def test_the_index_is_off_where_the_kernel_has_one(ctx, snapshotter, subject):
    """Rejects: a layer in two mounts at once that the kernel refuses; an option that an old kernel does not know."""
    layer(snapshotter, ctx, "A")
    layer(snapshotter, ctx, "B", "A")
    overlays = [snapshotter.prepare(ctx, "a", "A"), snapshotter.prepare(ctx, "b", "B"), snapshotter.view(ctx, "v", "B")]
    binds = [snapshotter.prepare(ctx, "c"), snapshotter.view(ctx, "w", "A")]

    known = _exists(subject, f"{PARAMETERS}/index")
    assert [options(mounts).get("index") for mounts in overlays] == ["off" if known else None] * 3
    assert [mounts for mounts in binds if "index" in options(mounts)] == []


def _exists(subject, path):
    folder, _, name = path.rpartition("/")
    try:
        return name in entries(subject, folder)
    except FileNotFoundError:
        return False


@clause("SNX-015", needs=())
def test_outside_of_user_namespaces_nobody_asks_for_userxattr(ctx, snapshotter, subject):
    """Rejects: marks of deletions that other overlays on this machine do not see."""
    if "disk" in subject.capabilities and _mapped():
        pytest.skip("this machine is a user namespace itself")
    layer(snapshotter, ctx, "A")
    layer(snapshotter, ctx, "B", "A")

    for mounts in (snapshotter.prepare(ctx, "a", "A"), snapshotter.view(ctx, "v", "B"), snapshotter.prepare(ctx, "c")):
        assert "userxattr" not in options(mounts)


def _mapped():
    return Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]


@pytest.fixture
def namespaced(subject):
    """A second daemon of the subject's kind whose root is root of a user namespace only."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces can be made here")
    top = str(subject.root.parent)

    def moved(text, layout):
        return text.replace(top, str(layout.top))

    # Run as the subject is, in directories of its own.
    [*words] = _command_line(subject)
    config = (Path(top) / "config.toml").read_text()
    daemon = DaemonProcess(
        lambda layout: [*unshare, *(moved(word, layout) for word in words)], lambda layout: moved(config, layout)
    )
    try:
        daemon.start()
        client = Client(str(daemon.layout.address), timeout=10)
        yield client
        client.close()
    finally:
        daemon.remove()


def _command_line(subject):
    """The words with which the subject's daemon was started."""
    prefix = program(subject.address)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = [os.fsdecode(word) for word in (process / "cmdline").read_bytes().split(b"\0")[:-1]]
        except OSError:
            continue
        if words[: len(prefix)] == prefix and subject.address in words:
            return words
    raise AssertionError(f"the daemon behind {subject.address} is gone")


@clause("SNX-015", needs={"command", "disk"})
def test_inside_of_a_user_namespace_every_overlay_has_userxattr(namespaced):
    """Rejects: overlays that only the machine's root can mount."""
    snapshotter = namespaced.snapshotter("overlayfs")
    layer(snapshotter, PLAIN, "A")
    layer(snapshotter, PLAIN, "B", "A")

    for mounts in (snapshotter.prepare(PLAIN, "a", "A", ROOTED), snapshotter.view(PLAIN, "v", "B", ROOTED)):
        assert "userxattr" in options(mounts)
    assert "userxattr" not in options(snapshotter.prepare(PLAIN, "c", "", ROOTED))


@clause("SNX-008")
def test_numbers_grow_by_one_and_are_shared_by_all_namespaces(ctx, new_namespace, snapshotter):
    """Rejects: a counter for each namespace, so that two snapshots meet in one directory; a new number at commit."""
    other = new_namespace()
    numbers = [
        number_of(layer_of(snapshotter.prepare(ctx, "a"))),
        number_of(layer_of(snapshotter.view(other, "b"))),
        number_of(layer_of(snapshotter.prepare(other, "a"))),
        number_of(layer_of(snapshotter.view(ctx, "b"))),
    ]

    assert numbers == list(range(numbers[0], numbers[0] + 4))
    snapshotter.commit(ctx, "c", "a")
    assert [number_of(path) for path in lowers(snapshotter.prepare(ctx, "d", "c"))] == [numbers[0]]


@clause("SNX-008", needs={"restart"})
def test_a_number_is_never_given_out_again(own):
    """Rejects: the number of a snapshot that is gone, whose old files then show up in a new one."""
    instance = own()

    def prepare(key):
        return number_of(layer_of(instance.snapshotter("overlayfs").prepare(PLAIN, key, labels=ROOTED)))

    numbers = [prepare("a"), prepare("b")]
    instance.snapshotter("overlayfs").remove(PLAIN, "b")
    instance.collect(PLAIN)
    numbers.append(prepare("b"))
    instance.snapshotter("overlayfs").remove(PLAIN, "b")
    instance.collect(PLAIN)
    instance.restart()
    numbers.append(prepare("b"))

    assert numbers == [1, 2, 3, 4]


@clause("SNX-029")
def test_many_layers_are_all_listed(ctx, snapshotter):
    """Rejects: a list that is cut to what fits into one page; a limit on the number of layers."""
    made: list[str] = []
    parent = ""
    for number in range(LAYERS):
        made.insert(0, layer(snapshotter, ctx, f"L{number}", parent))
        parent = f"L{number}"

    mounts = snapshotter.prepare(ctx, "top", parent)

    assert lowers(mounts) == made
    assert len(":".join(made)) > 4096


# ------------------------------------------------------------------------------------------------- settings


@clause("SNX-022")
def test_with_upperdir_label_every_record_says_where_its_layer_is(own):
    """Rejects: a label that is stored, and goes with the key at commit; one that no filter finds."""
    instance = own(config=section("overlayfs", upperdir_label=True))
    snapshotter = instance.snapshotter("overlayfs")
    active = layer_of(snapshotter.prepare(PLAIN, "o", labels=ROOTED))
    view = layer_of(snapshotter.view(PLAIN, "v", labels=ROOTED))
    places = {"o": active, "v": view}

    for _ in range(2):
        for key, place in places.items():
            assert snapshotter.stat(PLAIN, key).labels[LABEL] == place, key
            assert snapshotter.update(PLAIN, Info(key, labels=ROOTED), ["labels"]).labels[LABEL] == place, key
            assert names(snapshotter, PLAIN, f'labels."{LABEL}"=="{place}"') == [key]
        assert {info.name: info.labels[LABEL] for info in snapshotter.walk(PLAIN)} == places
        if "o" in places:
            snapshotter.commit(PLAIN, "c", "o", ROOTED)
            places = {"c": active, "v": view}


@clause("SNX-022")
def test_without_upperdir_label_there_is_none(ctx, snapshotter):
    """Rejects: paths of the daemon's own that every client sees."""
    snapshotter.prepare(ctx, "o")
    layer(snapshotter, ctx, "c")

    assert [info for info in snapshotter.walk(ctx) if LABEL in info.labels] == []


@clause("SNX-020", needs={"mount"})
def test_with_sync_remove_a_layer_still_stays_until_the_next_collection(own):
    """Rejects: files that are deleted by the client's call, while others may still be told of them."""
    instance = own(config=UNDISTURBED + section("overlayfs", sync_remove=True))
    snapshotter = instance.snapshotter("overlayfs")
    made = layer_of(snapshotter.prepare(PLAIN, "a", labels=ROOTED))
    number = str(number_of(made))

    snapshotter.remove(PLAIN, "a")

    assert number in entries(instance, snapshots_of(made))
    instance.collect(PLAIN)
    assert number not in entries(instance, snapshots_of(made))


@clause("SNX-025")
def test_mount_options_are_for_overlays_and_not_for_binds(own):
    """Rejects: options that a bind mount does not know, or that go into some of the overlays only."""
    instance = own(config=section("overlayfs", mount_options=["volatile", "xino=off"]))
    snapshotter = instance.snapshotter("overlayfs")
    layer(snapshotter, PLAIN, "A")
    layer(snapshotter, PLAIN, "B", "A")
    overlays = [snapshotter.prepare(PLAIN, "a", "A", ROOTED), snapshotter.view(PLAIN, "v", "B", ROOTED)]
    binds = [snapshotter.prepare(PLAIN, "c", "", ROOTED), snapshotter.view(PLAIN, "w", "A", ROOTED)]

    given = {"volatile", "xino"}
    assert [mounts for mounts in binds if given & set(options(mounts))] == []
    # Before 2.x the key means nothing.
    assert [given & set(options(mounts)) for mounts in overlays] in ([given] * 2, [set()] * 2)


@clause("SNX-027", needs={"mount"})
def test_mapped_ids_are_for_the_whole_tree_or_for_nothing(ctx, snapshotter, subject):
    """Rejects: an owner that is changed while the files of the layers below keep theirs."""
    layer(snapshotter, ctx, "c")
    labels = {
        "containerd.io/snapshot/uidmapping": "0:666:1000",
        "containerd.io/snapshot/gidmapping": "0:777:1000",
    }
    mounts = snapshotter.prepare(ctx, "a", "c", labels)
    bind = snapshotter.prepare(ctx, "b", "", labels)
    view = snapshotter.view(ctx, "v", "c", labels)

    maps = ("uidmap=0:666:1000", "gidmap=0:777:1000")
    with looking(subject, layer_of(mounts)) as fs:
        owner = fs.lstat("/").uid, fs.lstat("/").gid
    if not any(option.startswith(("uidmap", "gidmap")) for option in mounts[0].options):
        # Before 2.x, and where the kernel cannot map, the labels mean nothing.
        assert owner == (0, 0)
        assert (bind[0].options, view[0].options) == (("rw", "rbind"), ("ro", "rbind"))
        return
    assert owner == (666, 777)
    assert mounts[0].options[:2] == maps
    assert (bind[0].options, view[0].options) == ((*maps, "rw", "rbind"), (*maps, "ro", "rbind"))
    for mapping in ("bad", "0:666:0", "1:666:10"):
        with pytest.raises(ContainerdError):
            snapshotter.prepare(ctx, "x", "c", {**labels, "containerd.io/snapshot/uidmapping": mapping})
        with pytest.raises(NotFound):
            snapshotter.stat(ctx, "x")


@clause("SNX-028")
def test_only_what_it_can_do_is_listed(own):
    """Rejects: a feature that is claimed and not there."""
    plain, slow = own(), own(config=section("overlayfs", slow_chown=True))

    found = [list(plugins(instance)["overlayfs"].capabilities) for instance in (plain, slow)]
    assert found in ([["remap-ids", "only-remap-ids", "rebase"], ["remap-ids", "rebase"]], [[], []])
