"""Leases as holds: the header that fills them, expiry, flat leases, and what they keep (LEA-019 to 036, 042)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from conformance import clause
from conformance.suites._content import ROOTED, begin, digest_of, fresh, has, read, store
from conformance.suites._gc import (
    EXPIRE,
    FLAT,
    NEVER,
    PLAIN,
    REF_CONTENT,
    ROOT,
    by_id,
    committed,
    container,
    drop,
    exists,
    hours,
    image,
    scheduler,
    settle,
    stays,
    surviving,
    under,
)
from refimpl.api import content_v1_pb2
from refimpl.api import snapshots_v1_pb2 as snapshots_pb
from refimpl.contract.content import Info
from refimpl.contract.errors import AlreadyExists, NotFound, Unimplemented
from refimpl.contract.leases import Resource
from refimpl.contract.snapshots import Kind

CONTENT = "containerd.services.content.v1.Content"
SNAPSHOTS = "containerd.services.snapshots.v1.Snapshots"


@pytest.fixture
def entries(leases, unleased):
    """``entries("lease")``: what a lease lists."""
    return lambda lease: leases.list_resources(unleased, lease)


def unroot(content, ctx, *digests):
    """Take the root labels away; leaves what else is written on the blobs."""
    for digest in digests:
        content.update(ctx, Info(digest), [f"labels.{ROOT}"])


@clause("LEA-019")
def test_a_write_puts_the_ingest_and_then_the_blob_on_the_lease(ctx, content, collect, under, entries):
    """Rejects: an entry for the blob that comes after the blob, and an ingest that stays on the list."""
    w1, data = under("w1"), fresh()
    begin(content, w1, "ra", data)
    assert entries("w1") == [Resource("ra", "ingests")]

    collect(ctx)
    assert entries("w1") == [Resource("ra", "ingests")]
    writer = content.writer(w1, "ra")
    assert writer.status().offset == len(data), "the ingest is still there"
    writer.commit(w1, len(data), digest_of(data))
    assert entries("w1") == [Resource(digest_of(data), "content")]

    collect(ctx)
    assert entries("w1") == [Resource(digest_of(data), "content")]
    assert has(content, ctx, digest_of(data))


@clause("LEA-019")
def test_no_collection_slips_between_the_blob_and_its_lease(ctx, content, collect, under, unique):
    """Rejects: a blob that is visible in one transaction and leased in the next."""
    held = under(unique("w"))
    for _ in range(20):
        writer = content.writer(held, unique("ref"))
        data = fresh()
        writer.write(data)
        collect(ctx)
        writer.commit(held, len(data))
        collect(ctx)
        assert has(content, ctx, digest_of(data))


@clause("LEA-020")
def test_content_that_exists_is_put_on_the_lease(unleased, content, leases, under, entries):
    """Rejects: an entry that is rolled back with the error."""
    digest = store(content, under("w1"), fresh())

    with pytest.raises(AlreadyExists):
        content.writer(under("w2"), "rb", expected=digest)

    assert entries("w2") == [Resource(digest, "content")]
    leases.delete(unleased, "w1", sync=True)
    assert has(content, unleased, digest)


@clause("LEA-021")
def test_content_is_not_written_under_an_unknown_lease(ctx, content):
    """Rejects: a header that is ignored when its lease is missing, so that nothing protects what is made."""
    existing, nolease = store(content, ctx, fresh()), ctx.with_lease("nolease")
    assert content.list_statuses(ctx) == []

    with pytest.raises(NotFound):
        content.writer(nolease, "new")
    with pytest.raises(NotFound):
        content.writer(nolease, "known", expected=existing)

    assert content.list_statuses(ctx) == []


@clause("LEA-021")
def test_an_upload_does_not_go_on_under_an_unknown_lease(ctx, content):
    """Rejects: an upload whose end becomes visible without the protection that was asked for, or is lost."""
    begin(content, ctx, "ref", b"abc")

    with pytest.raises(NotFound):
        content.writer(ctx.with_lease("nolease"), "ref")

    assert content.status(ctx, "ref").offset == 3


@clause("LEA-021")
def test_no_snapshot_is_made_under_an_unknown_lease(ctx, snapshotter):
    """Rejects: a snapshot that is made before the lease is looked for, and stays."""
    nolease = ctx.with_lease("nolease")
    snapshotter.prepare(ctx, "k2")

    for call in (snapshotter.prepare, snapshotter.view):
        with pytest.raises(NotFound):
            call(nolease, "k9")
        assert not exists(snapshotter, ctx, "k9")
    with pytest.raises(NotFound):
        snapshotter.commit(nolease, "n2", "k2")
    assert snapshotter.stat(ctx, "k2").kind is Kind.ACTIVE
    assert not exists(snapshotter, ctx, "n2")
    snapshotter.prepare(ctx, "k9")


@clause("LEA-021")
def test_a_lease_of_another_namespace_is_unknown(ctx, content, snapshotter, new_namespace):
    """Rejects: leases that are looked for in all namespaces."""
    there = new_namespace().with_lease(ctx.lease)

    with pytest.raises(NotFound):
        content.writer(there, "ref")
    with pytest.raises(NotFound):
        snapshotter.prepare(there, "k9")


@clause("LEA-021", needs={"wire"})
def test_an_empty_lease_header_names_no_lease(wire, ctx):
    """Rejects: an empty value read as no header at all."""
    request = content_v1_pb2.WriteContentRequest(action=content_v1_pb2.STAT, ref="ref")
    answer = wire.call(f"{CONTENT}/Write", request, namespace=ctx.namespace, lease="")
    assert answer.code == "NOT_FOUND", answer.message

    listing = wire.call(
        f"{CONTENT}/ListStatuses", content_v1_pb2.ListStatusesRequest(), namespace=ctx.namespace, lease=""
    )
    assert listing.ok, "a call that adds nothing does not look at it"
    assert list(listing.messages[0].statuses) == []


@clause("LEA-022")
def test_containers_and_images_do_not_look_at_the_lease(unleased, containers, images, leases, under, entries):
    """Rejects: every created record on the lease, and calls that fail for a lease they do not need."""
    nolease, s1 = unleased.with_lease("nolease"), under("s1")

    for number, ctx in enumerate((nolease, s1)):
        containers.create(ctx, container(f"c{number}"))
        images.create(ctx, image(f"conformance.invalid/i{number}"))
        images.update(ctx, image(f"conformance.invalid/i{number}", labels={"a": "1"}))
    assert entries("s1") == []
    for number, ctx in enumerate((nolease, s1)):
        containers.delete(ctx, f"c{number}")
        images.delete(ctx, f"conformance.invalid/i{number}")
    assert entries("s1") == []


@clause("LEA-022")
def test_an_image_with_an_expiry_is_leased_in_the_next_release_alone(unleased, images, under, entries):
    """Rejects: a release in between: an image that is refused without its lease and not listed with it."""
    name, ahead = "conformance.invalid/expiring", {EXPIRE: "2999-01-01T00:00:00Z"}
    s1 = under("s1")
    images.create(s1, image(name, labels=ahead))
    later = entries("s1") == [Resource(name, "images")]
    assert later or entries("s1") == []

    images.delete(s1, name)
    assert entries("s1") == []
    if later:
        with pytest.raises(NotFound):
            images.create(unleased.with_lease("nolease"), image(name, labels=ahead))
    else:
        images.create(unleased.with_lease("nolease"), image(name, labels=ahead))


@clause("LEA-022")
def test_reads_and_other_changes_do_not_look_at_the_lease(ctx, content, snapshotter):
    """Rejects: a lease that is looked up by every call."""
    digest, nolease = store(content, ctx, fresh()), ctx.with_lease("nolease")
    snapshotter.prepare(ctx, "k1")

    assert has(content, nolease, digest)
    content.update(nolease, Info(digest, labels={"a": "1"}), ["labels"])
    assert [info.digest for info in content.walk(nolease)] == [digest]
    assert [info.name for info in snapshotter.walk(nolease)] == ["k1"]
    assert snapshotter.mounts(nolease, "k1") == snapshotter.mounts(ctx, "k1")


@clause("LEA-023")
def test_snapshots_come_to_and_leave_the_lease(snapshotter, snapshotter_id, under, entries):
    """Rejects: a key that stays after the commit, a name that is not added, a view that is forgotten."""
    s1 = under("s1")

    def keys():
        assert {entry.type for entry in entries("s1")} == {f"snapshots/{snapshotter_id}"}
        return [entry.id for entry in entries("s1")]

    snapshotter.prepare(s1, "k1")
    assert keys() == ["k1"]
    snapshotter.commit(s1, "n1", "k1")
    assert keys() == ["n1"]
    snapshotter.view(s1, "v1", "n1")
    assert keys() == ["n1", "v1"]
    snapshotter.remove(s1, "v1")
    assert keys() == ["n1"]


@clause("LEA-024")
def test_a_key_that_is_taken_is_leased_in_the_next_release_alone(ctx, snapshotter, snapshotter_id, under, entries):
    """Rejects: anything else on the list but the existing snapshot, which is there in the end."""
    snapshotter.prepare(ctx, "two")

    with pytest.raises(AlreadyExists):
        snapshotter.prepare(under("s1"), "two")

    assert entries("s1") in ([], [Resource("two", f"snapshots/{snapshotter_id}")])
    assert exists(snapshotter, ctx, "two")


@clause("LEA-025")
def test_deleted_content_leaves_the_lease_in_the_header_alone(unleased, content, leases, under, entries):
    """Rejects: a search through all leases, and a deletion that fails because another lease holds the blob."""
    w1, w2 = under("w1"), under("w2")
    digest = store(content, w1, fresh())
    leases.add_resource(unleased, "w2", Resource(digest, "content"))

    content.delete(w1, digest)
    assert (entries("w1"), entries("w2")) == ([], [Resource(digest, "content")])

    begin(content, w2, "rz", b"abc")
    ingest = Resource("rz", "ingests")
    content.abort(unleased, "rz")
    assert ingest in entries("w2")
    begin(content, w2, "rz", b"abc")
    content.abort(w2, "rz")
    assert ingest not in entries("w2")


@clause("LEA-025")
def test_a_commit_without_the_header_leaves_the_key_on_the_lease(unleased, snapshotter, snapshotter_id, under, entries):
    """Rejects: a commit that finds out by itself which lease had the key."""
    snapshotter.prepare(under("s1"), "k2")
    # Held by its own label: without the header it is on no lease.
    snapshotter.commit(unleased, "n2", "k2", ROOTED)
    assert entries("s1") == [Resource("k2", f"snapshots/{snapshotter_id}")]

    snapshotter.prepare(unleased.with_lease("s1"), "k3")
    snapshotter.remove(unleased, "k3")
    assert Resource("k3", f"snapshots/{snapshotter_id}") in entries("s1")


@clause("LEA-026")
def test_a_commit_without_the_header_loses_the_protection(own):
    """Rejects: a lease that is remembered by the ingest, and one that is lost though the commit carries it."""
    instance = own(config=scheduler(pause_threshold=NEVER))
    settle(instance)
    content, leases = instance.content, instance.leases
    leases.create(PLAIN, "w2")
    held, lost, kept = PLAIN.with_lease("w2"), fresh(), fresh()
    for ref, data, ctx in (("ry", lost, PLAIN), ("rk", kept, held)):
        begin(content, held, ref, data)
        # Opened again: a stream has its headers from its beginning to its end.
        writer = content.writer(ctx, ref)
        writer.commit(ctx, len(data))

    assert has(content, PLAIN, digest_of(lost))
    assert leases.list_resources(PLAIN, "w2") == [Resource(digest_of(kept), "content"), Resource("ry", "ingests")]
    settle(instance)
    assert not has(content, PLAIN, digest_of(lost))
    assert has(content, PLAIN, digest_of(kept))


@clause("LEA-027", needs={"wire"})
def test_of_several_lease_headers_the_first_counts(wire, snapshotter_id, under, entries):
    """Rejects: the last header, or all of them."""
    ctx = under("first")
    under("second")
    request = snapshots_pb.PrepareSnapshotRequest(snapshotter=snapshotter_id, key="two")

    answer = wire.call(
        f"{SNAPSHOTS}/Prepare",
        request,
        namespace=ctx.namespace,
        headers={"containerd-lease": "first"},
        lease="second",
    )

    assert answer.ok, answer.message
    assert entries("first") == [Resource("two", f"snapshots/{snapshotter_id}")]
    assert entries("second") == []


PAST = {
    "an hour ago": hours(-1),
    "zone": "2001-01-01T00:00:00+09:00",
    "fraction": "2001-01-01T00:00:00.5Z",
    "epoch": "1970-01-01T00:00:00Z",
    # As texts these two stand on the wrong side of the present time.
    "later by the text": f"{hours(8)[:-1]}+10:00",
}

AHEAD = {
    "in an hour": hours(1),
    "zone": f"{hours(-8)[:-1]}-10:00",
    "fraction": hours(1).replace("Z", ".25Z"),
}


@clause("LEA-028")
def test_expired_leases_go_with_what_they_held(own):
    """Rejects: times that are compared as texts, or read without their zone or fraction."""
    # With minutes between collections: an expired lease may be gone before anything is put on it.
    instance = own(config=scheduler(pause_threshold=NEVER))
    settle(instance)
    held = {}
    for id, text in PAST.items():
        instance.leases.create(PLAIN, id, {EXPIRE: text})
        held[id] = store(instance.content, PLAIN.with_lease(id), fresh())
    assert set(by_id(instance.leases, PLAIN)) == set(PAST)

    settle(instance)

    assert set(by_id(instance.leases, PLAIN)) == set()
    assert surviving(instance.content, PLAIN, held) == set()


@clause("LEA-028")
@pytest.mark.parametrize("text", AHEAD.values(), ids=AHEAD)
def test_a_lease_that_has_not_expired_stays(unleased, leases, content, collect, under, text):
    """Rejects: any expiry taken for one that has passed."""
    digest = store(content, under("ahead", {EXPIRE: text}), fresh())

    collect(unleased)

    assert by_id(leases, unleased)["ahead"].labels == {EXPIRE: text}
    assert has(content, unleased, digest)


@clause("LEA-028")
def test_an_expired_lease_is_taken_by_a_collection_and_not_by_a_timer(own):
    """Rejects: a lease that is gone, or of no use, at the moment of its expiry."""
    instance = own(config=scheduler(pause_threshold=NEVER))
    settle(instance)
    content, leases = instance.content, instance.leases
    moment, digest = datetime.now(UTC), ""
    for ahead in (0.5, 3, 20):
        moment = datetime.now(UTC) + timedelta(seconds=ahead)
        leases.create(PLAIN, "soon", {EXPIRE: f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"})
        digest = store(content, PLAIN.with_lease("soon"), fresh())
        settle(instance)
        if datetime.now(UTC) < moment:
            break
        # On a busy machine it expired before the collection: then it gets longer.
        for lease in leases.list(PLAIN):
            leases.delete(PLAIN, lease.id)
    assert has(content, PLAIN, digest)

    left = (moment - datetime.now(UTC)).total_seconds()
    assert stays(lambda: has(content, PLAIN, digest) and list(by_id(leases, PLAIN)) == ["soon"], left + 0.15)
    settle(instance)
    assert not has(content, PLAIN, digest)
    assert leases.list(PLAIN) == []


@clause("LEA-030")
def test_an_expired_lease_can_be_used_until_it_is_collected(own):
    """Rejects: NotFound for an expired lease, which clients with skewed clocks do not expect."""
    instance = own(config=scheduler(pause_threshold=NEVER))
    settle(instance)
    leases, snapshotter = instance.leases, instance.snapshotter(instance.snapshotters[0])
    digest = store(instance.content, PLAIN, fresh(), ROOTED)
    leases.create(PLAIN, "exp", {EXPIRE: hours(-1)})

    snapshotter.prepare(PLAIN.with_lease("exp"), "ke")
    leases.add_resource(PLAIN, "exp", Resource(digest, "content"))
    assert list(by_id(leases, PLAIN)) == ["exp"]

    settle(instance)
    with pytest.raises(NotFound):
        leases.list_resources(PLAIN, "exp")
    assert not exists(snapshotter, PLAIN, "ke")


@clause("LEA-031")
def test_a_lease_without_expiry_has_none(unleased, leases, content, collect, under):
    """Rejects: a default expiry."""
    digest = store(content, under("keep"), fresh())
    assert by_id(leases, unleased)["keep"].labels == {}

    collect(unleased)
    collect(unleased)

    assert by_id(leases, unleased)["keep"].labels == {}
    assert has(content, unleased, digest)


@clause("LEA-031", needs={"restart"})
def test_a_lease_without_expiry_holds_across_restarts(own):
    """Rejects: a lease that ends with the daemon that made it."""
    instance = own()
    instance.leases.create(PLAIN, "keep")
    data = fresh()
    digest = store(instance.content, PLAIN.with_lease("keep"), data)
    settle(instance)

    instance.restart()
    settle(instance)

    assert list(by_id(instance.leases, PLAIN)) == ["keep"]
    assert read(instance.content, PLAIN, digest) == data


FLATNESS = {"one": {FLAT: "1"}, "false": {FLAT: "false"}, "empty": {FLAT: ""}, "absent": {}}


@clause("LEA-032")
@pytest.mark.parametrize("labels", FLATNESS.values(), ids=FLATNESS)
def test_a_flat_lease_holds_its_entries_and_their_parents_alone(
    unleased, leases, content, snapshotter, snapshotter_id, drop, ctx, labels
):
    """Rejects: a label read as a boolean, parents that are dropped, references that are followed."""
    blobs = {"b": store(content, ctx, fresh()), "c": store(content, ctx, fresh()), "d": store(content, ctx, fresh())}
    blobs["a"] = store(content, ctx, fresh(), {f"{REF_CONTENT}.0": blobs["b"]})
    committed(snapshotter, ctx, "fbase", labels={f"{REF_CONTENT}.0": blobs["d"]})
    snapshotter.prepare(ctx, "f2", "fbase", {f"{REF_CONTENT}.0": blobs["c"]})
    leases.create(unleased, "maybe flat", labels)
    leases.add_resource(unleased, "maybe flat", Resource(blobs["a"], "content"))
    leases.add_resource(unleased, "maybe flat", Resource("f2", f"snapshots/{snapshotter_id}"))

    drop()

    flat = bool(labels.get(FLAT))
    assert surviving(content, unleased, blobs) == ({"a"} if flat else {"a", "b", "c", "d"})
    assert exists(snapshotter, unleased, "f2")
    assert exists(snapshotter, unleased, "fbase"), "parents are held by flat leases too"


@clause("LEA-032")
@pytest.mark.parametrize("first", ["flat", "ordinary"])
def test_an_ordinary_lease_beside_a_flat_one_restores_the_protection(ctx, unleased, leases, content, drop, first):
    """Rejects: a resource that is done with once the flat lease was seen."""
    target = store(content, ctx, fresh())
    held = store(content, ctx, fresh(), {f"{REF_CONTENT}.0": target})
    # Leases are looked at in the order of their ids.
    for id, labels in (("a", {FLAT: "1"}), ("z", {})) if first == "flat" else (("a", {}), ("z", {FLAT: "1"})):
        leases.create(unleased, id, labels)
        leases.add_resource(unleased, id, Resource(held, "content"))

    drop()

    assert surviving(content, unleased, {"held": held, "target": target}) == {"held", "target"}


@clause("LEA-033")
def test_a_resource_stays_while_any_lease_holds_it(unleased, leases, content, under):
    """Rejects: a resource that goes with the first of its leases."""
    digest = store(content, under("p"), fresh())
    under("q")
    leases.add_resource(unleased, "q", Resource(digest, "content"))

    leases.delete(unleased, "p", sync=True)
    assert has(content, unleased, digest)
    leases.delete(unleased, "q", sync=True)
    assert not has(content, unleased, digest)


@clause("LEA-033")
def test_an_image_holds_what_a_lease_lets_go(unleased, leases, content, images, under):
    """Rejects: a resource that goes with its lease whatever else holds it."""
    digest = store(content, under("p"), fresh())
    images.create(unleased, image("conformance.invalid/i", digest))

    leases.delete(unleased, "p", sync=True)

    assert has(content, unleased, digest)


@clause("LEA-034")
def test_a_leased_snapshot_holds_its_parents(ctx, unleased, leases, snapshotter, snapshotter_id, drop):
    """Rejects: the named snapshot alone, which leaves a chain with a hole."""
    committed(snapshotter, ctx, "lpa")
    committed(snapshotter, ctx, "lpb", "lpa")
    snapshotter.prepare(ctx, "lp2", "lpb")
    leases.create(unleased, "lps")
    leases.add_resource(unleased, "lps", Resource("lp2", f"snapshots/{snapshotter_id}"))

    drop()
    assert [exists(snapshotter, unleased, key) for key in ("lpa", "lpb", "lp2")] == [True] * 3
    leases.delete(unleased, "lps", sync=True)
    assert [exists(snapshotter, unleased, key) for key in ("lpa", "lpb", "lp2")] == [False] * 3


def refs(content, ctx):
    """The refs of all ingests of the namespace."""
    return {status.ref for status in content.list_statuses(ctx)}


@clause("LEA-035")
def test_a_leased_ingest_lives_as_long_as_its_lease(unleased, leases, content, collect, under):
    """Rejects: ingests that are aborted by every collection, or kept for ever."""
    begin(content, unleased, "ia", b"a")
    begin(content, under("w"), "ib", b"b")
    for _ in range(3):
        collect(unleased)
        assert refs(content, unleased) == {"ia", "ib"}

    leases.delete(unleased, "w", sync=True)
    assert refs(content, unleased) == {"ia"}


@clause("LEA-035")
def test_an_ingest_can_be_put_on_another_lease(unleased, leases, content, under):
    """Rejects: an entry for an ingest that holds nothing."""
    begin(content, under("x"), "ic", b"c")
    under("il")
    leases.add_resource(unleased, "il", Resource("ic", "ingests"))

    leases.delete(unleased, "x", sync=True)
    assert refs(content, unleased) == {"ic"}
    leases.delete(unleased, "il", sync=True)
    assert refs(content, unleased) == set()


@clause("LEA-035", needs={"config", "disk"})
def test_the_data_of_an_ingest_go_with_its_lease(own):
    """Rejects: a record that goes and data that stay."""
    instance = own()
    content, leases = instance.content, instance.leases
    folder = instance.root / "io.containerd.content.v1.content" / "ingest"
    # Without a blob directory 1.6 cannot clean up (GC-028).
    store(content, PLAIN, fresh(), ROOTED)
    begin(content, PLAIN, "ia", b"a")
    leases.create(PLAIN, "w")
    begin(content, PLAIN.with_lease("w"), "ib", b"b")
    assert len(list(folder.iterdir())) == 2

    leases.delete(PLAIN, "w", sync=True)

    assert len(list(folder.iterdir())) == 1


@clause("LEA-036")
def test_a_leased_image_stays_with_its_content(ctx, unleased, leases, content, images, drop):
    """Rejects: a record that is kept while its content is collected."""
    name = "conformance.invalid/expired"
    leases.create(unleased, "li")
    try:
        leases.add_resource(unleased, "li", Resource(name, "images"))
    except Unimplemented:
        pytest.skip("images cannot be leased before 2.x")
    blobs = {"next": store(content, ctx, fresh())}
    blobs["target"] = store(content, ctx, fresh(), {f"{REF_CONTENT}.0": blobs["next"]})
    images.create(ctx, image(name, blobs["target"], {EXPIRE: hours(-1)}))

    drop()
    assert [found.name for found in images.list(unleased)] == [name]
    assert surviving(content, unleased, blobs) == {"target", "next"}
    leases.delete(unleased, "li", sync=True)
    assert images.list(unleased) == []
    assert surviving(content, unleased, blobs) == set()


@clause("LEA-042")
@pytest.mark.parametrize("label", [f"{REF_CONTENT}.0", REF_CONTENT])
def test_labels_of_a_lease_are_no_references(ctx, unleased, leases, content, drop, label):
    """Rejects: references that are read off any record's labels."""
    digest = store(content, ctx, fresh())
    leases.create(unleased, "holder", {label: digest, ROOT: "1"})

    drop()

    assert not has(content, unleased, digest)
    assert "holder" in by_id(leases, unleased)
