"""Snapshots, the back end: what a snapshotter of another process sees and may answer (SNP-033 to SNP-115).

Each check starts a daemon of its own with a recording back end (``_snapshots_proxy``) behind it.
"""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import grpc
import pytest

from conformance import clause
from conformance.suites._snapshots import INHERITED, REF, ROOTED, committed, eventually, exists, names
from conformance.suites._snapshots_proxy import ID, PROXIED, behind
from refimpl.api import snapshots_v1_pb2 as pb
from refimpl.contract import filters
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    AlreadyExists,
    ContainerdError,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
    Unknown,
)
from refimpl.contract.snapshots import Info, Kind

STORAGE = ("List", "Remove", "Cleanup")
"""What a storage pass asks a back end."""


def _storage_calls(behind):
    return [call.method for call in behind.backend.asked(*STORAGE)]


@clause("SNP-033", needs=PROXIED)
def test_what_the_back_end_made_for_a_refused_creation_is_given_back(behind):
    """Rejects: a back end's snapshot that stays although the record could not be written."""
    snapshotter, backend = behind.snapshotter, behind.backend
    with pytest.raises(NotFound):
        snapshotter.prepare(behind.ctx.with_lease("no-such-lease"), "x")
    backend.fails["Prepare"] = grpc.StatusCode.UNAVAILABLE
    with pytest.raises(Unavailable):
        snapshotter.prepare(behind.ctx, "y")
    backend.fails.clear()

    assert names(snapshotter, behind.ctx) == []
    snapshotter.prepare(behind.ctx, "other")
    snapshotter.remove(behind.ctx, "other")
    behind.collect()
    assert backend.names() == []


@clause("SNP-063", needs=PROXIED)
def test_a_back_end_sees_only_the_labels_that_are_its_business(behind):
    """Rejects: the collector's labels that leak to the back end, or a target that is kept from it."""
    given = {"plain": "1", f"{INHERITED}a": "2", REF: "T", **ROOTED}
    passed = {f"{INHERITED}a": "2", REF: "T"}
    snapshotter, ctx, backend = behind.snapshotter, behind.ctx, behind.backend
    snapshotter.prepare(ctx, "a", labels=given)
    snapshotter.view(ctx, "v", labels=given)
    snapshotter.update(ctx, Info("v", labels=given))
    snapshotter.commit(ctx, "c", "a", given)

    for method in ("Prepare", "View", "Commit"):
        assert [dict(call.request.labels) for call in backend.asked(method)] == [passed], method
    assert [dict(call.request.info.labels) for call in backend.asked("Update")] == [passed]
    for key in ("v", "c"):
        assert dict(snapshotter.stat(ctx, key).labels) == given


@clause("SNP-080", needs=PROXIED)
def test_a_record_whose_snapshot_is_lost_is_left_out_and_can_be_removed(behind):
    """Rejects: one lost snapshot that makes every list fail, or a key that can never be used again."""
    snapshotter, ctx = behind.snapshotter, behind.ctx
    snapshotter.prepare(ctx, "m1")
    snapshotter.prepare(ctx, "m2")
    behind.backend.forget("rem/1/m1")

    assert names(snapshotter, ctx) == ["m2"]
    for call in (
        lambda: snapshotter.stat(ctx, "m1"),
        lambda: snapshotter.mounts(ctx, "m1"),
        lambda: snapshotter.usage(ctx, "m1"),
        lambda: snapshotter.commit(ctx, "c", "m1"),
        lambda: snapshotter.update(ctx, Info("m1")),
    ):
        with pytest.raises(NotFound):
            call()
    with pytest.raises(AlreadyExists):
        snapshotter.prepare(ctx, "m1")
    snapshotter.remove(ctx, "m1")
    snapshotter.prepare(ctx, "m1")


@clause("SNP-096", needs=PROXIED)
def test_the_record_goes_now_and_the_storage_with_the_next_collection(behind):
    """Rejects: storage removed while the client waits, a parent asked to go before its child, no Cleanup."""
    snapshotter, ctx, backend = behind.snapshotter, behind.ctx, behind.backend
    committed(snapshotter, ctx, "a")
    committed(snapshotter, ctx, "b", "a")
    committed(snapshotter, ctx, "c", "b")
    snapshotter.prepare(ctx, "kept")
    kept = backend.names()[-1]
    chain = [backend_name for name in "cba" for backend_name in backend.names() if backend_name.endswith(f"/{name}")]
    backend.clear()

    for name in "cba":
        snapshotter.remove(ctx, name)
        assert not exists(snapshotter, ctx, name)
    assert _storage_calls(behind) == [], "the storage waits for the collection"
    behind.collect()

    assert _storage_calls(behind) == ["List", "Remove", "Remove", "Remove", "Cleanup"]
    assert behind.keys("Remove") == chain, "children first"
    assert backend.names() == [kept]


@clause("SNP-097", needs=PROXIED)
def test_a_busy_snapshot_does_not_stop_the_storage_pass(behind):
    """Rejects: a pass that ends at the first refusal, or a snapshot that is never tried again."""
    snapshotter, ctx, backend = behind.snapshotter, behind.ctx, behind.backend
    for key in ("x", "y"):
        snapshotter.prepare(ctx, key)
        snapshotter.remove(ctx, key)
    backend.clear()
    backend.fails["Remove"] = grpc.StatusCode.FAILED_PRECONDITION
    behind.collect()
    assert _storage_calls(behind) == ["List", "Remove", "Remove", "Cleanup"]

    _back_to_normal(behind)


@clause("SNP-097", needs=PROXIED)
def test_another_failure_ends_the_storage_pass(behind):
    """Rejects: a back end in trouble that is asked about each of its snapshots, or told to clean up after all."""
    snapshotter, ctx, backend = behind.snapshotter, behind.ctx, behind.backend
    for key in ("x", "y"):
        snapshotter.prepare(ctx, key)
        snapshotter.remove(ctx, key)
    backend.clear()
    backend.fails["Remove"] = grpc.StatusCode.INTERNAL
    behind.collect()
    assert _storage_calls(behind) == ["List", "Remove"]

    _back_to_normal(behind)


@clause("SNP-097", needs=PROXIED)
def test_a_back_end_may_have_no_cleanup(behind):
    """Rejects: a collection that fails for want of it."""
    behind.snapshotter.prepare(behind.ctx, "x")
    behind.snapshotter.remove(behind.ctx, "x")
    behind.backend.fails["Cleanup"] = grpc.StatusCode.UNIMPLEMENTED
    behind.collect()
    assert behind.backend.names() == []


def _back_to_normal(behind):
    behind.backend.fails.clear()
    # A pass is made only where something was removed since the last one.
    behind.snapshotter.prepare(behind.ctx, "z")
    behind.snapshotter.remove(behind.ctx, "z")
    behind.collect()
    assert behind.backend.names() == [], "the next pass takes what the last one left"


@clause("SNP-098", needs=PROXIED | {"restart"})
def test_snapshots_that_no_record_stands_for_are_pruned(behind):
    """Rejects: orphans that stay for ever, and a start or a collection that prunes where nothing was removed."""
    snapshotter, ctx, backend = behind.snapshotter, behind.ctx, behind.backend
    snapshotter.prepare(ctx, "used")
    backend.add("gone/1/base")
    backend.add("gone/2/child", parent="gone/1/base", kind=pb.ACTIVE)
    behind.instance.restart()
    behind.collect()
    assert backend.names() == ["gone/1/base", "gone/2/child", "rem/1/used"]

    behind.snapshotter.prepare(ctx, "other")
    behind.snapshotter.remove(ctx, "other")
    behind.collect()
    assert backend.names() == ["rem/1/used"]


@clause("SNP-098", needs={"restart", "disk", "config"})
def test_storage_outlives_a_lost_database_until_the_next_removal(own, subject):
    """Rejects: a start that deletes what it does not know, or storage that nobody can ever give back."""
    instance, ctx, id = own(), CallContext(namespace="ns"), subject.snapshotters[0]
    storage = instance.root / f"io.containerd.snapshotter.v1.{id}" / "snapshots"
    for key in ("k1", "k2"):
        instance.snapshotter(id).prepare(ctx, key, labels=ROOTED)
    before = sorted(path.name for path in storage.iterdir())
    # The running daemon has the file open; the next one finds none.
    (instance.root / "io.containerd.metadata.v1.bolt" / "meta.db").unlink()
    instance.restart()

    assert names(instance.snapshotter(id), ctx) == []
    assert sorted(path.name for path in storage.iterdir()) == before
    instance.snapshotter(id).prepare(ctx, "other", labels=ROOTED)
    instance.snapshotter(id).remove(ctx, "other")
    instance.collect(ctx)
    assert list(storage.iterdir()) == []


@pytest.fixture
def remote(behind):
    """A back end that has the layer T1 ready, and says so to every creation."""
    behind.backend.add("back-T1", labels={REF: "T1", f"{INHERITED}from": "backend"})
    behind.backend.has_layers = True
    return behind


@clause("SNP-102", needs=PROXIED)
@pytest.mark.parametrize("make", ["prepare", "view"])
def test_a_layer_that_the_back_end_has_ready_becomes_a_snapshot(remote, make):
    """Rejects: a layer that is there for the back end alone, so that the client's Stat of it fails."""
    snapshotter, ctx, backend = remote.snapshotter, remote.ctx, remote.backend
    labels = {REF: "T1", "mine": "1", **ROOTED}
    with pytest.raises(AlreadyExists):
        getattr(snapshotter, make)(ctx, "x3", labels=labels)

    info = snapshotter.stat(ctx, "T1")
    assert (info.kind, info.parent) == (Kind.COMMITTED, "")
    assert dict(info.labels) == {**labels, f"{INHERITED}from": "backend"}
    assert not exists(snapshotter, ctx, "x3")
    assert names(snapshotter, ctx) == ["T1"]
    backend.has_layers = False
    snapshotter.prepare(ctx, "ch", "T1")
    assert backend.asked("Prepare")[-1].request.parent == "back-T1"


@clause("SNP-102", needs=PROXIED)
def test_the_labels_of_the_request_win_over_those_of_the_back_end(remote):
    """Rejects: labels of the back end's record that overwrite the client's."""
    labels = {REF: "T1", f"{INHERITED}from": "client", **ROOTED}
    with pytest.raises(AlreadyExists):
        remote.snapshotter.prepare(remote.ctx, "x", labels=labels)
    assert remote.snapshotter.stat(remote.ctx, "T1").labels[f"{INHERITED}from"] == "client"


@clause("SNP-103", needs=PROXIED)
def test_a_layer_that_does_not_fit_is_not_used(behind):
    """Rejects: the first answer of the back end taken unseen."""
    snapshotter, ctx, backend = behind.snapshotter, behind.ctx, behind.backend
    committed(snapshotter, ctx, "base")
    base = backend.names()[0]
    backend.add("active", kind=pb.ACTIVE, labels={REF: "T1"})
    backend.add("elsewhere", parent=base, labels={REF: "T1"})
    backend.add("another", labels={REF: "T2"})
    backend.add("unlabelled")
    backend.has_layers = True

    with pytest.raises(NotFound):
        snapshotter.prepare(ctx, "x", labels={REF: "T1", **ROOTED})
    assert names(snapshotter, ctx) == ["base"]
    # The one with the right parent fits.
    with pytest.raises(AlreadyExists):
        snapshotter.prepare(ctx, "x", "base", labels={REF: "T1", **ROOTED})
    assert snapshotter.stat(ctx, "T1").parent == "base"


@clause("SNP-103", needs=PROXIED)
def test_the_back_end_is_asked_for_the_one_layer_that_fits(remote):
    """Rejects: a search through everything that the back end has, which may be a registry."""
    with pytest.raises(AlreadyExists):
        remote.snapshotter.prepare(remote.ctx, "x", labels={REF: "T1", **ROOTED})
    (search,) = [call for call in remote.backend.asked("List") if call.request.filters]
    wanted = filters.parse(list(search.request.filters))

    def fits(target, parent):
        return wanted(lambda path: {"labels": target, "parent": parent}.get(path[0]))

    assert len(search.request.filters) == 1
    assert (fits("T1", ""), fits("T2", ""), fits("T1", "p"), fits(None, "")) == (True, False, False, False)


@clause("SNP-104", needs=PROXIED)
def test_a_back_end_that_has_a_layer_nobody_finds_is_an_error(behind):
    """Rejects: the back end's AlreadyExists passed through, so that the client believes that its key exists."""
    snapshotter, ctx = behind.snapshotter, behind.ctx
    behind.backend.has_layers = True
    for make in (snapshotter.prepare, snapshotter.view):
        with pytest.raises(Unknown):
            make(ctx, "x1", labels=ROOTED)
        with pytest.raises(NotFound):
            make(ctx, "x2", labels={REF: "T9", **ROOTED})

    assert [key for key in ("x1", "x2", "T9") if exists(snapshotter, ctx, key)] == []
    assert names(snapshotter, ctx) == []


@clause("SNP-105", needs=PROXIED)
def test_one_remote_layer_serves_several_namespaces(remote):
    """Rejects: a layer that only the first namespace gets, or that goes when one of them lets it go."""
    snapshotter, backend = remote.snapshotter, remote.backend
    other = remote.namespace("rem2")
    for ctx in (remote.ctx, other):
        with pytest.raises(AlreadyExists):
            snapshotter.prepare(ctx, "x", labels={REF: "T1", **ROOTED})
        assert snapshotter.stat(ctx, "T1").kind is Kind.COMMITTED

    snapshotter.remove(remote.ctx, "T1")
    remote.collect()
    assert backend.names() == ["back-T1"]
    assert exists(snapshotter, other, "T1")
    snapshotter.remove(other, "T1")
    remote.collect()
    assert backend.names() == []


@clause("SNP-106", needs=PROXIED)
def test_the_back_end_gets_namespace_number_and_key(behind):
    """Rejects: a key that the back end sees twice, so that a late removal of the old one hits the new one."""
    snapshotter, ctx, backend = behind.snapshotter, behind.ctx, behind.backend
    snapshotter.prepare(ctx, "k1")
    snapshotter.view(ctx, "v1")
    snapshotter.commit(ctx, "c1", "k1")
    seen = [*behind.keys("Prepare"), *behind.keys("View"), *behind.keys("Commit")]
    assert seen == ["rem/1/k1", "rem/2/v1", "rem/1/k1"]
    assert behind.keys("Commit", lambda request: request.name) == ["rem/3/c1"]

    snapshotter.prepare(ctx, "k", "c1")
    snapshotter.remove(ctx, "k")
    snapshotter.prepare(ctx, "k", "c1")
    backend.fails["Prepare"] = backend.fails["Commit"] = grpc.StatusCode.UNAVAILABLE
    for call in (lambda: snapshotter.prepare(ctx, "f"), lambda: snapshotter.commit(ctx, "c2", "k")):
        with pytest.raises(Unavailable):
            call()
    backend.fails.clear()
    snapshotter.commit(ctx, "c2", "k")
    snapshotter.prepare(behind.namespace("rem2"), "k")

    assert behind.keys("Prepare")[1:] == ["rem/4/k", "rem/5/k", "rem/6/f", "rem2/1/k"]
    assert backend.asked("Prepare")[1].request.parent == "rem/3/c1"
    assert behind.keys("Commit", lambda request: request.name)[-1] == "rem/7/c2"
    assert names(snapshotter, ctx) == ["c1", "c2", "v1"], "clients never see these names"


@clause("SNP-107", needs=PROXIED)
def test_a_back_end_is_told_its_own_name_and_no_lease(behind):
    """Rejects: a lease that leaves the daemon, or a storage pass in the name of some client."""
    snapshotter, ctx, backend = behind.snapshotter, behind.ctx, behind.backend
    snapshotter.prepare(ctx, "k")
    snapshotter.stat(ctx, "k")
    told = list(backend.calls)
    snapshotter.remove(ctx, "k")
    backend.clear()
    behind.collect()
    passed = list(backend.calls)

    assert {call.method for call in passed} == set(STORAGE)
    assert {call.request.snapshotter for call in (*told, *passed)} == {ID}
    assert [call for call in (*told, *passed) if "containerd-lease" in call.headers] == []
    assert {call.headers.get("containerd-namespace", "rem") for call in told} == {"rem"}
    assert [call for call in passed if "containerd-namespace" in call.headers] == []


CODES = {
    grpc.StatusCode.NOT_FOUND: (NotFound,),
    grpc.StatusCode.INVALID_ARGUMENT: (InvalidArgument,),
    grpc.StatusCode.FAILED_PRECONDITION: (FailedPrecondition,),
    grpc.StatusCode.UNAVAILABLE: (Unavailable,),
    grpc.StatusCode.UNIMPLEMENTED: (Unimplemented,),
    # 1.6 knows no kinds for these.
    grpc.StatusCode.INTERNAL: (Unknown, Internal),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (Unknown, ResourceExhausted),
}


@clause("SNP-108", needs=PROXIED)
def test_errors_of_the_back_end_reach_the_client_as_what_they_are(behind):
    """Rejects: every failure made Unknown, or a key that is lost with a commit that failed."""
    snapshotter, ctx, backend = behind.snapshotter, behind.ctx, behind.backend
    snapshotter.prepare(ctx, "a")
    for code, kinds in CODES.items():
        backend.fails = {"Prepare": code, "Commit": code}
        for call in (lambda: snapshotter.prepare(ctx, "x"), lambda: snapshotter.commit(ctx, "c", "a")):
            with pytest.raises(ContainerdError) as failure:
                call()
            assert type(failure.value) in kinds, f"{code.name} became {type(failure.value).__name__}"
        assert snapshotter.stat(ctx, "a").kind is Kind.ACTIVE, code.name
        assert names(snapshotter, ctx) == ["a"]

    backend.fails = {}
    snapshotter.commit(ctx, "c", "a")


@clause("SNP-109", needs=PROXIED)
def test_a_back_end_that_is_away_is_unavailable_and_may_come_back(behind, subject):
    """Rejects: a daemon that blocks, that fails for other snapshotters too, or that never asks again."""
    snapshotter, ctx, backend = behind.snapshotter, behind.ctx, behind.backend
    other = behind.instance.snapshotter(subject.snapshotters[0])
    snapshotter.prepare(ctx, "k")
    backend.stop()

    for call in (lambda: snapshotter.stat(ctx, "k"), lambda: snapshotter.prepare(ctx, "x")):
        with pytest.raises(Unavailable):
            call()
    other.prepare(ctx, "works")
    backend.start()
    assert eventually(lambda: _answers(snapshotter, ctx)), "the back end is there again and is not asked"
    assert snapshotter.stat(ctx, "k").kind is Kind.ACTIVE


def _answers(snapshotter, ctx):
    try:
        snapshotter.stat(ctx, "k")
    except Unavailable:
        return False
    return True


@clause("SNP-115", needs=PROXIED)
def test_a_key_that_a_broken_commit_leaves_behind_can_be_removed(behind):
    """Rejects: a key that is neither there nor free, for ever.

    The back end commits and the answer is lost: as when the daemon dies between its two databases.
    """
    snapshotter, ctx, backend = behind.snapshotter, behind.ctx, behind.backend
    snapshotter.prepare(ctx, "k")
    backend.breaks.add("Commit")
    with pytest.raises(Unavailable):
        snapshotter.commit(ctx, "c", "k")
    backend.breaks.clear()

    if names(snapshotter, ctx) == []:
        for call in (lambda: snapshotter.stat(ctx, "k"), lambda: snapshotter.mounts(ctx, "k")):
            with pytest.raises(NotFound):
                call()
        with pytest.raises(AlreadyExists):
            snapshotter.prepare(ctx, "k")
    snapshotter.remove(ctx, "k")
    snapshotter.prepare(ctx, "k")
    behind.collect()
    assert [name for name in backend.names() if name.endswith("/c")] == [], "what was half committed is pruned"
    assert names(snapshotter, ctx) == ["k"]
