"""Snapshots by namespace: keys, parents, labels, remote layers, pruning (refimpl.metadata.snapshots, .pruning)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    AlreadyExists,
    ContainerdError,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unimplemented,
    Unknown,
)
from refimpl.contract.filters import parse
from refimpl.contract.leases import Resource
from refimpl.contract.mounts import Mount
from refimpl.contract.snapshots import Info, Kind, Usage
from refimpl.metadata.pruning import leaves_first
from tests.metadata.world import CTX, OTHER, World, make_world

REF = "containerd.io/snapshot.ref"
INHERITED = "containerd.io/snapshot/x"


@pytest.fixture
def world() -> World:
    return make_world()


def _layer(world: World, name: str, parent: str = "", ctx: CallContext = CTX) -> None:
    world.snapshots.prepare(ctx, f"{name}-work", parent)
    world.snapshots.commit(ctx, name, f"{name}-work")


def _names(world: World, ctx: CallContext = CTX, *filters: str) -> list[str]:
    return [info.name for info in world.snapshots.walk(ctx, filters)]


class TestKeys:
    def test_the_back_end_sees_namespace_number_and_key(self, world: World) -> None:
        world.snapshots.prepare(CTX, "k")
        world.snapshots.view(CTX, "v")
        world.snapshots.commit(CTX, "c", "k")
        world.snapshots.prepare(OTHER, "k")
        assert world.snapshotter.calls == [
            ("prepare", "t/1/k"),
            ("view", "t/2/v"),
            ("commit", "t/3/c", "t/1/k"),
            ("prepare", "other/1/k"),
        ]

    def test_a_failed_prepare_uses_a_number_and_a_failed_commit_does_not(self, world: World) -> None:
        world.snapshotter.failures["prepare"] = Unavailable("away")
        with pytest.raises(Unavailable):
            world.snapshots.prepare(CTX, "k")
        world.snapshotter.failures.clear()
        world.snapshots.prepare(CTX, "k")
        world.snapshotter.failures["commit"] = Internal("broken")
        with pytest.raises(Internal):
            world.snapshots.commit(CTX, "c", "k")
        world.snapshotter.failures.clear()
        world.snapshots.commit(CTX, "c", "k")
        assert world.snapshotter.calls[-1] == ("commit", "t/3/c", "t/2/k")

    def test_a_number_is_not_used_twice(self, world: World) -> None:
        for _ in range(3):
            world.snapshots.prepare(CTX, "k")
            world.snapshots.remove(CTX, "k")
        assert [call[1] for call in world.snapshotter.calls] == ["t/1/k", "t/2/k", "t/3/k"]

    @pytest.mark.parametrize("key", ["a/b", "../x", "a b", "\n\t\0", "é世", "k" * 40_000, "."])
    def test_a_key_may_be_any_text(self, world: World, key: str) -> None:
        world.snapshots.prepare(CTX, key)
        assert world.snapshots.stat(CTX, key).name == key
        assert _names(world) == [key]

    def test_an_empty_key_never_names_a_snapshot(self, world: World) -> None:
        world.snapshots.prepare(CTX, "a")
        for make in (world.snapshots.prepare, world.snapshots.view):
            with pytest.raises(Unknown, match=r"^bucket name required$"):
                make(CTX, "")
        with pytest.raises(Unknown, match=r"^bucket name required$"):
            world.snapshots.commit(CTX, "", "a")
        calls: list[Callable[[], object]] = [
            lambda: world.snapshots.stat(CTX, ""),
            lambda: world.snapshots.mounts(CTX, ""),
            lambda: world.snapshots.usage(CTX, ""),
            lambda: world.snapshots.remove(CTX, ""),
            lambda: world.snapshots.commit(CTX, "c", ""),
        ]
        for call in calls:
            with pytest.raises(NotFound):
                call()
        with pytest.raises(InvalidArgument, match=r"^invalid argument$"):
            world.snapshots.update(CTX, Info(""))
        assert [(info.name, info.kind) for info in world.snapshots.walk(CTX)] == [("a", Kind.ACTIVE)]

    def test_namespaces_and_snapshotters_are_separate_key_spaces(self, world: World) -> None:
        _layer(world, "base")
        world.metadata.snapshotters["plain"].prepare(CTX, "base")
        world.snapshots.prepare(OTHER, "base")
        with pytest.raises(NotFound):
            world.snapshots.view(OTHER, "v", "base-missing")
        with pytest.raises(NotFound):
            world.metadata.snapshotters["plain"].prepare(CTX, "child", "absent")
        assert world.snapshots.stat(OTHER, "base").kind is Kind.ACTIVE
        assert world.snapshots.stat(CTX, "base").kind is Kind.COMMITTED

    @pytest.mark.parametrize("namespace, kind", [("", FailedPrecondition), ("-", InvalidArgument)])
    def test_every_call_needs_a_valid_namespace(
        self, world: World, namespace: str, kind: type[ContainerdError]
    ) -> None:
        ctx, snapshots = CallContext(namespace), world.snapshots
        calls: list[Callable[[], object]] = [
            lambda: snapshots.stat(ctx, "k"),
            lambda: snapshots.update(ctx, Info("k")),
            lambda: snapshots.usage(ctx, "k"),
            lambda: snapshots.mounts(ctx, "k"),
            lambda: snapshots.prepare(ctx, "k"),
            lambda: snapshots.view(ctx, "k"),
            lambda: snapshots.commit(ctx, "c", "k"),
            lambda: snapshots.remove(ctx, "k"),
            lambda: snapshots.walk(ctx),
        ]
        for call in calls:
            with pytest.raises(kind):
                call()
        assert world.snapshotter.calls == []


class TestLifeCycle:
    def test_a_prepared_snapshot_has_the_record_and_the_mounts(self, world: World) -> None:
        _layer(world, "base")
        world.clock.advance(1)
        mounts = world.snapshots.prepare(CTX, "k", "base", {"a": "b", "dropped": ""})
        now = world.clock.now()
        assert world.snapshots.stat(CTX, "k") == Info("k", "base", Kind.ACTIVE, now, now, {"a": "b"})
        assert mounts == world.snapshots.mounts(CTX, "k") == [Mount("bind", "/t/3/k")]
        assert world.snapshots.usage(CTX, "k") == Usage(4096, 1)

    def test_commit_gives_a_name_new_times_and_its_own_labels(self, world: World) -> None:
        world.snapshots.prepare(CTX, "k", labels={"old": "1", INHERITED: "1"})
        world.clock.advance(3)
        world.snapshots.commit(CTX, "c", "k", {"new": "2"})
        now = world.clock.now()
        assert world.snapshots.stat(CTX, "c") == Info("c", "", Kind.COMMITTED, now, now, {"new": "2"})
        with pytest.raises(NotFound, match=r"^snapshot k does not exist: not found$"):
            world.snapshots.stat(CTX, "k")

    def test_what_is_taken_cannot_be_made_again(self, world: World) -> None:
        _layer(world, "c")
        world.snapshots.prepare(CTX, "a")
        world.snapshots.view(CTX, "v")
        before = list(world.snapshots.walk(CTX))
        for taken in ("a", "v", "c"):
            for make in (world.snapshots.prepare, world.snapshots.view):
                with pytest.raises(AlreadyExists) as caught:
                    make(CTX, taken)
                assert str(caught.value) == f'snapshot "{taken}": already exists'
            with pytest.raises(AlreadyExists):
                world.snapshots.commit(CTX, taken, "a")
        assert list(world.snapshots.walk(CTX)) == before

    def test_commit_looks_at_the_name_before_the_key(self, world: World) -> None:
        _layer(world, "c")
        with pytest.raises(AlreadyExists):
            world.snapshots.commit(CTX, "c", "missing")
        with pytest.raises(NotFound, match=r"^snapshot missing does not exist: not found$"):
            world.snapshots.commit(CTX, "d", "missing")
        assert _names(world) == ["c"]

    def test_only_an_active_snapshot_is_committed(self, world: World) -> None:
        _layer(world, "c")
        world.snapshots.view(CTX, "v")
        for key in ("v", "c"):
            with pytest.raises(FailedPrecondition):
                world.snapshots.commit(CTX, "n", key)
        assert _names(world) == ["c", "v"]

    def test_only_what_is_there_and_committed_can_be_a_parent(self, world: World) -> None:
        world.snapshots.prepare(CTX, "a")
        with pytest.raises(InvalidArgument):
            world.snapshots.prepare(CTX, "k", "a")
        with pytest.raises(NotFound, match=r"^parent snapshot k does not exist: not found$"):
            world.snapshots.prepare(CTX, "k", "k")
        assert _names(world) == ["a"]

    def test_a_parent_stays_as_long_as_something_stands_on_it(self, world: World) -> None:
        _layer(world, "base")
        world.snapshots.prepare(CTX, "k", "base")
        for _ in range(2):
            with pytest.raises(FailedPrecondition, match=r"^cannot remove snapshot with child: failed precondition$"):
                world.snapshots.remove(CTX, "base")
            if "k" in _names(world):
                world.snapshots.commit(CTX, "n", "k")
        world.snapshots.remove(CTX, "n")
        world.snapshots.remove(CTX, "base")
        assert _names(world) == []

    def test_a_committed_snapshot_with_children_cannot_be_renamed_by_committing(self, world: World) -> None:
        _layer(world, "base")
        world.snapshots.prepare(CTX, "k", "base")
        with pytest.raises(FailedPrecondition):
            world.snapshots.commit(CTX, "n", "base")
        assert world.snapshots.stat(CTX, "k").parent == "base"

    def test_removing_forgets_the_record_and_frees_the_key_at_once(self, world: World) -> None:
        world.snapshots.prepare(CTX, "k", labels={"a": "b"})
        world.snapshots.remove(CTX, "k")
        with pytest.raises(NotFound, match=r"^snapshot k does not exist: not found$"):
            world.snapshots.remove(CTX, "k")
        assert "t/1/k" in world.snapshotter.infos
        world.snapshots.view(CTX, "k")
        assert world.snapshots.stat(CTX, "k").labels == {}

    def test_a_record_that_cannot_be_made_takes_its_snapshot_along(self, world: World) -> None:
        with pytest.raises(NotFound, match=r"^lease does not exist: not found$"):
            world.snapshots.prepare(CTX.with_lease("nope"), "k")
        assert world.snapshotter.infos == {}
        assert _names(world) == []

    def test_a_key_that_is_taken_meanwhile_is_refused_and_cleaned_up(self, world: World) -> None:
        world.snapshotter.failures[("remove", "t/1/k")] = Unavailable("away")
        prepare = world.snapshotter.prepare

        def slow(*args: object, **named: object) -> list[Mount]:
            world.snapshotter.prepare = prepare  # type: ignore[method-assign]
            mounts = prepare(*args, **named)  # type: ignore[arg-type]
            threading.Thread(target=world.snapshots.prepare, args=(CTX, "k")).run()
            return mounts

        world.snapshotter.prepare = slow  # type: ignore[method-assign]
        with pytest.raises(AlreadyExists, match="already exists"):
            world.snapshots.prepare(CTX, "k")
        assert world.snapshots.mounts(CTX, "k") == [Mount("bind", "/t/2/k")]

    def test_a_parent_that_is_replaced_meanwhile_is_refused(self, world: World) -> None:
        _layer(world, "base")
        prepare = world.snapshotter.prepare

        def slow(*args: object, **named: object) -> list[Mount]:
            world.snapshotter.prepare = prepare  # type: ignore[method-assign]
            mounts = prepare(*args, **named)  # type: ignore[arg-type]
            world.snapshots.remove(CTX, "base")
            _layer(world, "base")
            return mounts

        world.snapshotter.prepare = slow  # type: ignore[method-assign]
        with pytest.raises(InvalidArgument, match="mismatched parent"):
            world.snapshots.prepare(CTX, "k", "base")
        assert _names(world) == ["base"]

    def test_of_many_prepares_of_one_key_one_succeeds(self, world: World) -> None:
        outcomes: list[str] = []
        barrier = threading.Barrier(8)

        def prepare() -> None:
            barrier.wait(10)
            try:
                world.snapshots.prepare(CTX, "k")
                outcomes.append("ok")
            except AlreadyExists:
                outcomes.append("exists")

        threads = [threading.Thread(target=prepare) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert sorted(outcomes) == ["exists"] * 7 + ["ok"]
        assert len(world.snapshotter.infos) == 1

    def test_a_commit_that_the_database_loses_is_reported_and_can_be_removed(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        world.snapshots.prepare(CTX, "k")
        commit = world.snapshotter.commit

        def crash(*args: object, **named: object) -> None:
            commit(*args, **named)  # type: ignore[arg-type]
            del world.snapshotter.commit
            raise Unavailable("crash before the record was written")

        world.snapshotter.commit = crash  # type: ignore[method-assign]
        with pytest.raises(Unavailable):
            world.snapshots.commit(CTX, "c", "k")
        assert _names(world) == []
        with pytest.raises(NotFound):
            world.snapshots.stat(CTX, "k")
        with pytest.raises(AlreadyExists):
            world.snapshots.prepare(CTX, "k")
        world.snapshots.remove(CTX, "k")
        world.snapshots.prepare(CTX, "k")

    def test_closing_closes_the_back_end(self, world: World) -> None:
        world.snapshots.close()
        assert world.snapshotter.closed


class TestLabels:
    def test_the_back_end_sees_only_labels_that_concern_it(self, world: World) -> None:
        given_labels = {"a": "1", INHERITED: "2", REF: "target", "containerd.io/snapshotx": "3"}
        world.snapshots.prepare(CTX, "k", labels=given_labels)
        assert world.snapshotter.infos["t/1/k"].labels == {INHERITED: "2", REF: "target"}
        world.snapshots.update(CTX, Info("k", labels={"b": "1", INHERITED: "4"}))
        assert world.snapshotter.infos["t/1/k"].labels == {INHERITED: "4"}
        world.snapshots.commit(CTX, "c", "k", {"c": "1", INHERITED: "5"})
        assert world.snapshotter.infos["t/2/c"].labels == {INHERITED: "5"}
        assert world.snapshots.stat(CTX, "c").labels == {"c": "1", INHERITED: "5"}

    def test_labels_of_the_back_end_are_merged_in_and_ours_win(self, world: World) -> None:
        world.snapshotter.extra_labels = {"theirs": "1", "both": "theirs"}
        world.snapshots.prepare(CTX, "k", labels={"both": "ours"})
        merged = {"theirs": "1", "both": "ours"}
        assert world.snapshots.stat(CTX, "k").labels == merged
        assert [info.labels for info in world.snapshots.walk(CTX, ["labels.theirs==1"])] == [merged]
        assert world.snapshots.update(CTX, Info("k", labels={"x": "y"})).labels == {
            "theirs": "1",
            "both": "theirs",
            "x": "y",
        }

    @pytest.mark.parametrize(
        "paths, expected",
        [
            ((), {"b": "2"}),
            (("labels",), {"b": "2"}),
            (("labels.b",), {"a": "1", "b": "2"}),
            (("labels.a",), {}),
            (("labels.",), {"a": "1"}),
        ],
    )
    def test_update_changes_labels_and_its_own_time_alone(
        self, world: World, paths: tuple[str, ...], expected: dict[str, str]
    ) -> None:
        world.snapshots.prepare(CTX, "k", labels={"a": "1"})
        before = world.snapshots.stat(CTX, "k")
        world.clock.advance(1)
        wanted = Info("k", "other", Kind.COMMITTED, 1, 1, {"b": "2"})
        after = world.snapshots.update(CTX, wanted, paths)
        assert after == replace(before, labels=expected, updated_at=world.clock.now())
        assert world.snapshots.stat(CTX, "k") == after

    @pytest.mark.parametrize("path", ["name", "parent", "kind", "created_at", "label", "Labels", "info.labels", ""])
    def test_no_other_field_can_be_updated(self, world: World, path: str) -> None:
        world.snapshots.prepare(CTX, "k", labels={"a": "1"})
        with pytest.raises(InvalidArgument) as caught:
            world.snapshots.update(CTX, Info("k", labels={"a": "2"}), ["labels.a", path])
        assert str(caught.value) == f'cannot update "{path}" field on snapshot "k": invalid argument'
        assert world.snapshots.stat(CTX, "k").labels == {"a": "1"}

    def test_an_update_that_the_back_end_refuses_changes_nothing(self, world: World) -> None:
        world.snapshots.prepare(CTX, "k", labels={"a": "1"})
        world.snapshotter.failures["update"] = Unavailable("away")
        with pytest.raises(Unavailable):
            world.snapshots.update(CTX, Info("k", labels={"a": "2"}))
        assert world.snapshots.stat(CTX, "k").labels == {"a": "1"}

    def test_a_label_that_is_too_long_is_refused_by_every_call(self, world: World) -> None:
        world.snapshots.prepare(CTX, "k")
        labels = {"k": "v" * 4096}
        calls: list[Callable[[], object]] = [
            lambda: world.snapshots.prepare(CTX, "n", labels=labels),
            lambda: world.snapshots.view(CTX, "n", labels=labels),
            lambda: world.snapshots.commit(CTX, "n", "k", labels),
            lambda: world.snapshots.update(CTX, Info("k", labels=labels)),
        ]
        for call in calls:
            with pytest.raises(InvalidArgument):
                call()
        assert _names(world) == ["k"]

    def test_a_label_without_a_key_is_refused_and_nothing_is_left(self, world: World) -> None:
        with pytest.raises(Unknown, match="key required"):
            world.snapshots.prepare(CTX, "k", labels={"": "v"})
        assert _names(world) == []
        assert world.snapshotter.infos == {}


class TestWhatIsLookedAtFirst:
    def test_the_parent_before_the_key(self, world: World) -> None:
        with pytest.raises(NotFound, match="parent snapshot nothing does not exist"):
            world.snapshots.prepare(CTX, "", "nothing")

    def test_the_lease_before_the_key(self, world: World) -> None:
        with pytest.raises(NotFound, match="lease does not exist"):
            world.snapshots.prepare(CTX.with_lease("gone"), "")

    def test_the_namespace_before_the_filters(self, world: World) -> None:
        with pytest.raises(FailedPrecondition, match="namespace is required"):
            world.snapshots.walk(CallContext(), ["["])

    def test_a_label_without_key_is_told_with_what_was_being_done(self, world: World) -> None:
        world.snapshots.prepare(CTX, "k")
        with pytest.raises(Unknown, match=r'^failed to read labels: failed to set label ""="v": key required$'):
            world.snapshots.update(CTX, Info("k", labels={"": "v"}))


class TestWalk:
    @pytest.mark.parametrize(
        "filters, expected",
        [
            ((), ["base", "k", "v"]),
            (("kind==active",), ["k"]),
            (("kind==view", "kind==committed"), ["base", "v"]),
            (("parent==base,name~=^k",), ["k"]),
            (("labels.l",), ["k"]),
            (("labels.l!=1",), ["base", "v"]),
            (('labels."a/b"==c',), ["v"]),
            (("name~=[",), []),
            (("foo==bar",), []),
            (("foo!=bar",), ["base", "k", "v"]),
            (("kind",), ["base", "k", "v"]),
            (("labels",), []),
            (("",), ["base", "k", "v"]),
        ],
    )
    def test_filters_know_name_parent_kind_and_labels(
        self, world: World, filters: tuple[str, ...], expected: list[str]
    ) -> None:
        _layer(world, "base")
        world.snapshots.view(CTX, "v", "base", {"a/b": "c"})
        world.snapshots.prepare(CTX, "k", "base", {"l": "1"})
        assert _names(world, CTX, *filters) == expected

    def test_one_bad_filter_fails_the_call_before_anything_is_given(self, world: World) -> None:
        world.snapshots.prepare(CTX, "k")
        with pytest.raises(InvalidArgument):
            world.snapshots.walk(CTX, ["name==k", "kind="])

    def test_a_record_without_a_snapshot_is_left_out_and_can_be_removed(self, world: World) -> None:
        world.snapshots.prepare(CTX, "k")
        world.snapshotter.infos.clear()
        assert _names(world) == []
        calls: list[Callable[[], object]] = [
            lambda: world.snapshots.stat(CTX, "k"),
            lambda: world.snapshots.mounts(CTX, "k"),
            lambda: world.snapshots.usage(CTX, "k"),
            lambda: world.snapshots.update(CTX, Info("k")),
            lambda: world.snapshots.commit(CTX, "c", "k"),
        ]
        for call in calls:
            with pytest.raises(NotFound):
                call()
        with pytest.raises(AlreadyExists):
            world.snapshots.prepare(CTX, "k")
        world.snapshots.remove(CTX, "k")

    def test_a_back_end_that_fails_fails_the_walk(self, world: World) -> None:
        world.snapshots.prepare(CTX, "k")

        def broken(ctx: CallContext, key: str) -> Info:
            raise Unavailable("away")

        world.snapshotter.stat = broken  # type: ignore[method-assign]
        with pytest.raises(Unavailable):
            _names(world)

    def test_snapshots_may_change_while_they_are_listed(self, world: World) -> None:
        for number in range(10):
            world.snapshots.prepare(CTX, f"k{number}")
        seen = []
        for info in world.snapshots.walk(CTX):
            seen.append(info.name)
            world.snapshots.prepare(CTX, f"new-{info.name}")
            world.snapshots.remove(CTX, f"new-{info.name}")
        assert seen == [f"k{number}" for number in range(10)]


class TestLeases:
    def test_a_lease_holds_the_key_and_then_the_name(self, world: World) -> None:
        leased = CTX.with_lease("l")
        world.metadata.leases.create(CTX, "l")
        world.snapshots.prepare(leased, "k")
        assert world.metadata.leases.list_resources(CTX, "l") == [Resource("k", "snapshots/native")]
        world.snapshots.commit(leased, "c", "k")
        assert world.metadata.leases.list_resources(CTX, "l") == [Resource("c", "snapshots/native")]
        world.snapshots.remove(leased, "c")
        assert world.metadata.leases.list_resources(CTX, "l") == []

    def test_calls_outside_the_lease_leave_its_entries_alone(self, world: World) -> None:
        world.metadata.leases.create(CTX, "l")
        world.snapshots.prepare(CTX.with_lease("l"), "k")
        world.snapshots.commit(CTX, "c", "k")
        assert world.metadata.leases.list_resources(CTX, "l") == [Resource("k", "snapshots/native")]

    def test_an_unknown_lease_fails_the_commit(self, world: World) -> None:
        world.snapshots.prepare(CTX, "k")
        with pytest.raises(NotFound, match="lease does not exist"):
            world.snapshots.commit(CTX.with_lease("nope"), "c", "k")
        assert _names(world) == ["k"]

    def test_an_existing_snapshot_is_not_added_to_the_lease(self, world: World) -> None:
        world.metadata.leases.create(CTX, "l")
        world.snapshots.prepare(CTX, "k")
        with pytest.raises(AlreadyExists):
            world.snapshots.prepare(CTX.with_lease("l"), "k")
        assert world.metadata.leases.list_resources(CTX, "l") == []

    def test_the_back_end_is_never_told_the_lease(self, world: World) -> None:
        leased = CTX.with_lease("l")
        world.metadata.leases.create(CTX, "l")
        world.snapshots.prepare(leased, "k")
        world.snapshots.update(leased, Info("k"))
        world.snapshots.commit(leased, "c", "k")
        assert {ctx.lease for ctx in world.snapshotter.contexts} == {""}


class TestRemoteLayers:
    def _ready(self, world: World, name: str, parent: str = "", kind: Kind = Kind.COMMITTED, ref: str = "T") -> None:
        labels = {REF: ref, "from": "backend", "both": "theirs"}
        world.snapshotter.infos[name] = Info(name, parent, kind, 5, 6, labels)

    def test_a_known_target_ends_the_call_before_the_back_end_is_asked(self, world: World) -> None:
        world.snapshots.prepare(CTX, "T")
        for make in (world.snapshots.prepare, world.snapshots.view):
            with pytest.raises(AlreadyExists, match=r'^target snapshot "T": already exists$'):
                make(CTX, "k", labels={REF: "T"})
        assert world.snapshotter.calls == [("prepare", "t/1/T")]

    def test_an_unknown_target_is_an_ordinary_label(self, world: World) -> None:
        world.snapshots.prepare(CTX, "T", labels={REF: "T"})
        assert world.snapshots.stat(CTX, "T").labels == {REF: "T"}

    def test_a_ready_layer_is_registered_under_its_name(self, world: World) -> None:
        self._ready(world, "back-T")
        world.snapshotter.failures["prepare"] = AlreadyExists("ready")
        with pytest.raises(AlreadyExists, match=r'^target snapshot "T" from snapshotter: already exists$'):
            world.snapshots.prepare(CTX, "k", labels={REF: "T", "mine": "1", "both": "ours"})
        expected = {REF: "T", "mine": "1", "both": "ours", "from": "backend"}
        assert world.snapshots.stat(CTX, "T") == Info("T", "", Kind.COMMITTED, 5, 6, expected)
        assert _names(world) == ["T"]
        world.snapshotter.failures.clear()
        world.snapshots.prepare(CTX, "child", "T")
        assert world.snapshotter.infos["t/2/child"].parent == "back-T"

    def test_only_a_committed_one_with_the_right_label_and_parent_will_do(self, world: World) -> None:
        _layer(world, "base")
        self._ready(world, "other-parent")
        self._ready(world, "active", "t/2/base", Kind.ACTIVE)
        self._ready(world, "other-ref", "t/2/base", ref="S")
        world.snapshotter.failures["prepare"] = AlreadyExists("ready")
        with pytest.raises(NotFound, match=r'^target snapshot "T" in backend: not found$'):
            world.snapshots.prepare(CTX, "k", "base", {REF: "T"})
        self._ready(world, "right", "t/2/base")
        with pytest.raises(AlreadyExists):
            world.snapshots.prepare(CTX, "k", "base", {REF: "T"})
        assert world.snapshots.stat(CTX, "T").parent == "base"
        with pytest.raises(FailedPrecondition):
            world.snapshots.remove(CTX, "base")

    @pytest.mark.parametrize("target", ["T", "sha256:ab", 'a"b\\c', "with space/and\nmore"])
    def test_the_back_end_is_asked_with_one_filter_that_finds_the_target(self, world: World, target: str) -> None:
        self._ready(world, "back-T", ref=target)
        world.snapshotter.failures["prepare"] = AlreadyExists("ready")
        with pytest.raises(AlreadyExists):
            world.snapshots.prepare(CTX, "k", labels={REF: target})
        (asked,) = [call[1] for call in world.snapshotter.calls if call[0] == "walk"]
        fields = {("parent",): "", ("labels", REF): target}
        assert parse([asked])(lambda path: fields.get((path[0], ".".join(path[1:])) if path[1:] else (path[0],)))

    def test_already_exists_without_a_target_is_no_answer(self, world: World) -> None:
        world.snapshotter.failures["prepare"] = AlreadyExists("what?")
        with pytest.raises(Unknown) as caught:
            world.snapshots.prepare(CTX, "k")
        assert str(caught.value) == "unexpected error from snapshotter: what?: already exists: unknown"
        assert _names(world) == []

    def test_one_layer_serves_several_namespaces(self, world: World) -> None:
        self._ready(world, "back-T")
        world.snapshotter.failures["prepare"] = AlreadyExists("ready")
        for ctx in (CTX, OTHER):
            with pytest.raises(AlreadyExists):
                world.snapshots.prepare(ctx, "k", labels={REF: "T", "containerd.io/gc.root": "1"})
        world.snapshots.remove(CTX, "T")
        world.collect()
        assert "back-T" in world.snapshotter.infos
        assert world.snapshots.stat(OTHER, "T").kind is Kind.COMMITTED
        world.snapshots.remove(OTHER, "T")
        world.collect()
        assert "back-T" not in world.snapshotter.infos


class TestPruning:
    def _abandoned_chain(self, world: World) -> None:
        _layer(world, "a")
        _layer(world, "b", "a")
        world.snapshots.prepare(CTX, "c", "b")
        world.snapshotter.calls.clear()

    def test_children_go_before_parents_and_then_the_back_end_is_told(self, world: World) -> None:
        self._abandoned_chain(world)
        assert world.collect() == {"snapshots/native": 3}
        assert world.snapshotter.calls == [
            ("walk",),
            ("remove", "t/5/c"),
            ("remove", "t/4/b"),
            ("remove", "t/2/a"),
            ("cleanup",),
        ]
        assert {ctx.namespace for ctx in world.snapshotter.contexts[-5:]} == {""}

    def test_a_snapshotter_that_lost_nothing_is_not_touched(self, world: World) -> None:
        world.snapshotter.infos["orphan"] = Info("orphan", kind=Kind.ACTIVE)
        world.blob(b"garbage")
        world.collect()
        assert world.snapshotter.calls == []
        world.snapshots.prepare(CTX, "k")
        world.collect()
        assert world.snapshotter.infos == {}

    def test_a_refused_removal_is_tried_again_and_the_others_go(self, world: World) -> None:
        for key in ("a", "b", "c"):
            world.snapshots.prepare(CTX, key)
        world.snapshotter.failures[("remove", "t/2/b")] = FailedPrecondition("mounted")
        world.collect()
        assert list(world.snapshotter.infos) == ["t/2/b"]
        assert world.snapshotter.calls[-1] == ("cleanup",)
        world.snapshotter.failures.clear()
        world.snapshots.prepare(CTX, "next")
        world.collect()
        assert world.snapshotter.infos == {}

    def test_any_other_failure_ends_the_pass_but_not_the_collection(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        for key in ("a", "b"):
            world.snapshots.prepare(CTX, key)
            world.metadata.snapshotters["plain"].prepare(CTX, key)
        world.snapshotter.calls.clear()
        world.snapshotter.failures["remove"] = Internal("broken")
        assert world.collect() == {"snapshots/native": 2, "snapshots/plain": 2}
        assert [call[0] for call in world.snapshotter.calls] == ["walk", "remove"]
        assert "snapshot garbage collection failed" in caplog.text
        assert world.plain.infos == {}

    def test_a_snapshotter_need_not_clean_up(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        world.snapshotter.failures["cleanup"] = Unimplemented()
        world.snapshots.prepare(CTX, "k")
        world.collect()
        assert world.snapshotter.infos == {}
        assert "failed" not in caplog.text

    def test_what_other_snapshotters_and_namespaces_hold_stays(self, world: World) -> None:
        root = {"containerd.io/gc.root": "1"}
        world.snapshots.prepare(OTHER, "k", labels=root)
        world.snapshots.prepare(CTX, "k")
        world.collect()
        assert list(world.snapshotter.infos) == ["other/1/k"]

    @given(st.dictionaries(st.text(max_size=2), st.text(max_size=2), max_size=12))
    def test_leaves_come_first_in_any_forest(self, wishes: dict[str, str]) -> None:
        parents: dict[str, str] = {}
        for key, parent in wishes.items():
            # A parent is made before its children: no cycles.
            parents[key] = parent if parent != key and parent in parents else ""
        order = leaves_first(parents)
        assert sorted(order) == sorted(parents)
        for key, parent in parents.items():
            if parent in parents and parent:
                assert order.index(key) < order.index(parent)

    def test_chains_may_be_longer_than_the_stack(self) -> None:
        parents = {str(number): str(number - 1) if number else "" for number in range(5000)}
        assert leaves_first(parents) == [str(number) for number in reversed(range(5000))]
