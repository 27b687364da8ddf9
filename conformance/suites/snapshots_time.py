"""Snapshots, events, restarts, and many callers at once (SNP-110 to SNP-120)."""

# ruff: noqa: F401  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import threading
from collections import Counter
from functools import partial

import pytest

from conformance import clause
from conformance.suites._snapshots import (
    PATIENCE,
    ROOTED,
    SEVERAL,
    at_once,
    committed,
    decoded,
    exists,
    held,
    layers,  # a fixture
    listening,
    names,
    outcome,
    writable,
)
from refimpl.api import event_types_pb2 as pb
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError, NotFound, Unavailable
from refimpl.contract.snapshots import Info, Kind


def _told(heard):
    return [(envelope.topic, envelope.event.type_url) for envelope in heard]


@clause("SNP-110")
def test_prepare_commit_and_remove_are_told(ctx, snapshotter, events):
    """Rejects: keys of the storage's own in events, another order, or a call that is not told."""
    committed(snapshotter, ctx, "p")
    with listening(events, ctx) as heard:
        snapshotter.prepare(ctx, "a", "p")
        snapshotter.commit(ctx, "c", "a")
        snapshotter.prepare(ctx, "x")
        snapshotter.remove(ctx, "x")
        found = heard.all()

    prepare, commit, remove = (
        ("/snapshot/prepare", "containerd.events.SnapshotPrepare"),
        ("/snapshot/commit", "containerd.events.SnapshotCommit"),
        ("/snapshot/remove", "containerd.events.SnapshotRemove"),
    )
    assert _told(found) == [prepare, commit, prepare, remove]
    assert {envelope.namespace for envelope in found} == {ctx.namespace}
    first = decoded(found[0], pb.SnapshotPrepare)
    assert (first.key, first.parent) == ("a", "p")
    second = decoded(found[1], pb.SnapshotCommit)
    assert (second.key, second.name) == ("a", "c")
    third = decoded(found[2], pb.SnapshotPrepare)
    assert (third.key, third.parent) == ("x", "")
    assert decoded(found[3], pb.SnapshotRemove).key == "x"


@clause("SNP-111")
def test_other_calls_and_failed_ones_are_not_told(ctx, snapshotter, events):
    """Rejects: a view told as a prepare, or an event for what did not happen."""
    committed(snapshotter, ctx, "p")
    snapshotter.prepare(ctx, "a", "p")
    with listening(events, ctx) as heard:
        snapshotter.view(ctx, "v", "p")
        snapshotter.update(ctx, Info("v", labels={"l": "1"}))
        snapshotter.stat(ctx, "v")
        snapshotter.mounts(ctx, "a")
        snapshotter.usage(ctx, "a")
        assert names(snapshotter, ctx) == ["a", "p", "v"]
        for refused in (
            lambda: snapshotter.prepare(ctx, "a"),
            lambda: snapshotter.prepare(ctx, "b", "nope"),
            lambda: snapshotter.commit(ctx, "p", "a"),
            lambda: snapshotter.remove(ctx, "p"),
            lambda: snapshotter.remove(ctx, "nope"),
        ):
            with pytest.raises(ContainerdError):
                refused()
        assert _told(heard.all()) == []


@clause("SNP-112")
def test_a_collected_snapshot_is_told_once_or_not_at_all(unleased, snapshotter, leases, events, collect):
    """Rejects: an event for what was kept, or several for one snapshot; whether there is one depends on the release."""
    ctx = unleased
    with listening(events, ctx) as heard:
        snapshotter.prepare(ctx, "kept", labels=ROOTED)
        with held(leases, ctx) as under:
            snapshotter.prepare(under, "k")
        collect(ctx)
        assert names(snapshotter, ctx) == ["kept"]
        found = [envelope for envelope in heard.all() if envelope.topic != "/snapshot/prepare"]
    assert {envelope.topic for envelope in found} <= {"/snapshot/remove"}
    assert [decoded(envelope, pb.SnapshotRemove).key for envelope in found] in ([], ["k"])


def _memory(snapshotter, ctx):
    """All that can be known of the snapshots of a namespace, without mounting them."""
    infos = list(snapshotter.walk(ctx))
    mounts = {info.name: snapshotter.mounts(ctx, info.name) for info in infos if info.kind is not Kind.COMMITTED}
    usage = {info.name: snapshotter.usage(ctx, info.name) for info in infos if info.kind is Kind.COMMITTED}
    return infos, mounts, usage


@clause("SNP-113", "SNP-034")
def test_everything_is_the_same_after_a_restart(own, subject):
    """Rejects: times cut to the second, views that are dropped, mounts that are put together anew."""
    instance, ctx = own(), CallContext(namespace="ns")
    before = {}
    for id in instance.snapshotters:
        snapshotter = instance.snapshotter(id)
        ctx = ctx.with_lease(f"l-{id}")
        instance.leases.create(ctx, ctx.lease)
        committed(snapshotter, ctx, "base", **{"containerd.io/snapshot/l": "1"})
        committed(snapshotter, ctx, "mid", "base")
        snapshotter.prepare(ctx, "active", "mid", {"plain": "1"})
        snapshotter.prepare(ctx, "alone")
        snapshotter.view(ctx, "view", "mid")
        before[id] = _memory(snapshotter, ctx)
    instance.restart()

    for id, memory in before.items():
        assert _memory(instance.snapshotter(id), ctx) == memory, id


@clause("SNP-114")
def test_what_was_acknowledged_survives_a_kill(own, subject):
    """Rejects: changes that are kept in memory and written at the end."""
    instance, ctx, id = own(), CallContext(namespace="ns"), subject.snapshotters[0]
    snapshotter = instance.snapshotter(id)
    ctx = ctx.with_lease("l")
    instance.leases.create(ctx, "l")
    for n in range(30):
        snapshotter.prepare(ctx, f"k{n}", labels=ROOTED)
        if n % 3 == 0:
            snapshotter.commit(ctx, f"c{n}", f"k{n}", ROOTED)
        elif n % 5 == 0:
            snapshotter.remove(ctx, f"k{n}")
        else:
            snapshotter.update(ctx, Info(f"k{n}", labels={**ROOTED, "n": str(n)}))
    snapshotter.view(ctx, "v", "c0", ROOTED)
    before = _memory(snapshotter, ctx)
    instance.restart(kill=True)

    assert _memory(instance.snapshotter(id), ctx) == before


@clause("SNP-114", needs={"config", "kill"})
def test_a_kill_in_the_middle_costs_at_most_the_call_under_way(own, subject):
    """Rejects: a daemon that answers before the change is safe."""
    instance, ctx, id = own(), CallContext(namespace="ns"), subject.snapshotters[0]
    snapshotter = instance.snapshotter(id)
    acknowledged: dict[str, Kind | None] = {}
    under_way: list[str] = []
    started = threading.Event()

    def change(call, *keys, **state):
        """Make a call; ``state`` is what it leaves of each key, if it comes back."""
        under_way[:] = keys
        call()
        acknowledged.update(state)

    def work():
        for n in range(10_000):
            key, name = f"k{n}", f"c{n}"
            try:
                change(partial(snapshotter.prepare, ctx, key, labels=ROOTED), key, **{key: Kind.ACTIVE})
                if n % 3 == 0:
                    commit = partial(snapshotter.commit, ctx, name, key, ROOTED)
                    change(commit, key, name, **{key: None, name: Kind.COMMITTED})
                elif n % 5 == 0:
                    change(partial(snapshotter.remove, ctx, key), key, **{key: None})
            except ContainerdError:
                return
            if n == 20:
                started.set()

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    assert started.wait(20)
    instance.restart(kill=True)
    worker.join(20)
    assert not worker.is_alive()

    snapshotter = instance.snapshotter(id)
    found = {info.name: info.kind for info in snapshotter.walk(ctx)}
    wrong = {key for key in {*found, *acknowledged} if found.get(key) != acknowledged.get(key)}
    assert wrong <= set(under_way), "more than the call under way was lost"
    for key, kind in found.items():
        if kind is Kind.ACTIVE:
            assert snapshotter.mounts(ctx, key), key
            assert snapshotter.usage(ctx, key) is not None, "its storage is there"


@clause("SNP-116")
def test_one_caller_wins_a_key(ctx, snapshotter):
    """Rejects: two callers that get the same mounts."""
    makers = [snapshotter.prepare, snapshotter.view] * (SEVERAL // 2)
    outcomes = at_once([partial(make, ctx, "x") for make in makers])

    assert Counter(outcomes) == {"ok": 1, "AlreadyExists": SEVERAL - 1}
    assert names(snapshotter, ctx) == ["x"]


@clause("SNP-117")
def test_one_caller_wins_a_name(ctx, snapshotter):
    """Rejects: a name that ends up with the storage of two, or an active snapshot lost by the loser."""
    for n in range(SEVERAL):
        snapshotter.prepare(ctx, f"k{n:02}")
    outcomes = at_once([partial(snapshotter.commit, ctx, "name", f"k{n:02}") for n in range(SEVERAL)])

    assert Counter(outcomes) == {"ok": 1, "AlreadyExists": SEVERAL - 1}
    winner = outcomes.index("ok")
    assert names(snapshotter, ctx) == [f"k{n:02}" for n in range(SEVERAL) if n != winner] + ["name"]
    assert {info.kind for info in snapshotter.walk(ctx) if info.name != "name"} == {Kind.ACTIVE}


@clause("SNP-117")
def test_an_active_snapshot_gets_one_name(ctx, snapshotter):
    """Rejects: two names for the same storage."""
    snapshotter.prepare(ctx, "k")
    outcomes = at_once([partial(snapshotter.commit, ctx, f"name{n:02}", "k") for n in range(SEVERAL)])

    assert Counter(outcomes) == {"ok": 1, "NotFound": SEVERAL - 1}
    assert names(snapshotter, ctx) == [f"name{outcomes.index('ok'):02}"]


@clause("SNP-117")
def test_a_snapshot_is_removed_once(ctx, snapshotter):
    """Rejects: several callers that are all told that they removed it."""
    snapshotter.prepare(ctx, "k")
    outcomes = at_once([partial(snapshotter.remove, ctx, "k")] * SEVERAL)

    assert Counter(outcomes) == {"ok": 1, "NotFound": SEVERAL - 1}


@clause("SNP-118")
def test_snapshots_made_at_once_do_not_share_storage(ctx, snapshotter):
    """Rejects: a number that is read and increased without a lock."""
    committed(snapshotter, ctx, "base")
    answers = {}

    def make(n):
        answers[n] = writable(snapshotter.prepare(ctx, f"k{n}", "base"))

    assert set(at_once([partial(make, n) for n in range(32)])) == {"ok"}
    assert len(set(answers.values())) == 32


@clause("SNP-119")
def test_a_parent_does_not_vanish_under_a_new_child(ctx, snapshotter):
    """Rejects: a removal and a creation that both succeed."""
    for n in range(12):
        parent = committed(snapshotter, ctx, f"parent{n}")
        outcomes = at_once(
            [partial(snapshotter.remove, ctx, parent)] * 4
            + [partial(snapshotter.prepare, ctx, f"child{n}-{i}", parent) for i in range(4)]
        )
        removals, creations = Counter(outcomes[:4]), Counter(outcomes[4:])

        if removals["ok"]:
            assert removals == {"ok": 1, "NotFound": 3} or removals["FailedPrecondition"]
            assert creations["ok"] == 0, "a child stands on what was removed"
        else:
            assert removals == {"FailedPrecondition": 4}
            assert creations["ok"] > 0
        assert exists(snapshotter, ctx, parent) == (not removals["ok"])


@clause("SNP-119")
def test_a_removal_that_comes_second_is_refused(ctx, snapshotter):
    """Rejects: a removal that counted the children before the last one came."""
    for n in range(6):
        parent = committed(snapshotter, ctx, f"parent{n}")
        begun = threading.Event()

        def create(parent=parent, begun=begun, n=n):
            begun.set()
            snapshotter.prepare(ctx, f"child{n}", parent)

        def remove(parent=parent, begun=begun):
            # A moment later than the creation, so that the creation wins now and then.
            begun.wait(PATIENCE)
            snapshotter.remove(ctx, parent)

        created, removed = at_once([create, remove])
        child = exists(snapshotter, ctx, f"child{n}")
        assert (created, removed) in {("ok", "FailedPrecondition"), ("NotFound", "ok")}
        assert (child, exists(snapshotter, ctx, parent)) == (created == "ok", removed != "ok")


@clause("SNP-120")
def test_snapshots_are_made_while_the_collector_runs(ctx, snapshotter, mounted, collect):
    """Rejects: a clean-up that takes the storage of a snapshot whose record is not there yet."""
    done = threading.Event()
    rounds, failures = [], []

    def run():
        try:
            while not done.is_set():
                collect(ctx.with_lease(""))
                rounds.append(1)
        # Told by the check, whatever it is.
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    collector = threading.Thread(target=run, daemon=True)
    collector.start()
    try:
        n = 0
        while n < 20 or (len(rounds) < 8 and not failures and n < 500):
            key = f"k{n}"
            mounts = snapshotter.prepare(ctx, key, labels=ROOTED)
            # Something to clean up in each round.
            snapshotter.prepare(ctx, f"{key}-other")
            snapshotter.remove(ctx, f"{key}-other")
            assert snapshotter.mounts(ctx, key) == mounts
            with mounted(mounts) as root:
                root.write("f", b"1")
            snapshotter.remove(ctx, key)
            n += 1
    finally:
        done.set()
        collector.join(PATIENCE)
    assert failures == []
    assert rounds
