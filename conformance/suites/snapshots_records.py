"""Snapshots, their records: labels, updates, lists and filters, usage (SNP-058 to SNP-085)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import os
import time
from contextlib import closing

import pytest

from conformance import clause
from conformance.suites._snapshots import (
    INHERITED,
    committed,
    exists,
    layers,  # a fixture
    names,
    requests,
    send,
    write_synced,
)
from conformance.wire import Wire
from refimpl.api import snapshots_v1_pb2 as pb
from refimpl.contract.context import CallContext
from refimpl.contract.errors import AlreadyExists, ContainerdError, InvalidArgument, NotFound, Unknown
from refimpl.contract.mounts import Mount
from refimpl.contract.snapshots import Info, Kind, Usage

# Labels that containerd hands on to back ends, so that a bare snapshotter gets them as a daemon's client would.
A, B, X, Y = (f"{INHERITED}{name}" for name in "abxy")

UPPERDIR = """version = 2
[plugins."io.containerd.snapshotter.v1.overlayfs"]
upperdir_label = true
"""
UPPERDIR_LABEL = "containerd.io/snapshot/overlay.upperdir"


def _mine(info):
    """The labels of a record that the check gave: a snapshotter may add some of its own."""
    return {key: value for key, value in info.labels.items() if not key.startswith(f"{INHERITED}devmapper/")}


@clause("SNP-058")
def test_labels_are_kept_except_empty_ones(ctx, snapshotter):
    """Rejects: labels that are lost in one of the three methods, or empty values that come back."""
    labels = {"plain": "1", "empty": ""}
    snapshotter.prepare(ctx, "a", labels=labels)
    snapshotter.view(ctx, "v", labels=labels)
    snapshotter.prepare(ctx, "work")
    snapshotter.commit(ctx, "c", "work", labels)

    for key in ("a", "v", "c"):
        assert _mine(snapshotter.stat(ctx, key)) == {"plain": "1"}, key
    assert [_mine(info) for info in snapshotter.walk(ctx)] == [{"plain": "1"}] * 3


@clause("SNP-059")
def test_a_label_of_4096_bytes_is_accepted(ctx, snapshotter):
    """Rejects: a limit that is lower, or one for the value that forgets the key."""
    labels = {"k": "v" * 4095}
    snapshotter.prepare(ctx, "a", labels=labels)
    assert _mine(snapshotter.stat(ctx, "a")) == labels


@clause("SNP-059")
@pytest.mark.parametrize(
    "labels", [{"k": "v" * 4096}, {"k" * 4097: ""}, {"k" * 4096: "v"}], ids=["value", "key", "both"]
)
def test_a_longer_label_is_refused_by_all_methods(ctx, snapshotter, labels):
    """Rejects: a limit on the value alone, or one that only some methods have; and a half-done refusal."""
    snapshotter.prepare(ctx, "a", labels={"l": "1"})
    before = list(snapshotter.walk(ctx))

    for call in (
        lambda: snapshotter.prepare(ctx, "x", labels=labels),
        lambda: snapshotter.view(ctx, "x", labels=labels),
        lambda: snapshotter.commit(ctx, "x", "a", labels),
        lambda: snapshotter.update(ctx, Info("a", labels=labels)),
    ):
        with pytest.raises(InvalidArgument):
            call()
    assert list(snapshotter.walk(ctx)) == before


@clause("SNP-060")
def test_a_label_without_a_key_is_refused(ctx, snapshotter):
    """Rejects: a snapshot that is made although its label could not be kept."""
    with pytest.raises((Unknown, InvalidArgument)):
        snapshotter.prepare(ctx, "x", labels={"": "v"})
    assert not exists(snapshotter, ctx, "x")


@clause("SNP-061")
def test_a_commit_replaces_the_labels(ctx, snapshotter):
    """Rejects: labels of the active snapshot that live on in the committed one."""
    snapshotter.prepare(ctx, "a", labels={"keep": "1", A: "1", B: "1"})
    snapshotter.commit(ctx, "c", "a", {X: "1", B: "2"})

    assert _mine(snapshotter.stat(ctx, "c")) == {X: "1", B: "2"}


@clause("SNP-062")
@pytest.mark.parametrize("make", ["prepare", "view"])
def test_labels_are_not_inherited_from_the_parent(ctx, snapshotter, make):
    """Rejects: labels that go down the chain, be it only those that back ends see."""
    committed(snapshotter, ctx, "c", **{"z": "1", A: "2"})
    getattr(snapshotter, make)(ctx, "a", "c")

    assert _mine(snapshotter.stat(ctx, "a")) == {}


@clause("SNP-064")
def test_an_update_without_a_mask_replaces_all_labels(ctx, snapshotter):
    """Rejects: an update that merges."""
    snapshotter.prepare(ctx, "k", labels={A: "1", B: "2"})
    answer = snapshotter.update(ctx, Info("k", labels={A: "9"}))

    assert _mine(answer) == {A: "9"}
    assert _mine(snapshotter.stat(ctx, "k")) == {A: "9"}
    assert (answer.name, answer.kind) == ("k", Kind.ACTIVE), "the answer is the whole record"


@clause("SNP-065")
def test_a_path_changes_the_one_label_that_it_names(ctx, snapshotter):
    """Rejects: a path cut at its dots, and other labels of the request that slip in."""
    snapshotter.prepare(ctx, "k", labels={A: "1", Y: "9"})

    answer = snapshotter.update(ctx, Info("k", labels={A: "2", B: "3"}), [f"labels.{A}"])
    assert _mine(answer) == {A: "2", Y: "9"}
    answer = snapshotter.update(ctx, Info("k", labels={Y: "10", A: "7"}), [f"labels.{Y}"])
    assert _mine(answer) == {A: "2", Y: "10"}
    assert _mine(snapshotter.stat(ctx, "k")) == {A: "2", Y: "10"}


@clause("SNP-066")
@pytest.mark.parametrize(
    "path, left",
    [("labels.a", {"b": "2"}), ("labels.zz", {"a": "1", "b": "2"}), ("labels.", {"a": "1", "b": "2"})],
)
def test_a_path_without_a_label_in_the_request_removes_it(ctx, snapshotter, path, left):
    """Rejects: a label that stays, or that is kept as an empty string; an error where there is none to remove."""
    snapshotter.prepare(ctx, "k", labels={"a": "1", "b": "2"})

    assert _mine(snapshotter.update(ctx, Info("k"), [path])) == left
    assert _mine(snapshotter.stat(ctx, "k")) == left


@clause("SNP-067")
def test_the_path_labels_replaces_all_labels(ctx, snapshotter):
    """Rejects: a path ``labels`` that only adds."""
    snapshotter.prepare(ctx, "k", labels={A: "1"})

    answer = snapshotter.update(ctx, Info("k", labels={X: "1", Y: "2"}), ["labels", f"labels.{X}"])
    assert _mine(answer) == {X: "1", Y: "2"}
    answer = snapshotter.update(ctx, Info("k", labels={X: "3"}), [f"labels.{X}", f"labels.{X}"])
    assert _mine(answer) == {X: "3", Y: "2"}


@clause("SNP-068")
@pytest.mark.parametrize(
    "path", ["name", "parent", "kind", "created_at", "updated_at", "label", "Labels", "info.labels", ""]
)
def test_nothing_but_labels_can_be_updated(ctx, snapshotter, path):
    """Rejects: a path that is passed over in silence, or a mask whose good paths are applied before the bad one."""
    snapshotter.prepare(ctx, "k", labels={A: "1"})
    before = snapshotter.stat(ctx, "k")

    for mask in ([path], [f"labels.{X}", path]):
        with pytest.raises(InvalidArgument):
            snapshotter.update(ctx, Info("k", labels={X: "1"}), mask)
    assert snapshotter.stat(ctx, "k") == before


@clause("SNP-069")
def test_an_update_ignores_what_cannot_change(ctx, snapshotter):
    """Rejects: a parent or kind that a request can overwrite, or a refusal of a record that was read and sent back."""
    committed(snapshotter, ctx, "p")
    snapshotter.prepare(ctx, "k", "p")
    before = snapshotter.stat(ctx, "k")

    snapshotter.update(ctx, Info("k", parent="zzz", kind=Kind.COMMITTED, created_at=1, updated_at=1, labels={A: "1"}))
    after = snapshotter.stat(ctx, "k")
    assert (after.parent, after.kind, after.created_at) == (before.parent, before.kind, before.created_at)
    assert after.updated_at != 1
    assert _mine(after) == {A: "1"}


@clause("SNP-070")
@pytest.mark.parametrize("key", ["a", "v", "c"], ids=["active", "view", "committed"])
def test_an_update_moves_the_time_of_the_last_change(ctx, snapshotter, key):
    """Rejects: a creation time that is reset, or a kind that cannot be updated."""
    committed(snapshotter, ctx, "c")
    snapshotter.prepare(ctx, "a", "c")
    snapshotter.view(ctx, "v", "c")
    before = snapshotter.stat(ctx, key)

    start = time.time_ns()
    snapshotter.update(ctx, Info(key, labels={A: "1"}))
    end = time.time_ns()
    after = snapshotter.stat(ctx, key)
    assert start <= after.updated_at <= end
    assert (after.created_at, after.kind, after.parent) == (before.created_at, before.kind, before.parent)

    with pytest.raises(InvalidArgument):
        snapshotter.update(ctx, Info(key, labels={A: "2"}), ["kind"])
    assert snapshotter.stat(ctx, key) == after


@clause("SNP-071")
def test_an_update_has_to_name_a_snapshot(ctx, wire, subject, snapshotters):
    """Rejects: an empty name that is looked up, or an unknown one that is made."""
    id = subject.snapshotters[0]
    request = pb.UpdateSnapshotRequest(snapshotter=id, info=pb.Info())

    assert send(wire, ctx, "Update", request).code == "INVALID_ARGUMENT"
    with pytest.raises(NotFound):
        snapshotters(id).update(ctx, Info("nope"))


@clause("SNP-071", needs={"wire", "config"})
def test_an_update_without_a_record_is_refused_and_survived(own, subject):
    """Rejects: a server that dies of the absent field. Asked only of an instance that nobody else uses."""
    instance, ctx, id = own(), CallContext(namespace="ns"), subject.snapshotters[0]

    with closing(Wire(instance.address)) as wire:
        assert send(wire, ctx, "Update", pb.UpdateSnapshotRequest(snapshotter=id)).code == "INVALID_ARGUMENT"
    with pytest.raises(NotFound):
        instance.snapshotter(id).stat(ctx, "nope")


@clause("SNP-072", needs={"config", "overlayfs"})
def test_labels_of_the_back_end_are_merged_in(own):
    """Rejects: a back end's labels that are lost, that hide the client's, or that no filter finds."""
    instance, ctx = own(config=UPPERDIR), CallContext(namespace="ns")
    snapshotter = instance.snapshotter("overlayfs")
    snapshotter.prepare(ctx, "k", labels={"mine": "1", "containerd.io/gc.root": "1"})
    info = snapshotter.stat(ctx, "k")

    assert info.labels["mine"] == "1"
    assert info.labels[UPPERDIR_LABEL].endswith("/fs")
    assert list(snapshotter.walk(ctx, [f'labels."{UPPERDIR_LABEL}"~="/fs$"'])) == [info]
    # The client's own value wins over the back end's.
    answer = snapshotter.update(ctx, Info("k", labels={UPPERDIR_LABEL: "/x"}), [f"labels.{UPPERDIR_LABEL}"])
    assert answer.labels[UPPERDIR_LABEL] == "/x"
    assert snapshotter.stat(ctx, "k").labels[UPPERDIR_LABEL] == "/x"
    assert names(snapshotter, ctx, f'labels."{UPPERDIR_LABEL}"=="/x"') == ["k"]


@clause("SNP-073")
def test_a_list_shows_every_snapshot_once_and_as_stat_does(ctx, snapshotter):
    """Rejects: kinds that are left out, or a shorter record than that of Stat."""
    committed(snapshotter, ctx, "c", **{A: "1"})
    snapshotter.prepare(ctx, "a", "c", {B: "2"})
    snapshotter.view(ctx, "v", "c")
    found = list(snapshotter.walk(ctx))

    assert sorted(info.name for info in found) == ["a", "c", "v"]
    assert [snapshotter.stat(ctx, info.name) for info in found] == found


@clause("SNP-073", needs={"namespaces"})
def test_a_list_is_in_byte_order_of_the_names(ctx, snapshotter):
    """Rejects: the order of creation, or that of some language."""
    keys = ["a/", "Z", "ü", "a", "_", "aa", "1", "B", "a-", "\U0001f40b"]
    for key in keys:
        snapshotter.prepare(ctx, key)

    assert names(snapshotter, ctx) == sorted(keys, key=os.fsencode)


@clause("SNP-074")
def test_a_list_comes_in_blocks_of_100(ctx, wire, subject, snapshotters):
    """Rejects: one message for all, which ends at the limit for messages; an empty message for nothing."""
    id = subject.snapshotters[0]
    for n in range(250):
        snapshotters(id).prepare(ctx, f"n{n:04}")

    answer = send(wire, ctx, "List", pb.ListSnapshotsRequest(snapshotter=id))
    assert [len(message.info) for message in answer.messages] == [100, 100, 50]
    assert [info.name for message in answer.messages for info in message.info] == [f"n{n:04}" for n in range(250)]
    nothing = send(wire, ctx, "List", pb.ListSnapshotsRequest(snapshotter=id, filters=["name==nope"]))
    assert (nothing.code, list(nothing.messages)) == ("OK", [])


@pytest.fixture
def shelf(ctx, snapshotter):
    """Snapshots of all kinds, with and without parent and label: name -> does it bear the label ``l``."""
    committed(snapshotter, ctx, "p")
    snapshotter.prepare(ctx, "a-np")
    snapshotter.prepare(ctx, "a", "p")
    snapshotter.prepare(ctx, "a-l", "p", {LABEL: "2"})
    snapshotter.view(ctx, "v", "p", {LABEL: "3"})
    return lambda *filters: sorted(info.name for info in snapshotter.walk(ctx, filters))


LABEL = f"{INHERITED}l"
L = f'labels."{LABEL}"'
EVERYTHING = ["a", "a-l", "a-np", "p", "v"]


@clause("SNP-075")
@pytest.mark.parametrize(
    "filters, expected",
    [
        (["kind==active"], ["a", "a-l", "a-np"]),
        (["kind==view"], ["v"]),
        (["kind==committed"], ["p"]),
        (["kind==ACTIVE"], []),
        (['parent==""'], ["a-np", "p"]),
        ([f"{L}==2"], ["a-l"]),
        ([f"{L}==2,kind==active"], ["a-l"]),
        ([f"{L}==2,kind==view"], []),
        ([f"{L}==2,kind==active", "kind==view"], ["a-l", "v"]),
        ([], EVERYTHING),
    ],
)
def test_filters_ask_for_kind_and_labels(shelf, filters, expected):
    """Rejects: selectors that are alternatives, filters that must all hold, kinds in another spelling."""
    assert shelf(*filters) == expected


@clause("SNP-075", needs={"namespaces"})
@pytest.mark.parametrize(
    "filters, expected",
    [
        (["name==a"], ["a"]),
        (["name==a", "name==p"], ["a", "p"]),
        (["name~=^a"], ["a", "a-l", "a-np"]),
        (['name~="^a-"'], ["a-l", "a-np"]),
        (["parent==p"], ["a", "a-l", "v"]),
        (["parent==p,kind==view"], ["v"]),
    ],
)
def test_filters_ask_for_the_names_that_clients_use(shelf, filters, expected):
    """Rejects: names of the storage's own in filters, or a parent that cannot be asked for."""
    assert shelf(*filters) == expected


@clause("SNP-076")
@pytest.mark.parametrize(
    "selector, expected",
    [
        (L, ["a-l", "v"]),
        (f"{L}!=2", ["a", "a-np", "p", "v"]),
        (f"{L}==2", ["a-l"]),
        (f"{L}~=[23]", ["a-l", "v"]),
        ("kind~=iew", ["v"]),
        ("kind~=/^(view|active)$/", ["a", "a-l", "a-np", "v"]),
        ("name~=[", []),
        ("foo==bar", []),
        ("foo!=bar", EVERYTHING),
        ("foo", []),
        ("labels", []),
        ("kind", EVERYTHING),
    ],
)
def test_filters_know_presence_inequality_and_expressions(shelf, selector, expected):
    """Rejects: an inequality that wants the label to be there, an anchored expression, an error for a bad one."""
    assert shelf(selector) == expected


@clause("SNP-077")
def test_a_label_key_in_a_filter_may_be_quoted(ctx, snapshotter):
    """Rejects: quotes that become part of the key, dots that end it."""
    snapshotter.prepare(ctx, "k", labels={f"{INHERITED}i": "w"})
    snapshotter.prepare(ctx, "other")

    assert names(snapshotter, ctx, f'labels."{INHERITED}i"==w') == ["k"]
    with pytest.raises(ContainerdError):
        names(snapshotter, ctx, f"labels.{INHERITED}i==w")


@clause("SNP-077", needs={"namespaces"})
def test_dots_in_a_label_key_need_no_quotes(ctx, snapshotter):
    """Rejects: a path of fields inside the labels."""
    snapshotter.prepare(ctx, "k", labels={"some.label.key": "w"})
    snapshotter.prepare(ctx, "other")

    assert names(snapshotter, ctx, "labels.some.label.key==w") == ["k"]


@clause("SNP-078")
@pytest.mark.parametrize("malformed", ["kind=", "name==", "name==a,", "name==a b", "=="])
def test_a_filter_that_does_not_parse_fails_the_list(ctx, snapshotter, malformed):
    """Rejects: a malformed filter that is left out, so that the others answer for it."""
    snapshotter.view(ctx, "v")

    for filters in ([malformed], [malformed, "kind==view"], ["kind==view", malformed]):
        with pytest.raises(ContainerdError):
            list(snapshotter.walk(ctx, filters))
    assert names(snapshotter, ctx, "") == ["v"], "the empty filter wants everything"


@clause("SNP-079")
def test_a_list_tolerates_changes_while_it_is_read(ctx, snapshotter):
    """Rejects: a walk that holds a lock, on which the first change would wait for ever."""
    keys = [f"n{n:04}" for n in range(120)]
    for key in keys:
        snapshotter.prepare(ctx, key)

    seen = []
    for info in snapshotter.walk(ctx):
        seen.append(info.name)
        if info.name not in keys:
            continue
        snapshotter.stat(ctx, info.name)
        if info.name.endswith("5"):
            snapshotter.remove(ctx, info.name)
        elif info.name.endswith("00"):
            snapshotter.prepare(ctx, f"{info.name}-new")
    assert len(seen) == len(set(seen)), "no snapshot is shown twice"
    assert {key for key in keys if not key.endswith("5")} <= set(seen)


@clause("SNP-081")
def test_usage_of_an_active_snapshot_follows_what_is_written(ctx, snapshotter, mounted):
    """Rejects: a usage that is always nothing, or that of the last time somebody looked."""
    fresh = (snapshotter.prepare(ctx, "a"), snapshotter.usage(ctx, "a"))[1]
    with mounted(snapshotter.mounts(ctx, "a")) as root:
        write_synced(root, "f", os.urandom(100_000))
    full = snapshotter.usage(ctx, "a")
    with mounted(snapshotter.mounts(ctx, "a")) as root:
        root.unlink("f")
    empty = snapshotter.usage(ctx, "a")

    assert full.size - fresh.size >= 100_000
    if fresh.inodes > 0:  # a block based snapshotter knows of none
        assert full.inodes == fresh.inodes + 1
        assert empty.size < full.size


@clause("SNP-082")
def test_usage_is_fixed_at_commit(ctx, snapshotter, mounted, snapshotter_id):
    """Rejects: a committed layer that is measured again at each call."""
    with mounted(snapshotter.prepare(ctx, "a")) as root:
        write_synced(root, "f", os.urandom(50_000))
    active = snapshotter.usage(ctx, "a")
    snapshotter.commit(ctx, "c", "a")
    fixed = snapshotter.usage(ctx, "c")

    if snapshotter_id != "erofs":  # converts at commit
        assert fixed == active
    with mounted(snapshotter.prepare(ctx, "child", "c")) as root:
        write_synced(root, "g", os.urandom(50_000))
    assert snapshotter.usage(ctx, "c") == fixed
    view = snapshotter.view(ctx, "v", "c")
    if view[-1].type == "bind":
        # The storage itself is changed, behind the snapshotter's back.
        with mounted([Mount("bind", view[-1].source, options=("rbind", "rw"))]) as root:
            write_synced(root, "behind", os.urandom(50_000))
        assert snapshotter.usage(ctx, "c") == fixed


@clause("SNP-083")
def test_usage_leaves_the_parent_out(ctx, snapshotter, mounted, layers):
    """Rejects: a sum over the chain. Who copies has all of it once more, and says so."""

    def fill(root):
        write_synced(root, "big", os.urandom(100_000))

    layers.add("L1", "", fill)
    lower = snapshotter.usage(ctx, "L1")
    mounts = snapshotter.prepare(ctx, "L2", "L1")
    with mounted(mounts) as root:
        write_synced(root, "small", os.urandom(10_000))
    upper = snapshotter.usage(ctx, "L2")

    assert lower.size >= 100_000
    # One directory alone holds the whole tree: it is a copy.
    copies = all(mount.type == "bind" for mount in mounts)
    assert (upper.size >= 110_000) if copies else (10_000 <= upper.size < 100_000), upper
    assert snapshotter.usage(ctx, "L1") == lower


@clause("SNP-084")
def test_usage_counts_what_is_allocated_and_each_inode_once(ctx, snapshotter, mounted):
    """Rejects: apparent sizes, and a file that counts once for each of its names."""
    snapshotter.prepare(ctx, "a")
    before = snapshotter.usage(ctx, "a")
    if before.inodes <= 0:
        pytest.skip("this snapshotter counts no inodes: it is not file based")

    def grown(change):
        nonlocal before
        with mounted(snapshotter.mounts(ctx, "a")) as root:
            change(root)
        after, last = snapshotter.usage(ctx, "a"), before
        before = after
        return Usage(after.size - last.size, after.inodes - last.inodes)

    def sparse(root):
        root.write("sparse", b"")
        root.truncate("sparse", 10 * 1024 * 1024)

    def two_names(root):
        write_synced(root, "one", os.urandom(8000))
        root.link("one", "two")

    def small(root):
        root.symlink("one", "link")
        root.mkdir("folder")

    assert before.inodes == 1, "the root directory"
    found = grown(sparse)
    assert (found.size < 8192, found.inodes) == (True, 1)
    found = grown(two_names)
    assert (8000 <= found.size < 16000, found.inodes) == (True, 1)
    assert grown(small).inodes == 2


@clause("SNP-085")
def test_usage_of_a_view_is_nothing(ctx, snapshotter, snapshotter_id, layers):
    """Rejects: a view that reports what its parent takes."""
    layers.files("c", {"f": b"1" * 50_000})
    snapshotter.view(ctx, "v", "c")
    snapshotter.view(ctx, "v0")

    for key in ("v", "v0"):
        usage = snapshotter.usage(ctx, key)
        if snapshotter_id in {"devmapper", "blockfile"} and usage.size < 0:
            continue  # they take the parent's size from nothing
        assert usage == Usage(0, 0), key
