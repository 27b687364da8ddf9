"""Metadata: one store of records for all namespaces, as its clients see it (MET-002, MET-025 to 030, 034 to 059)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from conformance import clause
from conformance.suites._content import digest_of, fresh, store
from conformance.suites._events import listen, opened
from conformance.suites._metadata import ME, PLUGIN, TYPE, UNSERVED, container, image, kind, sharing, told, unserved
from conformance.suites._snapshots import committed
from conformance.suites._tasks import PATIENCE, Later, together
from refimpl.contract.containers import Container
from refimpl.contract.content import Info
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unknown,
)
from refimpl.contract.namespaces import Namespace

NO_CHECK: dict[str, str] = {
    "MET-053": "it is about a key of containerd 2.x, and no daemon of that version was there to hold a check against",
}
"""Clauses of the whole area that no check decides, and why."""

INVALID_ARGUMENT = 3
"""The gRPC code."""

SEVERAL = 16
"""Callers in a race."""


def _listed(namespaces, ctx):
    return {found.name for found in namespaces.list(ctx)}


# ---------------------------------------------------------------------------------------------------------- the plugin


@clause("MET-002")
def test_the_plugin_tells_its_policy_and_its_file(subject):
    """Rejects: exports that are missing."""
    found = told(subject)

    assert (found.id, found.init_err) == ("bolt", None)
    assert {"policy", "path"} <= set(found.exports)
    assert found.exports["policy"] == "shared"
    assert found.exports["path"].endswith(f"{PLUGIN}/meta.db")
    assert {"io.containerd.content.v1", "io.containerd.snapshotter.v1"} <= set(found.requires)


@clause("MET-002", "MET-047", needs={"config"})
@pytest.mark.parametrize("policy, effective", [("shared", "shared"), ("isolated", "isolated"), ("", "shared")])
def test_the_policy_that_is_told_is_the_one_in_effect(own, policy, effective):
    """Rejects: one policy whatever the configuration says."""
    found = told(own(config=sharing(policy)))
    assert (found.init_err, found.exports["policy"]) == (None, effective)


@clause("MET-047", needs={"config"})
@pytest.mark.parametrize("policy", ["bogus", "Shared", "shared "])
def test_an_unknown_policy_is_refused(own, policy):
    """Rejects: shared in the place of what nobody knows."""
    instance = own(config=sharing(policy))
    error = told(instance).init_err
    assert error.code == INVALID_ARGUMENT
    assert "unknown policy" in error.message
    assert unserved(instance) == UNSERVED


@clause("MET-050", needs={"config"})
def test_without_the_database_the_daemon_runs_almost_empty(own):
    """Rejects: a daemon that ends, and one that keeps records nobody knows where."""
    instance = own(config=f'disabled_plugins = ["{PLUGIN}"]\n')
    assert instance.introspection.plugins(CallContext(), [f"type=={TYPE}"]) == []
    assert unserved(instance) == UNSERVED
    assert instance.introspection.plugins(CallContext())


# -------------------------------------------------------------------------------------------------------- transactions


@clause("MET-025")
def test_a_creation_that_fails_makes_no_namespace(new_namespace, containers, namespaces):
    """Rejects: a namespace that is made first and stays."""
    ctx = new_namespace(lease=False)
    assert kind(lambda: containers.create(ctx, container("c", labels={"": "value"}))) is Unknown
    assert kind(lambda: containers.create(ctx, container(""))) is InvalidArgument
    assert kind(lambda: containers.get(ctx, "c")) is NotFound
    assert ctx.namespace not in _listed(namespaces, ctx)


@clause("MET-025")
def test_a_snapshot_that_fails_makes_no_namespace(new_namespace, snapshotter, namespaces):
    """Rejects: the first of two transactions that stays although the second failed."""
    ctx = new_namespace(lease=False)
    assert kind(lambda: snapshotter.prepare(ctx, "k", "no-such-parent")) is NotFound
    assert ctx.namespace not in _listed(namespaces, ctx)


@clause("MET-025")
def test_an_update_that_fails_changes_no_field(ctx, containers):
    """Rejects: fields that are changed before the one that is refused."""
    before = containers.create(ctx, container("c", image="old", labels={"a": "1"}))
    changed = replace(before, image="new", labels={"b": "2"})
    assert kind(lambda: containers.update(ctx, changed, ["image", "labels", "bogus"])) is InvalidArgument
    assert containers.get(ctx, "c") == before


@clause("MET-027")
def test_a_read_sees_one_state(ctx, containers):
    """Rejects: fields that are written in commits of their own."""
    containers.create(ctx, container("a", labels={"x": "0", "y": "0"}))
    done = threading.Event()

    def change():
        for number in range(1, 1000):
            if done.is_set():
                return
            both = {"x": str(number), "y": str(number)}
            containers.update(ctx, container("a", labels=both), ["labels"])

    changer = threading.Thread(target=change)
    changer.start()
    try:
        seen = [containers.get(ctx, "a").labels for _ in range(300)]
    finally:
        done.set()
        changer.join()
    assert [labels for labels in seen if labels.get("x") != labels.get("y")] == []


@clause("MET-028")
def test_of_many_creations_one_succeeds(ctx, containers, listen):
    """Rejects: a look whether the id is free that is not part of the creation."""
    ear = listen('topic~="^/containers/"')
    outcomes = together(*[lambda: containers.create(ctx, container("conc"))] * SEVERAL)
    refused = [type(outcome) for outcome in outcomes if not isinstance(outcome, Container)]
    assert refused == [AlreadyExists] * (SEVERAL - 1)
    assert ear.topics() == ["/containers/create"]

    outcomes = together(*[lambda: containers.delete(ctx, "conc")] * 8)
    assert [type(outcome) for outcome in outcomes if outcome is not None] == [NotFound] * 7


@clause("MET-028")
def test_no_update_of_many_is_lost(ctx, containers):
    """Rejects: a record that is read, changed and written back in transactions of their own."""
    containers.create(ctx, container("conc"))

    def update(number):
        return lambda: containers.update(ctx, container("conc", labels={f"l{number}": "1"}), [f"labels.l{number}"])

    outcomes = together(*map(update, range(SEVERAL)))
    assert [outcome for outcome in outcomes if not isinstance(outcome, Container)] == []
    assert containers.get(ctx, "conc").labels == {f"l{number}": "1" for number in range(SEVERAL)}


@clause("MET-055")
def test_what_an_event_tells_of_is_there(ctx, events, containers):
    """Rejects: events that are told before the commit, out of order, or of calls that failed."""
    subscription = events.subscribe(ctx, [f'namespace=={ctx.namespace},topic~="^/containers/"'])
    names = [f"o{number}" for number in range(20)]

    def create():
        containers.create(ctx, container("first"))
        assert kind(lambda: containers.create(ctx, container("first"))) is AlreadyExists
        assert kind(lambda: containers.update(ctx, container("first"), ["bogus"])) is InvalidArgument
        assert kind(lambda: containers.delete(ctx, "unknown")) is NotFound
        for name in names:
            containers.create(ctx, container(name))

    heard, absent = [], []
    giving_up = threading.Timer(PATIENCE, subscription.close)
    giving_up.start()
    creator = Later(create)
    try:
        for envelope in subscription:
            heard.append((envelope.topic, opened(envelope).id))
            absent += [heard[-1][1]] if kind(lambda: containers.get(ctx, heard[-1][1])) else []
            if heard[-1][1] == names[-1]:
                break
    finally:
        giving_up.cancel()
        subscription.close()
    creator.result()
    assert absent == []
    assert heard == [("/containers/create", name) for name in ["first", *names]]


@clause("MET-059", needs={"in-process", "config"})
def test_observers_learn_whether_anything_was_deleted_since_the_last_collection(own):
    """Rejects: a flag for the deleting change alone, and observers that hear of what failed."""
    instance = own(config='[plugins."io.containerd.gc.v1.scheduler"]\nmutation_threshold = 100000\n')
    heard: list[bool] = []
    instance.plugin(TYPE, "bolt").on_mutation(heard.append)
    containers = instance.containers

    containers.create(ME, container("a"))
    containers.create(ME, container("b"))
    assert heard == [False, False]
    containers.delete(ME, "a")
    containers.create(ME, container("c"))
    assert heard[2:] == [True, True]
    with pytest.raises(AlreadyExists):
        containers.create(ME, container("c"))
    with pytest.raises(NotFound):
        containers.delete(ME, "a")
    assert len(heard) == 4

    instance.plugin(TYPE, "bolt").collect(CallContext())
    assert len(heard) == 4, "a collection is no change"
    containers.create(ME, container("d"))
    assert heard[4:] == [False]


# ---------------------------------------------------------------------------------------------------------- namespaces


@clause("MET-029")
def test_reads_make_no_namespace(new_namespace, containers, leases, namespaces, content, snapshotter):
    """Rejects: a namespace for everybody who asks."""
    ctx = new_namespace(lease=False)
    assert containers.list(ctx) == []
    assert leases.list(ctx) == []
    assert list(snapshotter.walk(ctx)) == []
    assert content.list_statuses(ctx) == []
    assert kind(lambda: containers.get(ctx, "c")) is NotFound
    assert kind(lambda: containers.delete(ctx, "c")) is NotFound
    assert kind(lambda: snapshotter.remove(ctx, "k")) is NotFound
    assert ctx.namespace not in _listed(namespaces, ctx)


@clause("MET-029")
def test_the_first_change_makes_the_namespace_and_it_stays(new_namespace, containers, namespaces, collect):
    """Rejects: namespaces that have to be made by hand, and those that go with their last object."""
    ctx = new_namespace(lease=False)
    containers.create(ctx, container("c"))
    containers.delete(ctx, "c")
    collect(new_namespace(lease=False))
    assert ctx.namespace in _listed(namespaces, ctx)
    assert namespaces.get(ctx, ctx.namespace).labels == {}


@clause("MET-030")
def test_one_id_in_two_namespaces_and_in_three_kinds(new_namespace, containers, images, leases):
    """Rejects: keys without the namespace or the kind."""
    one, two = new_namespace(), new_namespace()
    containers.create(one, container("x", image="first"))
    images.create(one, image("x", digest_of(fresh())))
    leases.create(one, "x")
    containers.create(two, container("x", image="second"))

    assert [found.image for found in containers.list(one)] == ["first"]
    assert [found.image for found in containers.list(two)] == ["second"]
    assert kind(lambda: images.get(two, "x")) is NotFound
    assert "x" not in {lease.id for lease in leases.list(two)}
    containers.delete(two, "x")
    assert containers.get(one, "x").image == "first"
    containers.delete(one, "x")
    assert images.get(one, "x").name == "x"
    assert "x" in {lease.id for lease in leases.list(one)}


@clause("MET-054")
def test_the_word_version_is_no_namespace(ctx, namespaces, containers, images):
    """Rejects: the number of the schema that becomes a namespace."""
    refused = {
        kind(lambda: namespaces.create(ctx, Namespace("version"))),
        kind(lambda: namespaces.update(ctx, Namespace("version", {"a": "1"}))),
        kind(lambda: namespaces.delete(ctx, "version")),
        kind(lambda: containers.create(ctx.with_namespace("version").with_lease(""), container("c"))),
    }
    assert refused <= {Unknown, InvalidArgument}
    assert "version" not in _listed(namespaces, ctx)
    assert kind(lambda: containers.create(ctx, container("c"))) is None


@clause("MET-054", needs={"config", "restart"})
def test_the_number_of_the_schema_takes_no_harm(own):
    """Rejects: a database that does not open any more, or opens as another one."""
    instance = own()
    instance.containers.create(ME, container("before"))
    assert kind(lambda: instance.namespaces.create(ME, Namespace("version"))) in {Unknown, InvalidArgument}
    instance.restart()
    assert told(instance).init_err is None
    assert [found.id for found in instance.containers.list(ME)] == ["before"]


# ----------------------------------------------------------------------------------------------------- labels, children


@clause("MET-034")
def test_a_label_without_value_is_not_kept(ctx, containers, leases):
    """Rejects: empty labels in the record or in the answer."""
    labels = {"a": "1", "e": ""}
    assert containers.create(ctx, container("c", labels=labels)).labels == {"a": "1"}
    assert containers.get(ctx, "c").labels == {"a": "1"}
    assert leases.create(ctx, "l", labels).labels == {"a": "1"}
    assert {lease.id: lease.labels for lease in leases.list(ctx)}["l"] == {"a": "1"}


@clause("MET-034")
def test_labels_are_replaced_as_a_whole(ctx, containers, content):
    """Rejects: new labels beside the old ones."""
    containers.create(ctx, container("c", labels={"a": "1"}))
    containers.update(ctx, container("c", labels={"b": "2"}), ["labels"])
    assert containers.get(ctx, "c").labels == {"b": "2"}
    digest = store(content, ctx, fresh(), {"a": "1"})
    content.update(ctx, Info(digest, labels={"b": "2", "e": ""}), ["labels"])
    assert content.info(ctx, digest).labels == {"b": "2"}


@clause("MET-039")
def test_a_parent_stays_as_long_as_it_has_children(ctx, snapshotter):
    """Rejects: records that leave the question to the back end."""
    committed(snapshotter, ctx, "base")
    snapshotter.prepare(ctx, "kid", "base")
    with pytest.raises(FailedPrecondition, match="cannot remove snapshot with child"):
        snapshotter.remove(ctx, "base")
    snapshotter.commit(ctx, "kid2", "kid")
    with pytest.raises(FailedPrecondition, match="cannot remove snapshot with child"):
        snapshotter.remove(ctx, "base")
    snapshotter.remove(ctx, "kid2")
    snapshotter.remove(ctx, "base")


@clause("MET-040")
def test_a_parent_whose_child_was_collected_is_removed_or_refused(unleased, snapshotter, leases, collect, unique):
    """Rejects: any other outcome."""
    lease = leases.create(unleased, unique("lease")).id
    under = unleased.with_lease(lease)
    committed(snapshotter, under, "base", **{"containerd.io/gc.root": "1"})
    snapshotter.prepare(under, "kid", "base")
    leases.delete(unleased, lease, sync=True)
    info = snapshotter.stat(unleased, "base")
    assert kind(lambda: snapshotter.stat(unleased, "kid")) is NotFound

    assert kind(lambda: snapshotter.remove(unleased, "base")) in {None, FailedPrecondition}
    if kind(lambda: snapshotter.stat(unleased, "base")) is None:
        snapshotter.update(unleased, replace(info, labels={}), ["labels"])
    collect(unleased)
    assert kind(lambda: snapshotter.stat(unleased, "base")) is NotFound
