"""Snapshots, what keeps them and what takes them: roots, leases, references, targets (SNP-086 to SNP-101, SNP-121)."""

# ruff: noqa: F401  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import pytest

from conformance import clause
from conformance.suites._snapshots import (
    REF,
    ROOTED,
    committed,
    exists,
    held,
    layers,  # a fixture
    names,
    paths,
    send,
)
from refimpl.api import snapshots_v1_pb2 as pb
from refimpl.contract.containers import Container, RuntimeInfo
from refimpl.contract.errors import AlreadyExists, FailedPrecondition, NotFound
from refimpl.contract.leases import Resource
from refimpl.contract.snapshots import Info, Kind
from refimpl.contract.types import TypedAny

FLAT = "containerd.io/gc.flat"


@pytest.fixture
def id(subject):
    """The snapshotter's id, as labels and leases write it."""
    return subject.snapshotters[0]


def _reference(id, name=""):
    return f"containerd.io/gc.ref.snapshot.{id}{name}"


@clause("SNP-086")
def test_what_nothing_refers_to_is_collected_whatever_its_kind(unleased, snapshotter, leases, collect):
    """Rejects: a collector that takes committed snapshots only, or that stumbles over a parent with a dead child."""
    ctx = unleased
    snapshotter.prepare(ctx, "kept", labels=ROOTED)
    with held(leases, ctx) as under:
        committed(snapshotter, under, "base")
        committed(snapshotter, under, "mid", "base")
        snapshotter.prepare(under, "active", "mid")
        snapshotter.view(under, "view", "mid")
        collect(ctx)
        assert names(snapshotter, ctx) == ["active", "base", "kept", "mid", "view"]
    collect(ctx)

    assert names(snapshotter, ctx) == ["kept"]
    assert not exists(snapshotter, ctx, "active")


@clause("SNP-087")
@pytest.mark.parametrize("value", ["x", "2001-01-01T00:00:00Z", "false"])
def test_a_root_label_of_any_value_keeps_a_snapshot(unleased, snapshotter, collect, value):
    """Rejects: a value that is parsed as a time or a truth, and does not count if it is none."""
    snapshotter.prepare(unleased, "k", labels={"containerd.io/gc.root": value})
    collect(unleased)
    assert names(snapshotter, unleased) == ["k"]

    snapshotter.update(unleased, Info("k"))
    collect(unleased)
    assert names(snapshotter, unleased) == []


@clause("SNP-087")
def test_an_empty_root_label_keeps_nothing(unleased, snapshotter, leases, collect):
    """Rejects: a look for the key alone."""
    with held(leases, unleased) as under:
        snapshotter.prepare(under, "k", labels={"containerd.io/gc.root": ""})
    collect(unleased)

    assert names(snapshotter, unleased) == []


@clause("SNP-088")
def test_a_kept_snapshot_keeps_its_ancestors(unleased, snapshotter, leases, collect):
    """Rejects: parents without a label of their own that are collected under a living child."""
    ctx = unleased
    with held(leases, ctx) as under:
        committed(snapshotter, under, "b")
        committed(snapshotter, under, "c", "b")
        snapshotter.prepare(under, "d", "c", ROOTED)
    collect(ctx)
    assert names(snapshotter, ctx) == ["b", "c", "d"]

    snapshotter.update(ctx, Info("d"))
    collect(ctx)
    assert names(snapshotter, ctx) == []


@clause("SNP-089")
def test_a_lease_keeps_what_is_made_under_it(unleased, snapshotter, leases, collect, id):
    """Rejects: a lease that still names the key when its snapshot has another name, which then is collected."""
    ctx = unleased
    with held(leases, ctx) as under:
        snapshotter.prepare(under, "active")
        snapshotter.view(under, "view")
        snapshotter.prepare(under, "x")
        snapshotter.commit(under, "c", "x")

        resources = leases.list_resources(ctx, under.lease)
        assert resources == [Resource(key, f"snapshots/{id}") for key in ("active", "c", "view")]
        collect(ctx)
        assert names(snapshotter, ctx) == ["active", "c", "view"]
    assert names(snapshotter, ctx) == []


@clause("SNP-090")
def test_nothing_is_made_under_a_lease_that_does_not_exist(ctx, snapshotter):
    """Rejects: a lease that is passed over, so that the snapshot is collected at once."""
    snapshotter.prepare(ctx, "a")
    before = list(snapshotter.walk(ctx))
    astray = ctx.with_lease("no-such-lease")

    for call in (
        lambda: snapshotter.prepare(astray, "m"),
        lambda: snapshotter.view(astray, "m"),
        lambda: snapshotter.commit(astray, "m", "a"),
    ):
        with pytest.raises(NotFound):
            call()
    assert list(snapshotter.walk(ctx)) == before


@clause("SNP-091")
def test_a_lease_may_name_what_is_no_longer_there(unleased, snapshotter, leases, collect, id):
    """Rejects: a collector that fails at such an entry; whether the entry stays is free."""
    ctx = unleased
    with held(leases, ctx) as under:
        snapshotter.prepare(under, "k")
        snapshotter.prepare(under, "other")
        snapshotter.remove(ctx, "k")

        found = {resource.id for resource in leases.list_resources(ctx, under.lease)}
        assert "other" in found <= {"k", "other"}
        collect(ctx)
        assert names(snapshotter, ctx) == ["other"]
    assert names(snapshotter, ctx) == []


@clause("SNP-092")
@pytest.mark.parametrize("call", ["prepare", "view", "target", "commit"])
def test_a_refused_creation_may_take_what_is_there_into_the_lease(ctx, snapshotter, leases, id, call):
    """Rejects: an entry for a key that does not exist."""
    committed(snapshotter, ctx, "c")
    snapshotter.prepare(ctx, "x")
    with held(leases, ctx.with_lease("")) as under:
        calls = {
            "prepare": lambda: snapshotter.prepare(under, "c"),
            "view": lambda: snapshotter.view(under, "c"),
            "target": lambda: snapshotter.prepare(under, "t", labels={REF: "c"}),
            "commit": lambda: snapshotter.commit(under, "c", "x"),
        }
        with pytest.raises(AlreadyExists):
            calls[call]()
        found = leases.list_resources(under, under.lease)
        assert found in ([], [Resource("c", f"snapshots/{id}")])
    if not found:
        pytest.skip("the lease was left alone, as before 2.x")


@clause("SNP-093")
@pytest.mark.parametrize("suffix", ["", "/x", "/a/b"])
def test_a_reference_label_keeps_a_snapshot(unleased, snapshotter, leases, collect, id, suffix):
    """Rejects: what follows the slash taken as part of the snapshotter's name."""
    ctx = unleased
    with held(leases, ctx) as under:
        snapshotter.prepare(under, "target")
        snapshotter.prepare(under, "holder", labels={**ROOTED, _reference(id, suffix): "target"})
    collect(ctx)
    assert names(snapshotter, ctx) == ["holder", "target"]

    snapshotter.remove(ctx, "holder")
    collect(ctx)
    assert names(snapshotter, ctx) == []


@clause("SNP-094")
def test_a_container_keeps_its_snapshot(unleased, snapshotter, leases, containers, collect, id):
    """Rejects: a collector that follows labels only."""
    ctx = unleased
    with held(leases, ctx) as under:
        snapshotter.prepare(under, "root-of-c")
        spec = TypedAny("types.containerd.io/opencontainers/runtime-spec/1/Spec", b"{}")
        record = Container("c", runtime=RuntimeInfo("none"), spec=spec, snapshotter=id, snapshot_key="root-of-c")
        containers.create(ctx, record)
    collect(ctx)
    assert names(snapshotter, ctx) == ["root-of-c"]

    containers.delete(ctx, "c")
    collect(ctx)
    assert names(snapshotter, ctx) == []


@clause("SNP-095")
def test_a_flat_lease_keeps_parents_and_follows_no_labels(unleased, snapshotter, leases, collect, id):
    """Rejects: a flat lease that drops the parents of what it holds, or that is not flat."""
    ctx = unleased
    with held(leases, ctx, **{FLAT: "1"}) as flat:
        with held(leases, ctx) as under:
            snapshotter.prepare(under, "referred")
            committed(snapshotter, under, "fl1")
            snapshotter.prepare(flat, "fl2", "fl1", {_reference(id): "referred"})
        collect(ctx)
        assert names(snapshotter, ctx) == ["fl1", "fl2"]
        assert [resource.id for resource in leases.list_resources(ctx, flat.lease)] == ["fl2"]
    assert names(snapshotter, ctx) == []


@clause("SNP-099")
def test_cleanup_is_not_offered_to_clients(ctx, wire, subject, snapshotters):
    """Rejects: a clean-up through the daemon, whatever it would delete."""
    for id in subject.snapshotters:
        snapshotters(id).prepare(ctx, "k")
        answer = send(wire, ctx, "Cleanup", pb.CleanupRequest(snapshotter=id))
        assert answer.code == "UNIMPLEMENTED", id
        assert snapshotters(id).mounts(ctx, "k")


@clause("SNP-100")
@pytest.mark.parametrize("make", ["prepare", "view"])
@pytest.mark.parametrize("kind", ["committed", "active"])
def test_a_target_that_is_there_refuses_the_creation(ctx, snapshotter, make, kind):
    """Rejects: a snapshot that is made although the layer that it was for is there."""
    if kind == "committed":
        committed(snapshotter, ctx, "T")
    else:
        snapshotter.prepare(ctx, "T")
    before = list(snapshotter.walk(ctx))

    with pytest.raises(AlreadyExists) as refusal:
        getattr(snapshotter, make)(ctx, "k", labels={REF: "T"})
    assert "T" in str(refusal.value), "the target is named, not the key"
    assert list(snapshotter.walk(ctx)) == before


@clause("SNP-101")
@pytest.mark.parametrize("target", ["not-there", "k"])
def test_an_unknown_target_is_a_label_like_any_other(ctx, snapshotter, target):
    """Rejects: a call that waits for a remote layer, or fails for want of one."""
    mounts = snapshotter.prepare(ctx, "k", labels={REF: target})
    info = snapshotter.stat(ctx, "k")

    assert mounts
    assert (info.kind, info.labels[REF]) == (Kind.ACTIVE, target)


def _rebase(wire, ctx, name, key, parent):
    request = pb.CommitSnapshotRequest(snapshotter="overlayfs", name=name, key=key, parent=parent)
    return send(wire, ctx, "Commit", request).code


@clause("SNP-121", needs={"wire", "overlayfs"})
def test_a_parent_given_to_commit_is_stacked_or_ignored(ctx, wire, snapshotters):
    """Rejects: a parent that is written down without the layers being stacked, or without being protected.

    Before 2.x the field does not exist and is passed over; then nothing of it may show.
    """
    snapshotter = snapshotters("overlayfs")
    committed(snapshotter, ctx, "c")
    below = snapshotter.view(ctx, "look-c", "c")
    snapshotter.prepare(ctx, "rb")
    own = snapshotter.mounts(ctx, "rb")[-1].source
    assert _rebase(wire, ctx, "rbc", "rb", "c") == "OK"

    snapshotter.remove(ctx, "look-c")
    parent = snapshotter.stat(ctx, "rbc").parent
    if parent:
        assert parent == "c"
        mounts = snapshotter.view(ctx, "look", "rbc")
        lower = [o.removeprefix("lowerdir=") for o in mounts[-1].options if o.startswith("lowerdir=")]
        assert lower == [f"{own}:{below[-1].source}"], "the layer lies above its new parent"
        with pytest.raises(FailedPrecondition):
            snapshotter.remove(ctx, "c")
        snapshotter.prepare(ctx, "rb3")
        snapshotter.prepare(ctx, "open")
        assert _rebase(wire, ctx, "x", "rb3", "nope") == "NOT_FOUND"
        assert _rebase(wire, ctx, "x", "rb3", "open") == "FAILED_PRECONDITION"
        assert snapshotter.stat(ctx, "rb3").kind is Kind.ACTIVE
    else:
        snapshotter.remove(ctx, "c")
        assert snapshotter.view(ctx, "look", "rbc")[-1].source == own, "nothing is stacked on nothing"
        committed(snapshotter, ctx, "c")
    # Who has a parent already keeps it.
    snapshotter.prepare(ctx, "rb2", "c")
    committed(snapshotter, ctx, "other")
    assert _rebase(wire, ctx, "rb2c", "rb2", "other") == "OK"
    assert snapshotter.stat(ctx, "rb2c").parent == "c"
