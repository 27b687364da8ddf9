"""Garbage collection: what is held, what goes, in which order (refimpl.metadata.gc, refimpl.metadata.references)."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace as changed

import pytest
from hypothesis import given, settings

from refimpl.contract.containers import Container, RuntimeInfo
from refimpl.contract.content import Info as ContentInfo
from refimpl.contract.context import CallContext
from refimpl.contract.encoding import DecodeError
from refimpl.contract.errors import AlreadyExists, NotFound
from refimpl.contract.images import Image
from refimpl.contract.leases import Resource
from refimpl.contract.namespaces import Namespace
from refimpl.contract.snapshots import Info as SnapshotInfo
from refimpl.contract.times import SECOND, parse_rfc3339
from refimpl.contract.types import Descriptor, TypedAny
from refimpl.metadata import buckets
from refimpl.metadata.content import INGEST_LIFETIME
from refimpl.metadata.references import Node, Reference, references, roots
from tests.metadata.graphs import CONTENT_REF, GRAPHS, PAST, ROOT, SNAPSHOT_REF, Graph, Stores, build, survivors
from tests.metadata.world import CTX, OTHER, World, digest_of, make_world

FUTURE = "2100-01-01T00:00:00.5+02:00"


@pytest.fixture
def world() -> World:
    return make_world()


def _blobs(world: World, ctx: CallContext = CTX) -> set[str]:
    return {info.digest for info in world.metadata.content.walk(ctx)}


def _snapshots(world: World, ctx: CallContext = CTX) -> list[str]:
    return [info.name for info in world.snapshots.walk(ctx)]


def _layer(world: World, name: str, parent: str = "", labels: Mapping[str, str] | None = None) -> None:
    world.snapshots.prepare(CTX, f"{name}-work", parent)
    world.snapshots.commit(CTX, name, f"{name}-work", labels)


def _container(world: World, id: str, **fields: object) -> None:
    container = Container(id, runtime=RuntimeInfo("r"), spec=TypedAny("s", b"{}"))
    world.metadata.containers.create(CTX, changed(container, **fields))  # type: ignore[arg-type]  # fields by name


class TestRoots:
    def test_what_nothing_holds_goes_with_its_bytes(self, world: World) -> None:
        world.blob(b"a")
        _layer(world, "base")
        world.snapshots.view(CTX, "v", "base")
        assert world.collect() == {"content": 1, "snapshots/native": 2}
        assert (_blobs(world), _snapshots(world)) == (set(), [])
        assert (world.backend_digests(), world.snapshotter.infos) == ([], {})

    def test_an_image_holds_its_target_and_what_that_refers_to_at_any_depth(self, world: World) -> None:
        c = world.blob(b"c")
        b = world.blob(b"b", labels={f"{CONTENT_REF}.x": c})
        a = world.blob(b"a", labels={f"{CONTENT_REF}.0": b})
        world.blob(b"z")
        world.metadata.images.create(CTX, Image("i", Descriptor("t", a, 1)))
        world.collect()
        assert _blobs(world) == {a, b, c}
        world.metadata.images.delete(CTX, "i")
        world.collect()
        assert _blobs(world) == set()

    def test_labels_of_images_and_containers_refer_too(self, world: World) -> None:
        held = [world.blob(bytes([number])) for number in range(3)]
        for key in ("by-image", "by-container", "of-container", "loose"):
            world.snapshots.prepare(CTX, key)
        labels = {CONTENT_REF: held[1], f"{SNAPSHOT_REF}native": "by-image"}
        world.metadata.images.create(CTX, Image("i", Descriptor("t", held[0], 1), labels))
        labels = {CONTENT_REF: held[2], f"{SNAPSHOT_REF}native/x": "by-container"}
        _container(world, "c", labels=labels, snapshotter="native", snapshot_key="of-container")
        world.collect()
        assert _blobs(world) == set(held)
        assert _snapshots(world) == ["by-container", "by-image", "of-container"]
        world.metadata.containers.delete(CTX, "c")
        world.collect()
        assert (_blobs(world), _snapshots(world)) == (set(held[:2]), ["by-image"])

    @pytest.mark.parametrize("value", ["1", "0", "false", " ", PAST])
    def test_a_root_label_counts_whatever_its_value(self, world: World, value: str) -> None:
        labels = {"containerd.io/gc.root": value, "containerd.io/gc.expire": PAST}
        digest = world.blob(b"a", labels=labels)
        world.snapshots.prepare(CTX, "k", labels=labels)
        assert world.collect() == {}
        assert (_blobs(world), _snapshots(world)) == ({digest}, ["k"])

    @pytest.mark.parametrize(
        "labels",
        [
            {"containerd.io/gc.root": ""},
            {"containerd.io/gc.Root": "1"},
            {"containerd.io/gc.rootx": "1"},
            {"gc.root": "1"},
            {"containerd.io/gc.expire": FUTURE},
            {"containerd.io/gc.bref.image": "i"},
        ],
    )
    def test_other_labels_are_no_root(self, world: World, labels: dict[str, str]) -> None:
        world.blob(b"a", labels=labels)
        world.snapshots.prepare(CTX, "k", labels=labels)
        assert world.collect() == {"content": 1, "snapshots/native": 1}

    def test_what_is_not_a_reference_holds_nothing(self, world: World) -> None:
        by_field, by_lease, by_namespace = (world.blob(bytes([number])) for number in range(3))
        _container(world, "c", image=by_field)
        world.metadata.leases.create(CTX, "l", {CONTENT_REF: by_lease, **ROOT})
        world.metadata.namespaces.create(CTX, Namespace("n", {CONTENT_REF: by_namespace}))
        world.collect()
        assert _blobs(world) == set()

    def test_records_that_are_no_garbage_whatever_they_hold_stay(self, world: World) -> None:
        _container(world, "c")
        world.metadata.images.create(CTX, Image("i", Descriptor("t", digest_of(b"absent"), 1)))
        world.metadata.leases.create(CTX, "l")
        world.blob(b"x", OTHER)
        world.collect()
        assert world.metadata.containers.get(CTX, "c").id == "c"
        assert world.metadata.images.get(CTX, "i").name == "i"
        assert [lease.id for lease in world.metadata.leases.list(CTX)] == ["l"]
        assert [namespace.name for namespace in world.metadata.namespaces.list(CTX)] == ["other", "t"]


class TestReferences:
    def test_forms_of_the_content_label(self, world: World) -> None:
        counts = {"": True, ".0": True, ".config": True, "/x": True, ".": True, "/": True, ".m.0.1": True}
        counts |= {"x": False, "-x": False, "s": False}
        digests = {suffix: world.blob(suffix.encode()) for suffix in counts}
        root = world.blob(b"root", labels=ROOT | {CONTENT_REF + suffix: digest for suffix, digest in digests.items()})
        world.collect()
        assert _blobs(world) == {root} | {digests[suffix] for suffix, held in counts.items() if held}

    def test_forms_of_the_snapshot_label(self, world: World) -> None:
        for key in ("s1", "s2", "s3", "s4", "s5"):
            _layer(world, key)
        names = {f"{SNAPSHOT_REF}native": "s1", f"{SNAPSHOT_REF}native/x": "s2", f"{SNAPSHOT_REF}native.x": "s3"}
        world.blob(b"root", labels=ROOT | names | {SNAPSHOT_REF.rstrip("."): "s4"})
        world.collect()
        assert _snapshots(world) == ["s1", "s2"]

    def test_a_snapshot_holds_its_parents_and_what_their_labels_name(self, world: World) -> None:
        a = world.blob(b"a")
        world.blob(b"b")
        _layer(world, "base", labels={f"{CONTENT_REF}.1": a})
        _layer(world, "mid", "base")
        world.snapshots.prepare(CTX, "held", "mid", ROOT)
        world.snapshots.prepare(CTX, "sibling", "base")
        world.collect()
        assert (_snapshots(world), _blobs(world)) == (["base", "held", "mid"], {a})

    def test_cycles_are_collected_unless_they_are_reached(self, world: World) -> None:
        def cycle(name: bytes, labels: Mapping[str, str]) -> set[str]:
            first, second = digest_of(name + b"1"), digest_of(name + b"2")
            world.blob(name + b"1", labels={CONTENT_REF: second, **labels})
            world.blob(name + b"2", labels={CONTENT_REF: first})
            return {first, second}

        kept, _loose = cycle(b"kept", ROOT), cycle(b"loose", {})
        itself = world.blob(b"itself")
        world.metadata.content.update(CTX, ContentInfo(itself, labels={CONTENT_REF: itself}))
        world.collect()
        assert _blobs(world) == kept

    def test_references_that_name_nothing_are_harmless(self, world: World) -> None:
        labels = {
            CONTENT_REF: digest_of(b"absent"),
            f"{CONTENT_REF}.1": "garbage",
            f"{SNAPSHOT_REF}nosuch": "x",
            SNAPSHOT_REF: "y",
        }
        digest = world.blob(b"a", labels=ROOT | labels)
        assert world.collect() == {}
        assert _blobs(world) == {digest}

    def test_references_stay_in_their_namespace(self, world: World) -> None:
        digest = world.blob(b"x", OTHER)
        world.blob(b"root", labels=ROOT | {CONTENT_REF: digest})
        world.collect()
        assert _blobs(world, OTHER) == set()

    def test_removing_a_reference_by_an_update_makes_nothing_dirty(self, world: World) -> None:
        target = world.blob(b"b")
        root = world.blob(b"a", labels=ROOT | {CONTENT_REF: target})
        world.metadata.content.update(CTX, ContentInfo(root, labels=ROOT))
        world.snapshots.prepare(CTX, "k", labels=ROOT)
        world.snapshots.update(CTX, SnapshotInfo("k"))
        assert not world.metadata.database.dirty
        assert world.collect() == {"content": 1, "snapshots/native": 1}

    def test_every_reference_says_why(self, world: World) -> None:
        a = world.blob(b"a", labels={f"{SNAPSHOT_REF}native/x": "k"})
        world.snapshots.prepare(CTX, "k")
        world.metadata.images.create(CTX, Image("busybox", Descriptor("t", a, 1)))
        with world.metadata.database.view() as v1:
            assert list(roots(v1, world.clock.now())) == [Reference(Node("t", "content", a), 'image "busybox"')]
            assert list(references(v1, Node("t", "content", a))) == [
                Reference(Node("t", "snapshots/native", "k"), f"label {SNAPSHOT_REF}native/x")
            ]


class TestLeases:
    def test_a_lease_holds_its_entries_and_what_they_refer_to(self, world: World) -> None:
        world.metadata.leases.create(CTX, "l")
        leased = CTX.with_lease("l")
        b = world.blob(b"b")
        a = world.blob(b"a", leased, {CONTENT_REF: b})
        _layer(world, "base")
        world.snapshots.prepare(leased, "k", "base")
        world.collect()
        assert (_blobs(world), _snapshots(world)) == ({a, b}, ["base", "k"])
        world.metadata.leases.delete(CTX, "l")
        world.collect()
        assert (_blobs(world), _snapshots(world)) == (set(), [])

    def test_a_flat_lease_holds_parents_but_not_what_labels_name(self, world: World) -> None:
        world.metadata.leases.create(CTX, "l", {"containerd.io/gc.flat": "false"})
        leased = CTX.with_lease("l")
        b = world.blob(b"b")
        a = world.blob(b"a", leased, {CONTENT_REF: b})
        _layer(world, "base", labels={CONTENT_REF: b})
        world.snapshots.prepare(leased, "k", "base", {CONTENT_REF: b})
        world.collect()
        assert (_blobs(world), _snapshots(world)) == ({a}, ["base", "k"])

    def test_an_ordinary_lease_restores_what_a_flat_one_leaves_out(self, world: World) -> None:
        world.metadata.leases.create(CTX, "flat", {"containerd.io/gc.flat": "1"})
        world.metadata.leases.create(CTX, "plain")
        b = world.blob(b"b")
        a = world.blob(b"a", CTX.with_lease("flat"), {CONTENT_REF: b})
        world.metadata.leases.add_resource(CTX, "plain", Resource(a, "content"))
        world.collect()
        assert _blobs(world) == {a, b}

    def test_an_expired_lease_goes_and_holds_nothing(self, world: World) -> None:
        for id, expiry in {"past": PAST, "future": FUTURE, "unreadable": "tomorrow"}.items():
            world.metadata.leases.create(CTX, id, {"containerd.io/gc.expire": expiry})
            world.blob(id.encode(), CTX.with_lease(id))
        assert world.collect() == {"content": 1, "leases": 1}
        assert [lease.id for lease in world.metadata.leases.list(CTX)] == ["future", "unreadable"]
        assert _blobs(world) == {digest_of(b"future"), digest_of(b"unreadable")}

    def test_a_lease_lives_up_to_its_expiry(self, world: World) -> None:
        world.metadata.leases.create(CTX, "l", {"containerd.io/gc.expire": FUTURE})
        left = (parse_rfc3339(FUTURE) - world.clock.now()) / SECOND
        world.clock.advance(left - 1)
        assert world.collect() == {}
        world.clock.advance(2)
        assert world.collect() == {"leases": 1}

    def test_what_several_leases_hold_stays_until_the_last_one_ends(self, world: World) -> None:
        digest = world.blob(b"a")
        for id in ("l1", "l2"):
            world.metadata.leases.create(CTX, id)
            world.metadata.leases.add_resource(CTX, id, Resource(digest, "content"))
        world.metadata.leases.delete(CTX, "l1")
        assert world.collect() == {}
        world.metadata.leases.delete_resource(CTX, "l2", Resource(digest, "content"))
        assert world.metadata.database.dirty
        assert world.collect() == {"content": 1}

    def test_an_ingest_lives_with_its_lease_or_for_a_day(self, world: World) -> None:
        world.metadata.leases.create(CTX, "l")
        for ref, ctx in {"leased": CTX.with_lease("l"), "loose": CTX}.items():
            world.metadata.content.writer(ctx, ref).close()
        assert world.collect() == {}
        world.metadata.leases.delete(CTX, "l")
        assert world.collect() == {"ingests": 1}
        assert [status.ref for status in world.metadata.content.list_statuses(CTX)] == ["loose"]
        assert [status.ref for status in world.backend.list_statuses(CallContext())] == ["t/1/loose"]
        world.clock.advance(INGEST_LIFETIME / SECOND)
        assert world.collect() == {}
        world.clock.advance(1)
        assert world.collect() == {"ingests": 1}
        assert world.backend.list_statuses(CallContext()) == []

    def test_an_ingest_holds_the_record_of_the_blob_that_it_expects(self, world: World) -> None:
        digest = world.blob(b"a", OTHER)
        world.metadata.content.writer(CTX, "r", expected=digest)
        world.blob(b"a", CTX)
        world.collect()
        assert (_blobs(world), _blobs(world, OTHER)) == ({digest}, set())
        assert world.backend_digests() == [digest]


class TestCollection:
    def test_records_of_one_collection_go_in_one_transaction_and_tell_nobody(self, world: World) -> None:
        for number in range(5):
            world.blob(bytes([number]))
        told: list[bool] = []
        world.metadata.on_mutation(told.append)
        assert world.collect() == {"content": 5}
        assert told == []

    def test_it_leaves_the_database_clean(self, world: World) -> None:
        world.metadata.content.delete(CTX, world.blob(b"a"))
        assert world.metadata.database.dirty
        world.collect()
        assert not world.metadata.database.dirty

    def test_a_record_that_cannot_be_read_stops_it_before_anything_goes(self, world: World) -> None:
        digest = world.blob(b"a")
        world.metadata.content.writer(CTX, "r").close()
        with world.metadata.database.update() as v1:
            record = buckets.find(v1, "t", buckets.CONTENT, buckets.INGESTS, "r")
            assert record is not None
            record.put(buckets.EXPIRE_AT, b"garbage")
        with pytest.raises(DecodeError):
            world.collect()
        assert _blobs(world) == {digest}
        world.metadata.content.abort(CTX, "r")
        assert world.collect() == {"content": 1}

    def test_bytes_go_only_when_something_was_removed_there(self, world: World) -> None:
        orphan = world.backend.writer(CallContext(), "orphan")
        orphan.write(b"orphan")
        orphan.commit(CallContext())
        world.snapshots.prepare(CTX, "k")
        world.collect()
        assert world.backend_digests() == [digest_of(b"orphan")]
        world.metadata.content.delete(CTX, world.blob(b"a"))
        world.collect()
        assert world.backend_digests() == []

    def test_a_parent_whose_child_was_collected_can_be_removed(self, world: World) -> None:
        _layer(world, "base", labels=ROOT)
        world.snapshots.prepare(CTX, "child", "base")
        world.collect()
        world.snapshots.remove(CTX, "base")

    def test_the_pause_is_measured_by_the_databases_clock(self, world: World) -> None:
        assert world.metadata.collect(CallContext()).elapsed == 0

    def test_a_slow_back_end_holds_up_nobody_else(self, world: World) -> None:
        entered, leave = threading.Event(), threading.Event()
        remove = world.snapshotter.remove

        def slow(ctx: CallContext, key: str) -> None:
            entered.set()
            assert leave.wait(10)
            remove(ctx, key)

        world.snapshotter.remove = slow  # type: ignore[method-assign]
        world.snapshots.prepare(CTX, "k")
        collection = threading.Thread(target=world.collect)
        collection.start()
        assert entered.wait(10)
        world.metadata.containers.list(CTX)
        world.metadata.leases.create(CTX, "l")
        world.blob(b"a")
        world.metadata.snapshotters["plain"].prepare(CTX, "p")
        waiting = threading.Thread(target=world.snapshots.prepare, args=(CTX, "new"))
        waiting.start()
        waiting.join(0.05)
        assert waiting.is_alive(), "the store that is being cleaned lets nobody in"
        leave.set()
        for thread in (collection, waiting):
            thread.join(10)
        assert _snapshots(world) == ["new"]


@pytest.fixture
def _busy_threads() -> Iterator[None]:
    """Threads that take turns a thousand times more often than usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_busy_threads")
def test_leased_work_survives_any_number_of_collections_beside_it(world: World) -> None:
    failures: list[str] = []
    stop = threading.Event()

    def work(name: str) -> None:
        try:
            for round_ in range(25):
                _one_round(world, f"{name}-{round_}")
        except Exception as err:  # noqa: BLE001  # a thread's failure has to reach the test
            failures.append(f"{name}: {err!r}")

    def collect() -> None:
        while not stop.is_set():
            world.collect()

    workers = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(4)]
    collector = threading.Thread(target=collect)
    for thread in (*workers, collector):
        thread.start()
    for thread in workers:
        thread.join(60)
    stop.set()
    collector.join(60)
    assert failures == []
    world.collect()
    assert (world.backend_digests(), world.snapshotter.infos) == ([], {})
    assert world.backend.list_statuses(CallContext()) == []


def _one_round(world: World, name: str) -> None:
    world.metadata.leases.create(CTX, name)
    leased = CTX.with_lease(name)
    digest = world.blob(name.encode(), leased)
    world.snapshots.prepare(leased, f"{name}-work")
    world.snapshots.commit(leased, name, f"{name}-work")
    world.snapshots.prepare(leased, f"{name}-child", name)
    for _ in range(3):
        assert world.metadata.content.reader(CTX, digest).read_at(0, 100) == name.encode()
        assert world.snapshots.mounts(CTX, f"{name}-child")
        assert world.snapshots.stat(CTX, name).name == name
    world.metadata.leases.delete(CTX, name)


@settings(max_examples=150, deadline=None)
@given(GRAPHS)
def test_what_is_held_stays_and_nothing_else_does(graph: Graph) -> None:
    world = make_world()
    metadata = world.metadata
    stores = Stores(metadata.content, world.snapshots, metadata.images, metadata.containers, metadata.leases)
    build(stores, graph)
    world.collect()
    held = graph.held()
    assert survivors(stores, graph) == held
    for ctx in (CTX, OTHER):
        assert [lease.id for lease in metadata.leases.list(ctx)] == ["flat", "full"]
    assert len(world.snapshotter.infos) == sum(graph.things[number].snapshot for number in held)
    digests = {graph.digest(number) for number in held if not graph.things[number].snapshot}
    assert set(world.backend_digests()) == digests
    assert world.collect() == {}, "a second collection finds nothing more"


def test_collecting_beside_a_reader_leaves_the_reader_its_bytes(world: World) -> None:
    digest = world.blob(b"a" * 100)
    reader = world.metadata.content.reader(CTX, digest)
    world.collect()
    assert reader.read_at(50, 100) == b"a" * 50
    with pytest.raises(NotFound):
        world.metadata.content.reader(CTX, digest)


def test_an_existing_digest_that_a_lease_was_promised_is_kept(world: World) -> None:
    digest = world.blob(b"a")
    world.metadata.leases.create(CTX, "l")
    with pytest.raises(AlreadyExists):
        world.metadata.content.writer(CTX.with_lease("l"), "r", expected=digest)
    assert world.collect() == {}
