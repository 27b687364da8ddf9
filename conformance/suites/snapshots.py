"""Snapshots, the life cycle: names, kinds and parents, and which call is refused when (SNP-001 to SNP-035).

What is in the layers is in ``snapshots_files``, records and lists in ``snapshots_records``, what keeps and takes
snapshots in ``snapshots_keeping``, back ends of another process in ``snapshots_proxy``, events, restarts and races in
``snapshots_time``.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

import pytest

from conformance import clause
from conformance.suites._snapshots import (
    METHODS,
    NAMESPACED,
    ROOTED,
    committed,
    exists,
    layers,  # noqa: F401  # a fixture
    names,
    paths,
    requests,
    send,
)
from refimpl.api import snapshots_v1_pb2 as pb
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    AlreadyExists,
    ContainerdError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unknown,
)
from refimpl.contract.namespaces import Namespace
from refimpl.contract.snapshots import Info, Kind

MAKERS = pytest.mark.parametrize("make", ["prepare", "view"])


@pytest.fixture
def two(subject, snapshotters):
    """Two snapshotters of the subject."""
    ids = list(subject.snapshotters)
    if len(ids) < 2:
        pytest.skip("the subject has only one snapshotter")
    # native is on every Linux; of the others, any will do.
    other = "native" if "native" in ids[1:] else ids[1]
    return (ids[0], snapshotters(ids[0])), (other, snapshotters(other))


@clause("SNP-001")
@pytest.mark.parametrize("method", METHODS)
def test_every_call_has_to_name_a_snapshotter(ctx, wire, method):
    """Rejects: a default snapshotter, or a look at namespace and key before the look at the snapshotter."""
    request = requests("")[method]

    assert send(wire, ctx, method, request).code == "INVALID_ARGUMENT"
    assert send(wire, CallContext(), method, request).code == "INVALID_ARGUMENT", "the missing namespace comes second"


@clause("SNP-002")
@pytest.mark.parametrize("method", METHODS)
def test_a_snapshotter_that_is_not_loaded_is_an_invalid_argument(ctx, wire, introspection, method):
    """Rejects: NotFound, which reads as: the snapshot is missing; Unavailable for a plugin that was skipped."""
    plugins = introspection.plugins(ctx, ['type=="io.containerd.snapshotter.v1"'])
    broken = [plugin.id for plugin in plugins if plugin.init_err is not None]

    for id in ["nope", *broken]:
        answer = send(wire, ctx, method, requests(id)[method])
        assert (answer.code, id in answer.message) == ("INVALID_ARGUMENT", True), f"{id}: {answer.message}"


@clause("SNP-003")
@pytest.mark.parametrize("method", NAMESPACED)
def test_no_method_works_without_a_namespace(wire, subject, snapshotters, unique, method):
    """Rejects: a namespace that the server makes up."""
    id, key = subject.snapshotters[0], unique("nowhere")
    default = CallContext(namespace="default")
    request = requests(id, key)[method]
    try:
        for namespace in (None, ""):
            answer = wire.call(f"containerd.services.snapshots.v1.Snapshots/{method}", request, namespace=namespace)
            assert answer.code == "FAILED_PRECONDITION", f"namespace {namespace!r}"
        assert not exists(snapshotters(id), default, key)
    finally:
        # A daemon that is wrong here must not keep it.
        with suppress(ContainerdError):
            snapshotters(id).remove(default, key)


@clause("SNP-004")
def test_a_list_that_fails_shows_nothing(ctx, wire, subject):
    """Rejects: an error of the walk that is swallowed, so that the list looks empty."""
    id = subject.snapshotters[0]
    homeless = send(wire, CallContext(), "List", pb.ListSnapshotsRequest(snapshotter=id))
    garbled = send(wire, ctx, "List", pb.ListSnapshotsRequest(snapshotter=id, filters=["kind="]))

    assert homeless.code in {"UNKNOWN", "FAILED_PRECONDITION"}
    assert garbled.code in {"UNKNOWN", "INVALID_ARGUMENT"}
    assert [*homeless.messages, *garbled.messages] == []


@clause("SNP-005")
@pytest.mark.parametrize("namespace", ["bad ns", "a/b", "-a", "a..b"])
def test_a_malformed_namespace_is_refused(snapshotter, namespace):
    """Rejects: a namespace that becomes part of a path or of an internal key unseen."""
    with pytest.raises(InvalidArgument):
        snapshotter.prepare(CallContext(namespace=namespace), "k")


@clause("SNP-006")
def test_one_key_in_two_namespaces_is_two_snapshots(ctx, new_namespace, snapshotter):
    """Rejects: one key space for all, in which the second tenant gets AlreadyExists, or the first one's files."""
    other = new_namespace()
    mine = snapshotter.prepare(ctx, "k")
    assert snapshotter.prepare(other, "k") != mine, "unrelated snapshots have storage of their own"

    snapshotter.commit(ctx, "c", "k")
    snapshotter.commit(other, "c", "k")
    snapshotter.remove(other, "c")

    assert names(snapshotter, ctx) == ["c"]
    assert names(snapshotter, other) == []


@clause("SNP-006")
def test_a_snapshot_of_another_namespace_is_invisible(ctx, new_namespace, snapshotter):
    """Rejects: a look-up that forgets the namespace in one of the methods."""
    other = new_namespace()
    committed(snapshotter, ctx, "c")
    snapshotter.prepare(ctx, "a")
    snapshotter.prepare(other, "own")

    for call in (
        lambda: snapshotter.stat(other, "c"),
        lambda: snapshotter.mounts(other, "a"),
        lambda: snapshotter.usage(other, "c"),
        lambda: snapshotter.update(other, Info("c", labels={"x": "1"})),
        lambda: snapshotter.remove(other, "c"),
        lambda: snapshotter.prepare(other, "q", "c"),
        lambda: snapshotter.view(other, "q", "c"),
        lambda: snapshotter.commit(other, "c2", "a"),
    ):
        with pytest.raises(NotFound):
            call()
    assert names(snapshotter, other) == ["own"]
    assert names(snapshotter, ctx) == ["a", "c"]


@clause("SNP-007")
def test_one_key_in_two_snapshotters_is_two_snapshots(ctx, two):
    """Rejects: records kept by namespace and key alone."""
    (_, first), (_, second) = two
    first.prepare(ctx, "a")
    second.prepare(ctx, "a")
    second.commit(ctx, "c", "a")
    first.prepare(ctx, "only-first")

    assert names(first, ctx) == ["a", "only-first"]
    assert names(second, ctx) == ["c"]


@clause("SNP-007")
def test_a_parent_lives_in_the_same_snapshotter(ctx, two):
    """Rejects: a parent looked up wherever it is found."""
    (_, first), (_, second) = two
    committed(first, ctx, "base")

    with pytest.raises(NotFound):
        second.prepare(ctx, "child", "base")
    assert names(second, ctx) == []


@clause("SNP-008")
def test_a_namespace_with_snapshots_cannot_be_deleted(ctx, namespaces, two):
    """Rejects: a deletion that looks at images and containers only, and leaves snapshots that nobody can reach."""
    ctx = CallContext(namespace=f"{ctx.namespace}-full")
    namespaces.create(ctx, Namespace(ctx.namespace))
    try:
        for _, snapshotter in two:
            snapshotter.prepare(ctx, "k", labels=ROOTED)

        with pytest.raises(FailedPrecondition) as refusal:
            namespaces.delete(ctx, ctx.namespace)
        assert [id for id, _ in two if id not in str(refusal.value)] == [], "each snapshotter is named"
        assert [names(snapshotter, ctx) for _, snapshotter in two] == [["k"], ["k"]]
    finally:
        for _, snapshotter in two:
            with suppress(NotFound):
                snapshotter.remove(ctx, "k")
        namespaces.delete(ctx, ctx.namespace)


@clause("SNP-009")
def test_a_snapshot_without_parent_is_an_empty_active_one(ctx, snapshotter):
    """Rejects: a record of another kind, or times that are not those of the call."""
    before = time.time_ns()
    mounts = snapshotter.prepare(ctx, "k")
    after = time.time_ns()
    info = snapshotter.stat(ctx, "k")

    assert len(mounts) >= 1
    assert (info.name, info.kind, info.parent) == ("k", Kind.ACTIVE, "")
    assert info.created_at == info.updated_at
    assert before <= info.created_at <= after


@clause("SNP-009")
def test_the_tree_of_a_snapshot_without_parent_is_empty_and_writable(ctx, snapshotter, mounted):
    """Rejects: storage that still has the files of an earlier snapshot."""
    with mounted(snapshotter.prepare(ctx, "earlier")) as root:
        root.write("left", b"behind")
    snapshotter.remove(ctx, "earlier")

    with mounted(snapshotter.prepare(ctx, "k")) as root:
        assert paths(root) == []
        root.write("f", b"1")
        assert root.read("f") == b"1"


@clause("SNP-010")
def test_a_child_starts_from_its_parent_and_does_not_change_it(ctx, snapshotter, mounted, layers):  # noqa: F811
    """Rejects: an active layer that is the parent's own directory, so that writes leak down."""
    layers.files("c", {"f": b"1"})
    with mounted(snapshotter.prepare(ctx, "a", "c")) as root:
        assert (paths(root), root.read("f")) == (["/f"], b"1")
        root.write("f", b"2")
        root.write("new", b"3")

    assert snapshotter.stat(ctx, "a").parent == "c"
    with layers.look("c") as root:
        assert (paths(root), root.read("f")) == (["/f"], b"1")


@clause("SNP-011")
def test_a_view_is_a_snapshot_like_any_other(ctx, snapshotter):
    """Rejects: a view that has no record: not found, not listed, not removable, not counted as a child."""
    committed(snapshotter, ctx, "c")
    assert snapshotter.view(ctx, "v", "c")
    assert snapshotter.view(ctx, "v0")

    found = {info.name: (info.kind, info.parent) for info in snapshotter.walk(ctx, ["kind==view"])}
    assert found == {"v": (Kind.VIEW, "c"), "v0": (Kind.VIEW, "")}
    assert snapshotter.stat(ctx, "v").kind is Kind.VIEW
    with pytest.raises(FailedPrecondition):
        snapshotter.remove(ctx, "c")
    snapshotter.remove(ctx, "v")
    snapshotter.remove(ctx, "v0")
    assert names(snapshotter, ctx) == ["c"]


@clause("SNP-011")
def test_a_view_shows_the_tree_of_its_parent(ctx, snapshotter, mounted, layers):  # noqa: F811
    """Rejects: a view of nothing, or one that is as full without a parent as with one."""
    layers.files("c", {"f": b"1"})

    with mounted(snapshotter.view(ctx, "v", "c")) as root:
        assert (paths(root), root.read("f")) == (["/f"], b"1")
    with mounted(snapshotter.view(ctx, "v0")) as root:
        assert paths(root) == []


@clause("SNP-012")
def test_a_commit_turns_the_key_into_the_name(ctx, snapshotter):
    """Rejects: a copy under the name that leaves the active key behind."""
    committed(snapshotter, ctx, "p")
    snapshotter.prepare(ctx, "a", "p")
    snapshotter.commit(ctx, "c", "a")

    with pytest.raises(NotFound):
        snapshotter.stat(ctx, "a")
    info = snapshotter.stat(ctx, "c")
    assert (info.kind, info.parent) == (Kind.COMMITTED, "p")
    assert names(snapshotter, ctx) == ["c", "p"]


@clause("SNP-012")
def test_files_written_before_commit_are_seen_by_a_child(ctx, snapshotter, mounted):
    """Rejects: a commit that keeps the record and loses the files."""
    with mounted(snapshotter.prepare(ctx, "base")) as root:
        root.write("motd", b"hello\n")
    snapshotter.commit(ctx, "layer", "base")
    assert snapshotter.stat(ctx, "layer").kind is Kind.COMMITTED

    with mounted(snapshotter.view(ctx, "reader", "layer")) as root:
        assert root.read("motd") == b"hello\n"


@clause("SNP-013")
def test_a_committed_snapshot_bears_the_time_of_its_commit(ctx, snapshotter):
    """Rejects: a commit that keeps the times of the prepare."""
    snapshotter.prepare(ctx, "a")
    prepared = snapshotter.stat(ctx, "a").created_at
    before = time.time_ns()
    snapshotter.commit(ctx, "c", "a")
    info = snapshotter.stat(ctx, "c")

    assert prepared < before <= info.created_at <= time.time_ns()
    assert info.updated_at == info.created_at


@clause("SNP-014")
@pytest.mark.parametrize("open_layer", ["prepare", "view"])
@MAKERS
def test_only_a_committed_snapshot_can_be_a_parent(ctx, snapshotter, open_layer, make):
    """Rejects: looking the parent up without asking for its kind."""
    getattr(snapshotter, open_layer)(ctx, "still-open")

    with pytest.raises(InvalidArgument):
        getattr(snapshotter, make)(ctx, "child", "still-open")

    assert names(snapshotter, ctx) == ["still-open"]
    assert not exists(snapshotter, ctx, "child")
    snapshotter.remove(ctx, "still-open")


@clause("SNP-015")
@MAKERS
def test_a_parent_that_does_not_exist_is_not_found(ctx, snapshotter, make):
    """Rejects: a missing parent that is taken for none, or a key that stands on itself."""
    for key, parent in (("x", "nope"), ("self", "self")):
        with pytest.raises(NotFound):
            getattr(snapshotter, make)(ctx, key, parent)
        assert not exists(snapshotter, ctx, key)
    assert names(snapshotter, ctx) == []


@clause("SNP-016")
@pytest.mark.parametrize("again", ["prepare", "view"])
def test_a_key_that_is_taken_cannot_be_used_again(ctx, snapshotter, again):
    """Rejects: a second prepare that quietly replaces the first one's record, or answers with its mounts."""
    committed(snapshotter, ctx, "c")
    snapshotter.prepare(ctx, "a", labels={"containerd.io/snapshot/l": "1"})
    snapshotter.view(ctx, "v", "c")
    before = [snapshotter.stat(ctx, key) for key in ("a", "v", "c")]

    for key in ("a", "v", "c"):
        for parent in ("", "c"):
            with pytest.raises(AlreadyExists):
                getattr(snapshotter, again)(ctx, key, parent)

    assert [snapshotter.stat(ctx, key) for key in ("a", "v", "c")] == before, "a refused call changes nothing"


@clause("SNP-017")
def test_a_commit_to_a_name_that_is_taken_is_refused_and_can_be_retried(ctx, snapshotter):
    """Rejects: a commit that overwrites an older layer, or that loses the active snapshot when it is refused."""
    committed(snapshotter, ctx, "c")
    snapshotter.view(ctx, "v", "c")
    snapshotter.prepare(ctx, "a")
    before = [snapshotter.stat(ctx, key) for key in ("a", "c", "v")]

    for name in ("c", "v", "a"):
        with pytest.raises(AlreadyExists):
            snapshotter.commit(ctx, name, "a")

    assert [snapshotter.stat(ctx, key) for key in ("a", "c", "v")] == before
    snapshotter.commit(ctx, "c2", "a")
    assert snapshotter.stat(ctx, "c2").kind is Kind.COMMITTED


@clause("SNP-018")
def test_a_commit_of_a_missing_key_is_not_found_and_leaves_the_name_free(ctx, snapshotter):
    """Rejects: a name that stays reserved after the commit that failed."""
    with pytest.raises(NotFound):
        snapshotter.commit(ctx, "c2", "nope")
    assert not exists(snapshotter, ctx, "c2")
    snapshotter.prepare(ctx, "c2")


@clause("SNP-019")
def test_a_missing_key_and_a_taken_name_together_are_refused(ctx, snapshotter):
    """Rejects: success; which of the two errors comes first is free."""
    committed(snapshotter, ctx, "c")
    before = snapshotter.stat(ctx, "c")

    with pytest.raises((AlreadyExists, NotFound)):
        snapshotter.commit(ctx, "c", "nope")
    assert list(snapshotter.walk(ctx)) == [before]


@clause("SNP-020")
@pytest.mark.parametrize("parent", ["", "c"], ids=["of nothing", "of a layer"])
def test_a_view_cannot_be_committed(ctx, snapshotter, snapshotter_id, parent):
    """Rejects: a view that becomes an empty layer."""
    committed(snapshotter, ctx, "c")
    snapshotter.view(ctx, "v", parent)

    # native of 1.6 measures the view's directory first, which a view of a layer does not have.
    refusals = (FailedPrecondition, Unknown) if snapshotter_id == "native" and parent else (FailedPrecondition,)
    with pytest.raises(refusals):
        snapshotter.commit(ctx, "x", "v")
    assert snapshotter.stat(ctx, "v").kind is Kind.VIEW
    assert not exists(snapshotter, ctx, "x")


@clause("SNP-021")
def test_a_committed_snapshot_cannot_be_committed_again(ctx, snapshotter):
    """Rejects: a commit that renames."""
    committed(snapshotter, ctx, "c")
    before = snapshotter.stat(ctx, "c")

    with pytest.raises(FailedPrecondition):
        snapshotter.commit(ctx, "x", "c")
    assert list(snapshotter.walk(ctx)) == [before]


@clause("SNP-022")
def test_what_is_not_there_cannot_be_removed(ctx, snapshotter):
    """Rejects: a removal that is quietly idempotent."""
    with pytest.raises(NotFound):
        snapshotter.remove(ctx, "nope")
    snapshotter.prepare(ctx, "a")
    snapshotter.remove(ctx, "a")
    with pytest.raises(NotFound):
        snapshotter.remove(ctx, "a")


@clause("SNP-023")
@pytest.mark.parametrize("child", ["active", "view", "committed"])
def test_a_snapshot_with_a_child_cannot_be_removed(ctx, snapshotter, child):
    """Rejects: a removal that counts only children of some kinds, or takes them along."""
    committed(snapshotter, ctx, "base")
    if child == "active":
        snapshotter.prepare(ctx, "child", "base")
    elif child == "view":
        snapshotter.view(ctx, "child", "base")
    else:
        committed(snapshotter, ctx, "child", "base")
    before = list(snapshotter.walk(ctx))

    with pytest.raises(FailedPrecondition):
        snapshotter.remove(ctx, "base")
    assert list(snapshotter.walk(ctx)) == before


@clause("SNP-024")
def test_a_chain_is_removed_from_the_leaf_down(ctx, snapshotter):
    """Rejects: a count of children that is not taken back when a child goes."""
    committed(snapshotter, ctx, "base")
    committed(snapshotter, ctx, "mid", "base")
    snapshotter.prepare(ctx, "active", "mid")

    for blocked in ("mid", "base"):
        with pytest.raises(FailedPrecondition):
            snapshotter.remove(ctx, blocked)
    snapshotter.remove(ctx, "active")
    with pytest.raises(FailedPrecondition):
        snapshotter.remove(ctx, "base")
    snapshotter.remove(ctx, "mid")
    snapshotter.remove(ctx, "base")
    assert names(snapshotter, ctx) == []


@clause("SNP-025")
def test_a_commit_hands_the_parent_on_to_the_name(ctx, snapshotter):
    """Rejects: a child that is still known by its old key, so that the parent can be removed under it."""
    committed(snapshotter, ctx, "p")
    snapshotter.prepare(ctx, "a", "p")
    snapshotter.commit(ctx, "n", "a")

    with pytest.raises(FailedPrecondition):
        snapshotter.remove(ctx, "p")
    snapshotter.remove(ctx, "n")
    snapshotter.remove(ctx, "p")


@clause("SNP-026")
def test_a_key_is_free_as_soon_as_its_snapshot_is_gone(ctx, snapshotter):
    """Rejects: a key that stays taken until the storage is given back, or labels that it keeps."""
    committed(snapshotter, ctx, "c")
    snapshotter.prepare(ctx, "r", "c", {"containerd.io/snapshot/old": "1"})
    snapshotter.remove(ctx, "r")
    snapshotter.view(ctx, "r", "c")
    assert "containerd.io/snapshot/old" not in snapshotter.stat(ctx, "r").labels
    snapshotter.remove(ctx, "r")
    snapshotter.prepare(ctx, "r")
    snapshotter.remove(ctx, "c")
    snapshotter.commit(ctx, "c", "r")
    snapshotter.prepare(ctx, "r", "c")

    assert snapshotter.stat(ctx, "c").parent == ""
    assert snapshotter.stat(ctx, "r").kind is Kind.ACTIVE


@clause("SNP-026")
def test_a_key_that_is_used_again_has_none_of_the_old_files(ctx, snapshotter, mounted, layers):  # noqa: F811
    """Rejects: storage that is found by the key, so that the new snapshot inherits what the old one left."""
    layers.files("c", {"base": b"1"})
    with mounted(snapshotter.prepare(ctx, "r", "c")) as root:
        root.write("old", b"2")
    snapshotter.remove(ctx, "r")

    with mounted(snapshotter.prepare(ctx, "r")) as root:
        assert paths(root) == []


@clause("SNP-027")
def test_a_removed_snapshot_takes_its_changes_with_it(ctx, snapshotter, mounted, layers):  # noqa: F811
    """Rejects: a removal that merges into the parent, or that empties a sibling."""
    layers.files("c", {"base": b"1"})
    for key, name in (("a", "x"), ("b", "y")):
        with mounted(snapshotter.prepare(ctx, key, "c")) as root:
            root.write(name, b"2")
    snapshotter.remove(ctx, "a")

    with layers.look("c") as root:
        assert paths(root) == ["/base"]
    with mounted(snapshotter.mounts(ctx, "b")) as root:
        assert paths(root) == ["/base", "/y"]


@clause("SNP-028")
def test_parents_form_a_chain_that_ends_in_nothing(ctx, snapshotter):
    """Rejects: the name that the storage uses inside, or the base of the chain, where the parent should be."""
    committed(snapshotter, ctx, "A")
    committed(snapshotter, ctx, "B", "A")
    committed(snapshotter, ctx, "C", "B")

    assert [snapshotter.stat(ctx, name).parent for name in ("C", "B", "A")] == ["B", "A", ""]


@clause("SNP-029")
@pytest.mark.parametrize("filled", [True, False], ids=["among others", "in an empty namespace"])
def test_what_is_not_there_is_not_found(ctx, snapshotter, filled):
    """Rejects: another error for a namespace that nobody has used yet."""
    if filled:
        snapshotter.prepare(ctx, "a")

    for call in (
        lambda: snapshotter.stat(ctx, "nope"),
        lambda: snapshotter.mounts(ctx, "nope"),
        lambda: snapshotter.usage(ctx, "nope"),
        lambda: snapshotter.update(ctx, Info("nope", labels={"l": "1"})),
    ):
        with pytest.raises(NotFound):
            call()


@clause("SNP-030")
def test_nothing_is_ever_called_by_the_empty_key(ctx, snapshotter):
    """Rejects: a snapshot whose name is the empty string."""
    snapshotter.prepare(ctx, "a")
    before = list(snapshotter.walk(ctx))

    for make in (
        lambda: snapshotter.prepare(ctx, ""),
        lambda: snapshotter.view(ctx, ""),
        lambda: snapshotter.commit(ctx, "", "a"),
    ):
        with pytest.raises((Unknown, InvalidArgument)):
            make()
    for look in (
        lambda: snapshotter.stat(ctx, ""),
        lambda: snapshotter.mounts(ctx, ""),
        lambda: snapshotter.usage(ctx, ""),
        lambda: snapshotter.remove(ctx, ""),
        lambda: snapshotter.commit(ctx, "c", ""),
    ):
        with pytest.raises(NotFound):
            look()
    with pytest.raises(InvalidArgument):
        snapshotter.update(ctx, Info(""))
    assert list(snapshotter.walk(ctx)) == before


@clause("SNP-031")
def test_a_key_may_be_any_text(ctx, snapshotter, unique):
    """Rejects: a key that becomes a path, or that comes back changed."""
    stem = unique("k")
    keys = [
        f"a/{stem}/c", f"../{stem}", f"/{stem}", f"{stem} y", f"{stem}\n", f"{stem}\t", f"{stem}\0b", f"{stem}-ключ",
        f"sha256:{stem}", f"../../../../tmp/{stem}", f"{stem}:", "..", ".", "/",
    ]  # fmt: skip
    for key in keys:
        mounts = snapshotter.prepare(ctx, key)
        told = [text for mount in mounts for text in (mount.source, *mount.options)]
        assert not any(stem in text for text in told), f"{key!r} is part of {told}"
        assert snapshotter.stat(ctx, key).name == key

    assert names(snapshotter, ctx) == sorted(keys, key=os.fsencode)
    for key in keys:
        snapshotter.remove(ctx, key)


@clause("SNP-031", needs={"disk"})
def test_no_key_names_a_file_on_the_disk(ctx, subject, snapshotter, unique):
    """Rejects: a key joined to the root, which leaves it as soon as the key has dots enough."""
    stem = unique("k")
    for key in (stem, f"a/{stem}", f"../{stem}", f"../../{stem}"):
        snapshotter.prepare(ctx, key)

    # The root's parent is the daemon's own too: a temporary directory that holds nothing else.
    for folder, folders, files in os.walk(subject.root.parent):
        assert not [name for name in (*folders, *files) if stem in name], f"in {folder}"


@clause("SNP-032")
@pytest.mark.parametrize("length", [4096, 32768, 32769])
def test_a_key_may_be_long(unleased, snapshotter, length):
    """Rejects: a key that becomes the name of a file."""
    key = "k" * length
    # Not under a lease: its list of what it holds ends at 32768 bytes for one key.
    snapshotter.prepare(unleased, key, labels=ROOTED)
    assert snapshotter.stat(unleased, key).name == key
    snapshotter.remove(unleased, key)


@clause("SNP-033")
@MAKERS
def test_a_refused_creation_is_not_listed(ctx, snapshotter, make):
    """Rejects: a record that is written first and not taken back."""
    snapshotter.prepare(ctx, "a", labels={"containerd.io/snapshot/l": "1"})
    before = list(snapshotter.walk(ctx))

    for key, parent, kind in (("a", "", AlreadyExists), ("x", "nope", NotFound), ("y", "a", InvalidArgument)):
        with pytest.raises(kind):
            getattr(snapshotter, make)(ctx, key, parent)
    assert list(snapshotter.walk(ctx)) == before


@clause("SNP-033", needs={"config", "disk"})
def test_a_refused_creation_leaves_no_storage(ctx, own, subject):
    """Rejects: a back end's snapshot that stays when the record could not be written."""
    instance, id = own(), subject.snapshotters[0]
    snapshotter, ctx = instance.snapshotter(id), CallContext(namespace="ns")
    storage = instance.root / f"io.containerd.snapshotter.v1.{id}" / "snapshots"
    snapshotter.prepare(ctx, "a", labels=ROOTED)
    before = sorted(path.name for path in storage.iterdir())

    too_long = {"l": "v" * 5000}
    for key, parent, labels in (("a", "", ROOTED), ("x", "nope", ROOTED), ("y", "a", ROOTED), ("z", "", too_long)):
        with pytest.raises(ContainerdError):
            snapshotter.prepare(ctx, key, parent, labels)
    with pytest.raises(NotFound):
        snapshotter.prepare(ctx.with_lease("no-lease"), "under-no-lease")
    snapshotter.prepare(ctx, "other", labels=ROOTED)
    snapshotter.remove(ctx, "other")
    instance.collect(ctx)

    assert sorted(path.name for path in storage.iterdir()) == before


@clause("SNP-034")
@MAKERS
def test_mounts_repeats_what_the_creation_answered(ctx, snapshotter, make):
    """Rejects: options that are put together in another order, or layers that are listed again."""
    committed(snapshotter, ctx, "p")
    committed(snapshotter, ctx, "c", "p")
    parents = {"k": "c", "k0": "", "k1": "p"}
    answers = {key: getattr(snapshotter, make)(ctx, key, parent) for key, parent in parents.items()}

    for key, mounts in answers.items():
        assert snapshotter.mounts(ctx, key) == mounts
        assert snapshotter.mounts(ctx, key) == mounts


@clause("SNP-035")
def test_a_committed_snapshot_has_no_mounts(ctx, snapshotter, snapshotter_id):
    """Rejects: a writable mount of a layer that others stand on."""
    committed(snapshotter, ctx, "c")
    try:
        snapshotter.mounts(ctx, "c")
    except FailedPrecondition:
        pass
    else:
        assert snapshotter_id == "devmapper", "only devmapper answers, with a device that does not exist"
    with pytest.raises(NotFound):
        snapshotter.mounts(ctx, "nope")
